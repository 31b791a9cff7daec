// The filters of templates, as Jinja2's.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/text/jinja/operations.h"

namespace inoculum::jinja {
namespace {

Value folded(Operations& ops, const Value& v) {
  return is_text(v) ? ops.text(mapped(decode(v.object->text), lower)) : v;
}

// Each item of `v` that `keep` accepts, as map, select and their like give them: when they are
// asked for.
Value lazily(Operations& ops, const Value& v, std::function<bool(Value&)> keep) {
  if (!ops.truth(v)) return ops.generator(v, [](Value&) { return false; });
  return ops.generator(v, [next = ops.iterate(v), keep = std::move(keep)](Value& out) {
    while (next(out))
      if (keep(out)) return true;
    return false;
  });
}

Value do_map(Operations& ops, const Value& v, const Args& args) {
  if (args.list.empty()) {
    const auto a = Operations::bind("map", args, {"attribute", "default"}, 1);
    return lazily(ops, v, [&ops, a](Value& item) {
      item = ops.follow(item, a[0], a[1]);
      return true;
    });
  }
  const std::string name = Operations::need_text(args.list[0], "map");
  const Args rest{{args.list.begin() + 1, args.list.end()}, args.named};
  return lazily(ops, v, [&ops, name, rest](Value& item) {
    item = ops.filtered(name, item, rest);
    return true;
  });
}

Value do_select(Operations& ops, const Value& v, const Args& args, bool wanted, bool by_attribute) {
  const size_t skip = by_attribute ? 1 : 0;
  if (args.list.size() < skip)
    throw Fault{"selectattr and rejectattr need the name of an attribute"};
  const Value path = by_attribute ? args.list[0] : kNone;
  if (args.list.size() == skip)
    return lazily(ops, v, [&ops, path, wanted](Value& item) {
      return ops.truth(ops.follow(item, path)) == wanted;
    });
  const std::string name = Operations::need_text(args.list[skip], "select");
  const Args rest{{args.list.begin() + static_cast<std::ptrdiff_t>(skip) + 1, args.list.end()},
                  args.named};
  return lazily(ops, v, [&ops, path, name, rest, wanted](Value& item) {
    return ops.tested(name, ops.follow(item, path), rest) == wanted;
  });
}

// Stable, by keys, as Python's sorted.
std::vector<Value> sorted_by(Operations& ops, std::vector<Value> items, bool descending,
                             const std::function<Value(const Value&)>& key) {
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : items) keyed.emplace_back(key(item), std::move(item));
  if (descending) std::reverse(keyed.begin(), keyed.end());
  std::stable_sort(keyed.begin(), keyed.end(),
                   [&](const auto& a, const auto& b) { return ops.order(a.first, b.first) == -1; });
  if (descending) std::reverse(keyed.begin(), keyed.end());
  items.clear();
  for (auto& [k, item] : keyed) items.push_back(std::move(item));
  return items;
}

Value do_sort(Operations& ops, const Value& v, const Args& args) {
  const auto a = Operations::bind("sort", args, {"reverse", "case_sensitive", "attribute"});
  std::vector<Value> paths;
  if (!Operations::given(a[2]) || a[2].kind != Kind::string)
    paths.push_back(Operations::given(a[2]) ? a[2] : kNone);
  else
    for (size_t i = 0; i <= a[2].object->text.size();) {
      const size_t end = std::min(a[2].object->text.find(',', i), a[2].object->text.size());
      paths.push_back(ops.text(a[2].object->text.substr(i, end - i)));
      i = end + 1;
    }
  const bool exact = ops.flag(a[1]);
  return ops.sequence(
      Kind::list, sorted_by(ops, ops.all(v), ops.flag(a[0]), [&](const Value& item) {
        std::vector<Value> keys;
        for (const Value& path : paths)
          keys.push_back(exact ? ops.follow(item, path) : folded(ops, ops.follow(item, path)));
        return ops.sequence(Kind::list, std::move(keys));
      }));
}

Value do_dictsort(Operations& ops, const Value& v, const Args& args) {
  const auto a = Operations::bind("dictsort", args, {"case_sensitive", "by", "reverse"});
  need_defined(v);
  if (v.kind != Kind::dict) throw Fault{"dictsort needs a mapping, not " + type_name(v)};
  const std::string by = Operations::given(a[1]) ? Operations::need_text(a[1], "dictsort") : "key";
  if (by != "key" && by != "value") throw Fault{"dictsort sorts by \"key\" or \"value\""};
  return ops.sequence(Kind::list, sorted_by(ops, ops.view(v, Kind::items).object->items,
                                            ops.flag(a[2]), [&](const Value& pair) {
                                              const Value& key = pair.object->items[by == "value"];
                                              return ops.flag(a[0]) ? key : folded(ops, key);
                                            }));
}

Value do_unique(Operations& ops, const Value& v, const Args& args) {
  const auto a = Operations::bind("unique", args, {"case_sensitive", "attribute"});
  const auto seen = std::make_shared<std::vector<Value>>();
  const Value path = Operations::given(a[1]) ? a[1] : kNone;
  return ops.generator(
      v, [&ops, next = ops.iterate(v), seen, path, exact = ops.flag(a[0])](Value& out) {
        while (next(out)) {
          const Value key = exact ? ops.follow(out, path) : folded(ops, ops.follow(out, path));
          ops.need_hashable(key);
          if (std::any_of(seen->begin(), seen->end(),
                          [&](const Value& other) { return ops.equal(other, key); }))
            continue;
          seen->push_back(key);
          return true;
        }
        return false;
      });
}

Value do_tojson(Operations& ops, const Value& v, const Args& args) {
  const auto a =
      Operations::bind("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  Operations::JsonStyle style{.ascii = ops.flag(a[0]), .sorted = ops.flag(a[3])};
  if (Operations::given(a[1]) && a[1].kind != Kind::none) {
    style.indent = is_text(a[1])
                       ? a[1].object->text
                       : std::string(static_cast<size_t>(std::clamp<int64_t>(
                                         Operations::need_integer(a[1], "tojson"), 0, 1000)),
                                     ' ');
    style.comma = ",";
  }
  if (Operations::given(a[2]) && a[2].kind != Kind::none) {
    const auto both = ops.all(a[2]);
    if (both.size() != 2) throw Fault{"tojson needs two separators"};
    style.comma = Operations::need_text(both[0], "tojson");
    style.colon = Operations::need_text(both[1], "tojson");
  }
  std::string out;
  ops.write_json(v, style, "\n", out);
  return ops.text(std::move(out));
}

Value do_indent(Operations& ops, const Value& v, const Args& args) {
  const auto a = Operations::bind("indent", args, {"width", "first", "blank"});
  const std::string margin =
      !Operations::given(a[0]) ? "    "
      : is_text(a[0]) ? a[0].object->text
                      : std::string(static_cast<size_t>(std::clamp<int64_t>(
                                        Operations::need_integer(a[0], "indent"), 0, 1000)),
                                    ' ');
  const std::vector<Text> lines =
      split_lines(decode(Operations::need_text(v, "indent") + "\n"), false);
  std::string out = ops.flag(a[1]) ? margin : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) ops.grow(out, "\n");
    if (i > 0 && (ops.flag(a[2]) || !lines[i].empty())) ops.grow(out, margin);
    ops.grow(out, encode(lines[i]));
  }
  return ops.text(std::move(out));
}

// What Python's float() reads, and int() where `whole`; nothing if it is no number.
std::optional<Value> parsed(const std::string& bytes, bool whole) {
  const Text trimmed = stripped(decode(bytes), true, true);
  std::string s;
  for (size_t i = 0; i < trimmed.size(); ++i) {
    const char32_t c = trimmed[i];
    if (c >= 0x80) throw Fault{"numbers in other scripts are not supported"};
    if (c == '_' && i > 0 && i + 1 < trimmed.size() && is_digit(trimmed[i - 1]) &&
        is_digit(trimmed[i + 1]))
      continue;
    s += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  }
  const size_t sign = !s.empty() && (s[0] == '-' || s[0] == '+');
  const std::string digits = s.substr(sign);
  if (whole) {
    if (digits.empty() || !std::all_of(digits.begin(), digits.end(), [](char c) {
          return is_digit(static_cast<unsigned char>(c));
        }))
      return std::nullopt;
    Value value = number(int64_t{0});
    const char* begin = s.data() + (s[0] == '+');
    if (std::from_chars(begin, s.data() + s.size(), value.integer).ec != std::errc{})
      throw Fault{"an integer is too large"};
    return value;
  }
  const bool word = digits == "inf" || digits == "infinity" || digits == "nan";
  if (!word &&
      (digits.empty() || !(is_digit(static_cast<unsigned char>(digits[0])) || digits[0] == '.') ||
       digits.find_first_not_of("0123456789.e+-") != std::string::npos))
    return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(s.c_str(), &end);
  if (*end != '\0') return std::nullopt;
  return number(value);
}

Value do_int(Operations&, const Value& v, const Args& args) {
  const auto a = Operations::bind("int", args, {"default", "base"});
  if (Operations::given(a[1]) && !(is_integer(a[1]) && a[1].integer == 10))
    throw Fault{"int knows base 10 only"};
  need_defined(v);
  Value otherwise = Operations::given(a[0]) ? a[0] : number(int64_t{0});
  Value real = v;
  if (is_integer(v)) return number(v.integer);
  if (is_text(v)) {
    if (const auto whole = parsed(v.object->text, true)) return *whole;
    const auto value = parsed(v.object->text, false);
    if (!value || std::isinf(value->real)) return otherwise;
    real = *value;
  } else if (v.kind != Kind::real) {
    return otherwise;
  }
  if (std::isnan(real.real)) return otherwise;
  if (std::abs(real.real) >= 9.2e18) throw Fault{"an integer is too large"};
  return number(static_cast<int64_t>(real.real));
}

Value do_float(Operations&, const Value& v, const Args& args) {
  const auto a = Operations::bind("float", args, {"default"});
  need_defined(v);
  if (is_number(v)) return number(as_real(v));
  const auto value = is_text(v) ? parsed(v.object->text, false) : std::nullopt;
  return value ? *value : Operations::given(a[0]) ? a[0] : number(0.0);
}

Value do_round(Operations&, const Value& v, const Args& args) {
  const auto a = Operations::bind("round", args, {"precision", "method"});
  const int64_t precision = Operations::given(a[0]) ? Operations::need_integer(a[0], "round") : 0;
  const std::string method =
      Operations::given(a[1]) ? Operations::need_text(a[1], "round") : "common";
  need_defined(v);
  if (!is_number(v)) throw Fault{"round needs a number, not " + type_name(v)};
  if (precision < 0 || precision > 15) throw Fault{"round knows 0 to 15 digits"};
  if (method == "common") {
    if (is_integer(v)) return number(v.integer);
    char buffer[400];
    std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(precision), v.real);
    return number(std::strtod(buffer, nullptr));
  }
  if (method != "ceil" && method != "floor") throw Fault{"round knows common, ceil and floor"};
  const double scale = std::pow(10.0, static_cast<double>(precision)), scaled = as_real(v) * scale;
  if (!std::isfinite(scaled)) throw Fault{"this number cannot be rounded"};
  return number((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale + 0.0);
}

Value do_reverse(Operations& ops, const Value& v) {
  if (v.kind == Kind::string) {
    Text text = decode(v.object->text);
    std::reverse(text.begin(), text.end());
    return ops.text(text);
  }
  std::vector<Value> items = ops.all(v);
  std::reverse(items.begin(), items.end());
  const Value list = ops.sequence(Kind::list, std::move(items));
  return v.kind == Kind::generator ? list : ops.generator(list, ops.iterate(list));
}

Value do_join(Operations& ops, const Value& v, const Args& args) {
  const auto a = Operations::bind("join", args, {"d", "attribute"});
  std::vector<Value> items = ops.all(v);
  if (Operations::given(a[1]) && a[1].kind != Kind::none)
    for (Value& item : items) item = ops.follow(item, a[1]);
  return ops.joined(items, Operations::given(a[0]) ? a[0] : ops.text(std::string()));
}

Value do_last(Operations& ops, const Value& v) {
  if (v.kind == Kind::generator)
    throw Fault{"last cannot take a generator", "put |list in between"};
  const std::vector<Value> items = ops.all(v);
  return items.empty() ? undefined("the sequence was empty") : items.back();
}

Value do_first(Operations& ops, const Value& v) {
  Value item;
  return ops.iterate(v)(item) ? item : undefined("the sequence was empty");
}

Value do_title(Operations& ops, const Value& v) {
  Text text = decode(ops.str(v));
  bool starts = true;
  for (char32_t& c : text) {
    const bool parts = c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || is_space(c);
    c = starts ? upper(c) : lower(c);
    starts = parts;
  }
  return ops.text(text);
}

Value do_escape(Operations& ops, const Value& v) { return with_text(Kind::markup, ops.escaped(v)); }

Value do_capitalize(Operations& ops, const Value& v) {
  return ops.text(capitalized(decode(ops.str(v))));
}

Value do_length(Operations& ops, const Value& v) { return number(ops.length(v)); }

Value do_list(Operations& ops, const Value& v) { return ops.sequence(Kind::list, ops.all(v)); }

Value do_lower(Operations& ops, const Value& v) {
  return ops.text(mapped(decode(ops.str(v)), lower));
}

Value do_safe(Operations& ops, const Value& v) { return with_text(Kind::markup, ops.str(v)); }

Value do_string(Operations& ops, const Value& v) {
  return v.kind == Kind::markup ? v : ops.text(ops.str(v));
}

Value do_upper(Operations& ops, const Value& v) {
  return ops.text(mapped(decode(ops.str(v)), upper));
}

Value do_abs(Operations&, const Value& v) {
  need_defined(v);
  if (!is_number(v)) throw Fault{"abs needs a number, not " + type_name(v)};
  return v.kind == Kind::real ? number(std::abs(v.real))
         : v.integer < 0      ? Operations::arithmetic("-", number(int64_t{0}), v)
                              : number(v.integer);
}

Value do_items(Operations& ops, const Value& v) {
  if (v.kind != Kind::dict && v.kind != Kind::undefined)
    throw Fault{"items needs a mapping, not " + type_name(v)};
  const Value pairs =
      v.kind == Kind::dict ? ops.view(v, Kind::items) : ops.sequence(Kind::list, {});
  return ops.generator(pairs, ops.iterate(pairs));
}

}  // namespace

// A table: an entry for each filter that templates may name.
const std::unordered_map<std::string, Filter>& filters() {
  static const std::unordered_map<std::string, Filter> table = {
      {"abs", no_arguments("abs", do_abs)},
      {"capitalize", no_arguments("capitalize", do_capitalize)},
      {"default",
       [](Operations& ops, const Value& v, const Args& args) {
         const auto a = Operations::bind("default", args, {"default_value", "boolean"});
         return v.kind == Kind::undefined || (ops.flag(a[1]) && !ops.truth(v))
                    ? (Operations::given(a[0]) ? a[0] : ops.text(std::string()))
                    : v;
       }},
      {"dictsort", do_dictsort},
      {"escape", no_arguments("escape", do_escape)},
      {"first", no_arguments("first", do_first)},
      {"float", do_float},
      {"format",
       [](Operations& ops, const Value& v, const Args& args) {
         if (!args.list.empty() && !args.named.empty())
           throw Fault{"format takes arguments by position or by name, not both"};
         return ops.format(ops.str(v), args.named.empty()
                                           ? ops.sequence(Kind::tuple, args.list)
                                           : ops.sequence(Kind::dict, ops.dict_of(args)));
       }},
      {"indent", do_indent},
      {"int", do_int},
      {"items", no_arguments("items", do_items)},
      {"join", do_join},
      {"last", no_arguments("last", do_last)},
      {"length", no_arguments("length", do_length)},
      {"list", no_arguments("list", do_list)},
      {"lower", no_arguments("lower", do_lower)},
      {"map", do_map},
      {"reject", [](Operations& ops, const Value& v,
                    const Args& args) { return do_select(ops, v, args, false, false); }},
      {"rejectattr", [](Operations& ops, const Value& v,
                        const Args& args) { return do_select(ops, v, args, false, true); }},
      {"replace",
       [](Operations& ops, const Value& v, const Args& args) {
         const auto a = Operations::bind("replace", args, {"old", "new", "count"}, 2);
         const int64_t count = Operations::given(a[2]) && a[2].kind != Kind::none
                                   ? Operations::need_integer(a[2], "replace")
                                   : -1;
         return ops.text(replaced(ops, ops.str(v), ops.str(a[0]), ops.str(a[1]), count));
       }},
      {"reverse", no_arguments("reverse", do_reverse)},
      {"round", do_round},
      {"safe", no_arguments("safe", do_safe)},
      {"select", [](Operations& ops, const Value& v,
                    const Args& args) { return do_select(ops, v, args, true, false); }},
      {"selectattr", [](Operations& ops, const Value& v,
                        const Args& args) { return do_select(ops, v, args, true, true); }},
      {"sort", do_sort},
      {"string", no_arguments("string", do_string)},
      {"title", no_arguments("title", do_title)},
      {"tojson", do_tojson},
      {"trim",
       [](Operations& ops, const Value& v, const Args& args) {
         const auto a = Operations::bind("trim", args, {"chars"});
         if (!Operations::given(a[0]) || a[0].kind == Kind::none)
           return ops.text(stripped(decode(ops.str(v)), true, true));
         const Text chars = decode(Operations::need_text(a[0], "trim"));
         return ops.text(stripped(decode(ops.str(v)), true, true, &chars));
       }},
      {"unique", do_unique},
      {"upper", no_arguments("upper", do_upper)}};
  static const auto with_aliases = [] {
    auto all = table;
    all["count"] = all["length"];
    all["d"] = all["default"];
    all["e"] = all["escape"];
    return all;
  }();
  return with_aliases;
}

}  // namespace inoculum::jinja
