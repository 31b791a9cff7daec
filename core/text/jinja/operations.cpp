#include "core/text/jinja/operations.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/strings.h"

namespace inoculum::jinja {
namespace {

template <class Table>
[[noreturn]] void unknown(const std::string& kind, const std::string& name, const Table& table) {
  std::vector<std::string> names;
  for (const auto& entry : table) names.push_back(entry.first);
  std::sort(names.begin(), names.end());
  throw Fault{"the " + kind + " " + name + " is not supported in chat templates",
              did_you_mean(name, names)};
}

// So that integers are compared with floats as in Python.
long double exact(const Value& v) {
  return v.kind == Kind::real ? static_cast<long double>(v.real)
                              : static_cast<long double>(v.integer);
}

}  // namespace

Filter no_arguments(const char* name, Value (*apply)(Operations&, const Value&)) {
  return [name, apply](Operations& ops, const Value& v, const Args& args) {
    Operations::bind(name, args, {});
    return apply(ops, v);
  };
}

void Operations::charge(size_t steps) {
  steps_ += static_cast<int64_t>(steps);
  if (steps_ > kMaxSteps && limits_) throw Fault{"the template does not come to an end"};
}

void Operations::grow(std::string& out, std::string_view more) {
  charge(more.size() / 16);
  if (out.size() + more.size() > kMaxText && limits_)
    throw Fault{"the template writes more than " + std::to_string(kMaxText >> 20) + " MiB"};
  out += more;
}

Value Operations::text(std::string bytes) {
  charge(8 + bytes.size() / 16);
  if (bytes.size() > kMaxText && limits_)
    throw Fault{"a text is longer than " + std::to_string(kMaxText >> 20) + " MiB"};
  return with_text(Kind::string, std::move(bytes));
}

Value Operations::sequence(Kind kind, std::vector<Value> items) {
  charge(4 * items.size());
  Value value{kind, 0, 0, std::make_shared<Object>()};
  for (const Value& item : items)
    if (item.object) value.object->depth = std::max(value.object->depth, item.object->depth + 1);
  if (value.object->depth > kMaxNesting) throw Fault{"a value is nested too deeply"};
  value.object->items = std::move(items);
  return value;
}

Value Operations::generator(const Value& source, Iterator pull) {
  Value value = sequence(Kind::generator, {source});
  value.object->pull = std::move(pull);
  return value;
}

Value Operations::from_json(const Json& json) {
  std::vector<Value> items;
  switch (json.type()) {
    case Json::value_t::null: return kNone;
    case Json::value_t::boolean: return boolean(json.get<bool>());
    case Json::value_t::number_integer: return number(json.get<int64_t>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > INT64_MAX) throw Fault{"a number in the context is too large"};
      return number(json.get<int64_t>());
    case Json::value_t::number_float: return number(json.get<double>());
    case Json::value_t::string:
      decode(json.get_ref<const std::string&>());
      return text(json.get<std::string>());
    case Json::value_t::array:
      for (const Json& item : json) items.push_back(from_json(item));
      return sequence(Kind::list, std::move(items));
    case Json::value_t::object:
      for (const auto& [key, item] : json.items()) {
        items.push_back(text(key));
        items.push_back(from_json(item));
      }
      return sequence(Kind::dict, std::move(items));
    default: throw Fault{"the context holds a value that has no place in a template"};
  }
}

bool Operations::truth(const Value& v) const {
  switch (v.kind) {
    case Kind::undefined:
    case Kind::none: return false;
    case Kind::boolean:
    case Kind::integer: return v.integer != 0;
    case Kind::real: return v.real != 0;
    case Kind::string:
    case Kind::markup: return !v.object->text.empty();
    case Kind::list:
    case Kind::tuple:
    case Kind::range:
    case Kind::keys:
    case Kind::values:
    case Kind::items:
    case Kind::dict: return !v.object->items.empty();
    default: return true;
  }
}

bool Operations::equal(const Value& a, const Value& b) {
  charge(1);
  if (is_number(a) && is_number(b)) {
    if (is_integer(a) && is_integer(b)) return a.integer == b.integer;
    return exact(a) == exact(b);
  }
  if (is_text(a) && is_text(b)) return a.object->text == b.object->text;
  if (a.kind != b.kind) return false;
  if (a.kind == Kind::undefined || a.kind == Kind::none) return true;
  if (a.kind == Kind::keys || a.kind == Kind::items)
    throw Fault{"comparing " + type_name(a) + " is not supported", "put |list behind it"};
  if (a.kind == Kind::function || a.kind == Kind::method)
    throw Fault{"comparing functions is not supported"};
  if (a.kind == Kind::list || a.kind == Kind::tuple || a.kind == Kind::range)
    return std::equal(a.object->items.begin(), a.object->items.end(), b.object->items.begin(),
                      b.object->items.end(),
                      [&](const Value& x, const Value& y) { return same(x, y) || equal(x, y); });
  if (a.kind == Kind::dict) {
    if (a.object->items.size() != b.object->items.size()) return false;
    for (size_t i = 0; i < a.object->items.size(); i += 2) {
      const Value* other = find(*b.object, a.object->items[i]);
      if (!other ||
          !(same(a.object->items[i + 1], *other) || equal(a.object->items[i + 1], *other)))
        return false;
    }
    return true;
  }
  return a.kind == Kind::macro  ? a.object->macro == b.object->macro
         : a.kind == Kind::loop ? a.object->loop == b.object->loop
                                : same(a, b);
}

int Operations::order(const Value& a, const Value& b) {
  charge(1);
  const auto sign = [](const auto& x, const auto& y) {
    return x < y ? -1 : y < x ? 1 : x == y ? 0 : 2;
  };
  if (is_integer(a) && is_integer(b)) return sign(a.integer, b.integer);
  if (is_number(a) && is_number(b)) return sign(exact(a), exact(b));
  if (is_text(a) && is_text(b)) return sign(a.object->text, b.object->text);
  if (a.kind == b.kind && (a.kind == Kind::list || a.kind == Kind::tuple)) {
    const auto &x = a.object->items, &y = b.object->items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i)
      if (!same(x[i], y[i]) && !equal(x[i], y[i])) return order(x[i], y[i]);
    return sign(x.size(), y.size());
  }
  need_defined(a);
  need_defined(b);
  throw Fault{"'<' between " + type_name(a) + " and " + type_name(b) + " is not possible"};
}

bool Operations::contains(const Value& container, const Value& item) {
  if (is_text(container)) {
    if (!is_text(item)) throw Fault{"'in' on a text needs a text, not " + type_name(item)};
    charge(container.object->text.size() / 16);
    return container.object->text.find(item.object->text) != std::string::npos;
  }
  if (container.kind == Kind::dict || container.kind == Kind::keys) need_hashable(item);
  if (container.kind == Kind::dict) return find(*container.object, item) != nullptr;
  const Iterator next = iterate(container);
  for (Value v; next(v);)
    if (same(v, item) || equal(v, item)) return true;
  return false;
}

void Operations::need_hashable(const Value& v) {
  if (v.kind == Kind::list || v.kind == Kind::dict || v.kind == Kind::keys || v.kind == Kind::items)
    throw Fault{"a " + type_name(v) + " cannot be a key"};
  if (v.kind == Kind::tuple)
    for (const Value& item : v.object->items) need_hashable(item);
}

const Value* Operations::find(const Object& pairs, const Value& key) {
  for (size_t i = 0; i < pairs.items.size(); i += 2)
    if (equal(pairs.items[i], key)) return &pairs.items[i + 1];
  return nullptr;
}

void Operations::put(std::vector<Value>& pairs, const Value& key, Value value) {
  need_hashable(key);
  for (size_t i = 0; i < pairs.size(); i += 2)
    if (equal(pairs[i], key)) {
      pairs[i + 1] = std::move(value);
      return;
    }
  pairs.push_back(key);
  pairs.push_back(std::move(value));
}

Iterator Operations::iterate(const Value& v) {
  if (is_text(v))
    return [this, text = decode(v.object->text), i = size_t{0}](Value& out) mutable {
      charge(8);
      if (i == text.size()) return false;
      out = with_text(Kind::string, encode({&text[i++], 1}));
      return true;
    };
  if (is_items(v) || v.kind == Kind::dict)
    return [this, object = v.object, i = size_t{0},
            step = v.kind == Kind::dict ? size_t{2} : size_t{1}](Value& out) mutable {
      charge(1);
      if (i >= object->items.size()) return false;
      out = object->items[i];
      i += step;
      return true;
    };
  if (v.kind == Kind::generator)
    return [object = v.object](Value& out) { return object->pull(out); };
  if (v.kind == Kind::undefined) return [](Value&) { return false; };
  throw Fault{"a " + type_name(v) + " cannot be iterated over"};
}

std::vector<Value> Operations::all(const Value& v) {
  std::vector<Value> items;
  const Iterator next = iterate(v);
  for (Value item; next(item);) {
    charge(4);
    items.push_back(item);
  }
  return items;
}

int64_t Operations::length(const Value& v) {
  if (is_text(v)) return static_cast<int64_t>(code_points(v.object->text));
  if (is_items(v)) return static_cast<int64_t>(v.object->items.size());
  if (v.kind == Kind::dict) return static_cast<int64_t>(v.object->items.size() / 2);
  if (v.kind == Kind::undefined) return 0;
  throw Fault{"a " + type_name(v) + " has no length",
              v.kind == Kind::generator ? "put |list in between" : ""};
}

std::vector<Value> Operations::bind(const char* what, const Args& args,
                                    std::initializer_list<const char*> names, size_t required) {
  std::vector<Value> bound(names.size(), Value{Kind::absent, 0, 0, nullptr});
  if (args.list.size() > names.size())
    throw Fault{std::string(what) + " takes at most " + std::to_string(names.size()) +
                " arguments"};
  std::copy(args.list.begin(), args.list.end(), bound.begin());
  for (const auto& [name, value] : args.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) throw Fault{std::string(what) + " has no argument " + name};
    Value& slot = bound[static_cast<size_t>(found - names.begin())];
    if (slot.kind != Kind::absent) throw Fault{std::string(what) + " is given " + name + " twice"};
    slot = value;
  }
  for (size_t i = 0; i < required; ++i)
    if (bound[i].kind == Kind::absent)
      throw Fault{std::string(what) + " needs " + *(names.begin() + i)};
  return bound;
}

const std::string& Operations::need_text(const Value& v, const char* what) {
  need_defined(v);
  if (v.kind != Kind::string) throw Fault{std::string(what) + " needs a text, not " + type_name(v)};
  return v.object->text;
}

int64_t Operations::need_integer(const Value& v, const char* what) {
  need_defined(v);
  if (!is_integer(v)) throw Fault{std::string(what) + " needs an integer, not " + type_name(v)};
  return v.integer;
}

Value Operations::attribute(const Value& v, const std::string& name) {
  need_defined(v);
  if (v.kind == Kind::space) {
    const Value* found = find(*v.object, with_text(Kind::string, name));
    return found ? *found : missing(v, name);
  }
  if (v.kind == Kind::loop) return loop_attribute(v, name);
  if (v.kind == Kind::macro || v.kind == Kind::function || v.kind == Kind::method)
    throw Fault{"attributes of a " + type_name(v) + " are not supported"};
  if (name.starts_with("__") || python_has(v, name, true))
    return undefined("access to the attribute '" + name + "' of a " + type_name(v) + " is unsafe");
  if (python_has(v, name, false)) {
    if (!is_text(v) && v.kind != Kind::dict && v.kind != Kind::list && v.kind != Kind::tuple)
      throw Fault{"the attribute " + name + " of a " + type_name(v) +
                  " is not supported in chat templates"};
    Value method = with_text(Kind::method, name);
    method.object->items = {v};
    method.object->depth = (v.object ? v.object->depth : 0) + 1;
    if (method.object->depth > kMaxNesting) throw Fault{"a value is nested too deeply"};
    return method;
  }
  if (v.kind == Kind::dict)
    if (const Value* found = find(*v.object, with_text(Kind::string, name))) return *found;
  return missing(v, name);
}

Value Operations::missing(const Value& v, const std::string& name) {
  return undefined("a " + type_name(v) + " has no '" + name + "'");
}

Value Operations::item(const Value& v, const Value& key) {
  need_defined(v);
  if (v.kind == Kind::dict && key.kind != Kind::list && key.kind != Kind::dict) {
    if (const Value* found = find(*v.object, key)) return *found;
  } else if ((v.kind == Kind::list || v.kind == Kind::tuple || v.kind == Kind::range ||
              is_text(v)) &&
             is_integer(key)) {
    const int64_t size = length(v), i = key.integer < 0 ? key.integer + size : key.integer;
    if (i < 0 || i >= size) return missing(v, std::to_string(key.integer));
    if (!is_text(v)) return v.object->items[static_cast<size_t>(i)];
    return text(Text(1, decode(v.object->text)[static_cast<size_t>(i)]));
  }
  return key.kind == Kind::string
             ? attribute(v, key.object->text)
             : missing(v, is_text(key) || is_number(key) ? str(key) : type_name(key));
}

Value Operations::slice(const Value& v, const Value* parts) {
  need_defined(v);
  if (!is_text(v) && v.kind != Kind::list && v.kind != Kind::tuple)
    throw Fault{"a slice of a " + type_name(v) + " is not supported"};
  const Text chars = is_text(v) ? decode(v.object->text) : Text();
  const int64_t size = is_text(v) ? static_cast<int64_t>(chars.size()) : length(v);
  const auto number_of = [&](const Value& part, int64_t otherwise) {
    return part.kind == Kind::none ? otherwise : need_integer(part, "a slice");
  };
  const int64_t step = std::clamp<int64_t>(number_of(parts[2], 1), -INT32_MAX, INT32_MAX);
  if (step == 0) throw Fault{"a slice cannot have the step 0"};
  const auto bound = [&](const Value& part, int64_t otherwise) {
    int64_t i = number_of(part, otherwise);
    if (part.kind == Kind::none) return i;
    if (i < 0) i = i < -size ? -1 : i + size;
    return step < 0 ? std::clamp<int64_t>(i, -1, size - 1) : std::clamp<int64_t>(i, 0, size);
  };
  const int64_t begin = bound(parts[0], step < 0 ? size - 1 : 0),
                end = bound(parts[1], step < 0 ? -1 : size);
  Text picked;
  std::vector<Value> items;
  for (int64_t i = begin; step < 0 ? i > end : i < end; i += step) {
    if (is_text(v)) picked += chars[static_cast<size_t>(i)];
    else items.push_back(v.object->items[static_cast<size_t>(i)]);
  }
  return is_text(v) ? text(picked) : sequence(v.kind, std::move(items));
}

Value Operations::loop_attribute(const Value& v, const std::string& name) {
  Loop& loop = *v.object->loop;
  if (loop.over) throw Fault{"loop is used after its end"};
  if (name == "index") return number(loop.index0 + 1);
  if (name == "index0") return number(loop.index0);
  if (name == "first") return boolean(loop.index0 == 0);
  if (name == "last") return boolean(!loop.peek());
  if (name == "length") return number(loop.length());
  if (name == "revindex") return number(loop.length() - loop.index0);
  if (name == "revindex0") return number(loop.length() - loop.index0 - 1);
  if (name == "depth") return number(int64_t{1});
  if (name == "depth0") return number(int64_t{0});
  if (name == "previtem")
    return loop.index0 > 0 ? loop.before : undefined("there is no previous item");
  if (name == "nextitem")
    return loop.peek() ? loop.ahead.front() : undefined("there is no next item");
  if (name != "cycle" && name != "changed") throw Fault{"loop." + name + " is not supported"};
  Value method = with_text(Kind::method, name);
  method.object->items = {v};
  return method;
}

Value Operations::follow(Value v, const Value& path, const Value& otherwise) {
  if (path.kind == Kind::none) return v;
  if (path.kind != Kind::string) return item(v, path);
  const std::string& names = path.object->text;
  for (size_t i = 0; i <= names.size();) {
    const size_t end = std::min(names.find('.', i), names.size());
    const std::string name = names.substr(i, end - i);
    const bool is_index = !name.empty() && name.size() < 18 &&
                          std::all_of(
                              name.begin(), name.end(),
                              [](char c) { return is_digit(static_cast<unsigned char>(c)); });
    v = item(v, is_index ? number(std::int64_t{std::stoll(name)}) : text(name));
    if (v.kind == Kind::undefined && given(otherwise) && otherwise.kind != Kind::none)
      v = otherwise;
    i = end + 1;
  }
  return v;
}

Value Operations::binary(const std::string& op, const Value& a, const Value& b) {
  if (op == "%" && a.kind == Kind::string) return format(a.object->text, b);
  need_defined(a);
  need_defined(b);
  if (is_number(a) && is_number(b)) return arithmetic(op, a, b);
  if (op == "+" && a.kind == Kind::string && b.kind == Kind::string) {
    std::string joined = a.object->text;
    grow(joined, b.object->text);
    return text(std::move(joined));
  }
  if (op == "+" && a.kind == b.kind && (a.kind == Kind::list || a.kind == Kind::tuple)) {
    std::vector<Value> items = a.object->items;
    items.insert(items.end(), b.object->items.begin(), b.object->items.end());
    return sequence(a.kind, std::move(items));
  }
  const auto repeats = [](const Value& v) {
    return v.kind == Kind::string || v.kind == Kind::list || v.kind == Kind::tuple;
  };
  if (op == "*" && ((repeats(a) && is_integer(b)) || (is_integer(a) && repeats(b)))) {
    const Value& what = repeats(a) ? a : b;
    const auto times =
        static_cast<size_t>(std::max<int64_t>(0, repeats(a) ? b.integer : a.integer));
    const size_t size =
        what.kind == Kind::string ? what.object->text.size() : what.object->items.size();
    if (size > 0 && times > kMaxText / size) throw Fault{"a repeated value is too long"};
    charge(what.kind == Kind::string ? size * times / 16 : 4 * size * times);
    std::string bytes;
    std::vector<Value> items;
    for (size_t i = 0; i < times && size > 0; ++i) {
      if (what.kind == Kind::string) bytes += what.object->text;
      else items.insert(items.end(), what.object->items.begin(), what.object->items.end());
    }
    return what.kind == Kind::string ? text(std::move(bytes))
                                     : sequence(what.kind, std::move(items));
  }
  throw Fault{"'" + op + "' between " + type_name(a) + " and " + type_name(b) + " is not possible"};
}

Value Operations::arithmetic(const std::string& op, const Value& a, const Value& b) {
  const bool exact = is_integer(a) && is_integer(b);
  const double x = as_real(a), y = as_real(b);
  const bool divides = op == "/" || op == "//" || op == "%";
  if (divides && y == 0) throw Fault{"division by zero"};
  int64_t out = 0;
  const auto whole = [&out](bool overflow) {
    if (overflow) throw Fault{"an integer is too large"};
    return number(out);
  };
  if (op == "+")
    return exact ? whole(__builtin_add_overflow(a.integer, b.integer, &out)) : number(x + y);
  if (op == "-")
    return exact ? whole(__builtin_sub_overflow(a.integer, b.integer, &out)) : number(x - y);
  if (op == "*")
    return exact ? whole(__builtin_mul_overflow(a.integer, b.integer, &out)) : number(x * y);
  if (op == "/") return number(x / y);
  if (op == "**") {
    if (exact && b.integer >= 0) {
      bool overflow = false;
      int64_t base = a.integer;
      out = 1;
      for (int64_t e = b.integer; e > 0 && !overflow; e >>= 1) {
        if (e & 1) overflow = __builtin_mul_overflow(out, base, &out);
        if (e > 1) overflow |= __builtin_mul_overflow(base, base, &base);
      }
      return whole(overflow);
    }
    if (x == 0 && y < 0) throw Fault{"zero to a negative power"};
    const double power = std::pow(x, y);
    if (std::isfinite(x) && std::isfinite(y) && !std::isfinite(power))
      throw Fault{"this power is not a real number within range"};
    return number(power);
  }
  if (exact) {
    if (b.integer == -1)
      return op == "%" ? number(int64_t{0})
                       : whole(__builtin_sub_overflow(int64_t{0}, a.integer, &out));
    const int64_t rest = a.integer % b.integer, adjust = rest != 0 && (rest < 0) != (b.integer < 0);
    return op == "%" ? number(rest + (adjust ? b.integer : 0))
                     : number(a.integer / b.integer - adjust);
  }
  double rest = std::fmod(x, y), quotient = (x - rest) / y;
  if (rest == 0) {
    rest = std::copysign(0.0, y);
  } else if ((y < 0) != (rest < 0)) {
    rest += y;
    quotient -= 1;
  }
  if (op == "%") return number(rest);
  if (quotient == 0) return number(std::copysign(0.0, x / y));
  const double floored = std::floor(quotient);
  return number(quotient - floored > 0.5 ? floored + 1 : floored);
}

Value Operations::filtered(const std::string& name, const Value& v, const Args& args) {
  const auto found = filters().find(name);
  if (found == filters().end()) unknown("filter", name, filters());
  const Restored<int> level(depth_, deeper());
  charge(1);
  return found->second(*this, v, args);
}

bool Operations::tested(const std::string& name, const Value& v, const Args& args) {
  const auto found = tests().find(name);
  if (found == tests().end()) unknown("test", name, tests());
  charge(1);
  return found->second(*this, v, args);
}

Value Operations::call_method(const Value& self, const std::string& name, const Args& args) {
  charge(1 + (is_text(self) ? self.object->text.size() / 16 : 0));
  if (is_text(self)) {
    const auto found = text_methods().find(name);
    if (self.kind == Kind::string && found != text_methods().end())
      return found->second(*this, self, args);
  } else if (self.kind == Kind::dict) {
    if (name == "get") {
      const auto a = bind("get", args, {"the key", "the default"}, 1);
      need_hashable(a[0]);
      const Value* value = find(*self.object, a[0]);
      return value ? *value : given(a[1]) ? a[1] : kNone;
    }
    if (name == "items" || name == "keys" || name == "values" || name == "copy") {
      bind(name.c_str(), args, {});
      return name == "copy" ? self
                            : view(self, name == "items"  ? Kind::items
                                         : name == "keys" ? Kind::keys
                                                          : Kind::values);
    }
  } else if (self.kind == Kind::list || self.kind == Kind::tuple) {
    if (name == "copy") {
      bind("copy", args, {});
      return self;
    }
    if (name == "count" || name == "index") {
      const auto a = bind(name.c_str(), args, {"the value"}, 1);
      int64_t count = 0;
      for (size_t i = 0; i < self.object->items.size(); ++i)
        if (same(self.object->items[i], a[0]) || equal(self.object->items[i], a[0])) {
          if (name == "index") return number(static_cast<int64_t>(i));
          ++count;
        }
      if (name == "index") throw Fault{"the value is not in the list"};
      return number(count);
    }
  } else if (self.kind == Kind::loop) {
    Loop& loop = *self.object->loop;
    if (loop.over) throw Fault{"loop is used after its end"};
    if (name == "cycle") {
      if (args.list.empty() || !args.named.empty()) throw Fault{"loop.cycle needs values"};
      return args.list[static_cast<size_t>(loop.index0) % args.list.size()];
    }
    const Value now = sequence(Kind::tuple, args.list);
    const bool changed = !loop.changed || !equal(*loop.changed, now);
    loop.changed = now;
    return boolean(changed);
  }
  throw Fault{"the method " + name + " of a " + type_name(self) +
              " is not supported in chat templates"};
}

Value Operations::view(const Value& dict, Kind kind) {
  std::vector<Value> items;
  for (size_t i = 0; i < dict.object->items.size(); i += 2) {
    if (kind == Kind::items)
      items.push_back(sequence(Kind::tuple, {dict.object->items[i], dict.object->items[i + 1]}));
    else items.push_back(dict.object->items[kind == Kind::keys ? i : i + 1]);
  }
  return sequence(kind, std::move(items));
}

std::vector<Value> Operations::dict_of(const Args& args) {
  std::vector<Value> pairs;
  if (args.list.size() > 1) throw Fault{"dict takes at most one argument without a name"};
  if (!args.list.empty() && args.list[0].kind == Kind::dict) {
    pairs = args.list[0].object->items;
  } else if (!args.list.empty()) {
    need_defined(args.list[0]);
    for (const Value& pair : all(args.list[0])) {
      const std::vector<Value> parts = all(pair);
      if (parts.size() != 2) throw Fault{"dict needs pairs"};
      put(pairs, parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : args.named) put(pairs, with_text(Kind::string, name), value);
  return pairs;
}

int Operations::deeper() const {
  if (depth_ >= kMaxEvalDepth) throw Fault{"the template calls itself too deeply"};
  return depth_ + 1;
}

bool Operations::compared(const std::string& op, const Value& a, const Value& b) {
  if (op == "==" || op == "!=") return equal(a, b) == (op == "==");
  if (op == "in" || op == "not in") return contains(b, a) == (op == "in");
  const int o = order(a, b);
  return o != 2 && (op == "<" ? o < 0 : op == "<=" ? o <= 0 : op == ">" ? o > 0 : o >= 0);
}

std::string replaced(Operations& ops, const std::string& bytes, const std::string& from,
                     const std::string& to, int64_t count) {
  std::string out;
  size_t at = 0;
  if (from.empty()) {  // before every character and at the end
    for (const char32_t c : decode(bytes)) {
      if (count != 0) ops.grow(out, to);
      if (count != 0) --count;
      ops.charge(1);
      append_code_point(out, c);
    }
    if (count != 0) ops.grow(out, to);
    return out;
  }
  for (size_t found; count != 0 && (found = bytes.find(from, at)) != std::string::npos; --count) {
    ops.charge(1);
    ops.grow(out, std::string_view(bytes).substr(at, found - at));
    ops.grow(out, to);
    at = found + from.size();
  }
  ops.grow(out, std::string_view(bytes).substr(at));
  return out;
}

}  // namespace inoculum::jinja
