// Python's methods of str, as far as templates call them.
#include <algorithm>

#include "core/text/jinja/operations.h"

namespace inoculum::jinja {
namespace {

// A character of \w that the is… methods judge; others outside ASCII are refused.
char32_t ascii(char32_t c) {
  if (c >= 0x80) throw Fault{"this method knows ASCII only"};
  return c;
}
bool is_letter(char32_t c) { return ascii(c | 32) >= 'a' && (c | 32) <= 'z'; }
bool is_ascii_digit(char32_t c) { return is_digit(ascii(c)); }
bool is_letter_or_digit(char32_t c) { return is_letter(c) || is_digit(c); }

template <bool (*property)(char32_t)>
bool every(const Text& text) {  // of Python's isdigit and its like: false for an empty text
  return !text.empty() && std::all_of(text.begin(), text.end(), property);
}

template <bool left, bool right>
Value do_strip(Operations& ops, const Value& v, const Args& args) {
  const auto a = Operations::bind("strip", args, {"the characters"});
  const bool chosen = Operations::given(a[0]) && a[0].kind != Kind::none;
  const Text chars = chosen ? decode(Operations::need_text(a[0], "strip")) : Text();
  return ops.text(stripped(decode(v.object->text), left, right, chosen ? &chars : nullptr));
}

template <bool from_right>
Value do_split(Operations& ops, const Value& v, const Args& args) {
  const auto a = Operations::bind("split", args, {"sep", "maxsplit"});
  int64_t limit = Operations::given(a[1]) ? Operations::need_integer(a[1], "split") : -1;
  Text text = decode(v.object->text), by = Operations::given(a[0]) && a[0].kind != Kind::none
                                               ? decode(Operations::need_text(a[0], "split"))
                                               : Text();
  const bool spaces = !Operations::given(a[0]) || a[0].kind == Kind::none;
  if (!spaces && by.empty()) throw Fault{"a text cannot be split at an empty one"};
  if (from_right) {
    std::reverse(text.begin(), text.end());
    std::reverse(by.begin(), by.end());
  }
  std::vector<Text> parts;
  if (!spaces) {
    size_t at = 0;
    for (size_t found; limit != 0 && (found = text.find(by, at)) != Text::npos; --limit) {
      parts.push_back(text.substr(at, found - at));
      at = found + by.size();
    }
    parts.push_back(text.substr(at));
  } else {
    for (size_t at = 0;; --limit) {
      while (at < text.size() && is_space(text[at])) ++at;
      if (at == text.size()) break;
      size_t end = at;
      while (end < text.size() && !is_space(text[end])) ++end;
      if (limit == 0) {
        parts.push_back(text.substr(at));
        break;
      }
      parts.push_back(text.substr(at, end - at));
      at = end;
    }
  }
  std::vector<Value> items;
  if (from_right) std::reverse(parts.begin(), parts.end());
  for (Text& part : parts) {
    if (from_right) std::reverse(part.begin(), part.end());
    items.push_back(ops.text(part));
  }
  return ops.sequence(Kind::list, std::move(items));
}

template <bool at_end>
Value do_affix(Operations&, const Value& v, const Args& args) {
  const auto a = Operations::bind("startswith or endswith", args, {"the text"}, 1);
  const auto has = [&](const Value& affix) {
    const std::string& text = Operations::need_text(affix, "startswith or endswith");
    return at_end ? v.object->text.ends_with(text) : v.object->text.starts_with(text);
  };
  if (a[0].kind != Kind::tuple) return boolean(has(a[0]));
  return boolean(std::any_of(a[0].object->items.begin(), a[0].object->items.end(), has));
}

template <bool last, bool must>
Value do_find(Operations&, const Value& v, const Args& args) {
  const auto a = Operations::bind("find", args, {"the text"}, 1);
  const std::string& sub = Operations::need_text(a[0], "find");
  const size_t at = last ? v.object->text.rfind(sub) : v.object->text.find(sub);
  if (must && at == std::string::npos) throw Fault{"the text does not hold " + repr_text(sub)};
  return number(at == std::string::npos ? int64_t{-1}
                                        : static_cast<int64_t>(code_points(
                                              std::string_view(v.object->text).substr(0, at))));
}

Filter text_property(bool (*property)(const Text&)) {
  return [property](Operations&, const Value& v, const Args& args) {
    return Operations::bind("the method", args, {}), boolean(property(decode(v.object->text)));
  };
}

// "{} {name}".format(…), without format specifications.
Value do_format(Operations& ops, const Value& v, const Args& args) {
  const std::string& pattern = v.object->text;
  std::string out;
  size_t used = 0;
  bool automatic = false, numbered = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if ((pattern[i] == '{' || pattern[i] == '}') && i + 1 < pattern.size() &&
        pattern[i + 1] == pattern[i]) {
      out += pattern[i++];
    } else if (pattern[i] == '}') {
      throw Fault{"a format has a single }"};
    } else if (pattern[i] != '{') {
      out += pattern[i];
    } else {
      const size_t end = pattern.find('}', i);
      if (end == std::string::npos) throw Fault{"a format has a { without its }"};
      const std::string field = pattern.substr(i + 1, end - i - 1);
      if (field.find_first_of("!:.[{") != std::string::npos)
        throw Fault{"the format field {" + field + "} is not supported", "use % formatting"};
      const bool digits = !field.empty() && field.size() < 10 &&
                          field.find_first_not_of("0123456789") == std::string::npos;
      (field.empty() ? automatic : numbered) |= field.empty() || digits;
      if (automatic && numbered) throw Fault{"a format mixes {} and {0}"};
      if (field.empty() || digits) {
        const size_t index = digits ? static_cast<size_t>(std::stoul(field)) : used++;
        if (index >= args.list.size()) throw Fault{"a format has fewer values than it needs"};
        ops.grow(out, ops.str(args.list[index]));
      } else {
        const auto found =
            std::find_if(args.named.begin(), args.named.end(),
                         [&](const auto& argument) { return argument.first == field; });
        if (found == args.named.end()) throw Fault{"a format lacks the value " + field};
        ops.grow(out, ops.str(found->second));
      }
      i = end;
    }
  }
  return ops.text(std::move(out));
}

Value do_title(Operations& ops, const Value& v) {
  Text text = decode(v.object->text);
  bool inside = false;
  for (char32_t& c : text) {
    c = inside ? lower(c) : upper(c);
    inside = is_cased(c);
  }
  return ops.text(text);
}

}  // namespace

// A table: an entry for each of Python's methods of str that templates call.
const std::unordered_map<std::string, Filter>& text_methods() {
  static const std::unordered_map<std::string, Filter> table = {
      {"capitalize", no_arguments("capitalize",
                                  [](Operations& ops, const Value& v) {
                                    return ops.text(capitalized(decode(v.object->text)));
                                  })},
      {"count",
       [](Operations&, const Value& v, const Args& args) {
         const auto a = Operations::bind("count", args, {"the text"}, 1);
         const std::string& sub = Operations::need_text(a[0], "count");
         if (sub.empty()) return number(static_cast<int64_t>(code_points(v.object->text)) + 1);
         int64_t count = 0;
         for (size_t at = 0; (at = v.object->text.find(sub, at)) != std::string::npos;
              at += sub.size())
           ++count;
         return number(count);
       }},
      {"endswith", do_affix<true>},
      {"find", do_find<false, false>},
      {"format", do_format},
      {"index", do_find<false, true>},
      {"isalnum", text_property(every<is_letter_or_digit>)},
      {"isalpha", text_property(every<is_letter>)},
      {"isdigit", text_property(every<is_ascii_digit>)},
      {"islower", text_property([](const Text& text) { return only_case(text, lower); })},
      {"isspace", text_property(every<is_space>)},
      {"isupper", text_property([](const Text& text) { return only_case(text, upper); })},
      {"join",
       [](Operations& ops, const Value& v, const Args& args) {
         const auto a = Operations::bind("join", args, {"the texts"}, 1);
         need_defined(a[0]);
         std::string out;
         bool first = true;
         const Iterator next = ops.iterate(a[0]);
         for (Value item; next(item); first = false) {
           if (!first) ops.grow(out, v.object->text);
           ops.grow(out, Operations::need_text(item, "join"));
         }
         return ops.text(std::move(out));
       }},
      {"lower", no_arguments("lower",
                             [](Operations& ops, const Value& v) {
                               return ops.text(mapped(decode(v.object->text), lower));
                             })},
      {"lstrip", do_strip<true, false>},
      {"removeprefix",
       [](Operations& ops, const Value& v, const Args& args) {
         const auto a = Operations::bind("removeprefix", args, {"the prefix"}, 1);
         const std::string& prefix = Operations::need_text(a[0], "removeprefix");
         return v.object->text.starts_with(prefix) ? ops.text(v.object->text.substr(prefix.size()))
                                                   : v;
       }},
      {"removesuffix",
       [](Operations& ops, const Value& v, const Args& args) {
         const auto a = Operations::bind("removesuffix", args, {"the suffix"}, 1);
         const std::string& suffix = Operations::need_text(a[0], "removesuffix");
         return v.object->text.ends_with(suffix)
                    ? ops.text(v.object->text.substr(0, v.object->text.size() - suffix.size()))
                    : v;
       }},
      {"replace",
       [](Operations& ops, const Value& v, const Args& args) {
         const auto a =
             Operations::bind("replace", args, {"the old text", "the new text", "the count"}, 2);
         return ops.text(
             replaced(ops, v.object->text, Operations::need_text(a[0], "replace"),
                      Operations::need_text(a[1], "replace"),
                      Operations::given(a[2]) ? Operations::need_integer(a[2], "replace") : -1));
       }},
      {"rfind", do_find<true, false>},
      {"rsplit", do_split<true>},
      {"rstrip", do_strip<false, true>},
      {"split", do_split<false>},
      {"splitlines",
       [](Operations& ops, const Value& v, const Args& args) {
         const auto a = Operations::bind("splitlines", args, {"keepends"});
         std::vector<Value> lines;
         for (const Text& line : split_lines(decode(v.object->text), ops.flag(a[0])))
           lines.push_back(ops.text(line));
         return ops.sequence(Kind::list, std::move(lines));
       }},
      {"startswith", do_affix<false>},
      {"strip", do_strip<true, true>},
      {"title", no_arguments("title", do_title)},
      {"upper", no_arguments("upper", [](Operations& ops, const Value& v) {
         return ops.text(mapped(decode(v.object->text), upper));
       })}};
  return table;
}

}  // namespace inoculum::jinja
