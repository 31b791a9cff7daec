#include "core/text/jinja/jinja.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <ctime>
#include <deque>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "core/text/jinja/syntax.h"

namespace inoculum {
namespace jinja {
namespace {

enum class Flow { on, leave, proceed };  // after a statement: go on, break, continue

class Renderer;
using Filter = std::function<Value(Renderer&, const Value&, const Args&)>;
using Test = std::function<bool(Renderer&, const Value&, const Args&)>;
const std::unordered_map<std::string, Filter>& filters();
const std::unordered_map<std::string, Filter>& text_methods();
const std::unordered_map<std::string, Test>& tests();

struct Scope {
  Scope* parent = nullptr;
  std::unordered_map<std::string, Value> names = {};
};

template <class T>
class Restored {  // puts a variable back when the scope is left
 public:
  Restored(T& variable, T value) : variable_(variable), old_(variable) { variable = value; }
  ~Restored() { variable_ = old_; }
  Restored(const Restored&) = delete;

 private:
  T& variable_;
  T old_;
};

class Renderer {
 public:
  Renderer(const Json& context, TemplateOptions options, std::vector<Generated>* generated)
      : options_(options), generated_(generated) {
    for (const auto& [name, value] : context.items()) {
      if (name == "strftime_now") date_ = value.is_string() ? value.get<std::string>() : "";
      else global_.names[name] = from_json(value);
    }
  }

  std::string run(const Body& body, const std::vector<std::string>& hidden) {
    std::string out;
    hide(hidden);
    main_out_ = &out;
    execute(body, out);
    return out;
  }
  int line() const { return line_; }

  // What every operation costs, so that the end comes in finite time and space.
  void charge(size_t steps) {
    if ((steps_ += static_cast<int64_t>(steps)) > kMaxSteps && options_.limits)
      throw Fault{"the template does not come to an end"};
  }
  void grow(std::string& out, std::string_view more) {
    charge(more.size() / 16);
    if (out.size() + more.size() > kMaxText && options_.limits)
      throw Fault{"the template writes more than " + std::to_string(kMaxText >> 20) + " MiB"};
    out += more;
  }

  Value text(std::string bytes) {
    charge(8 + bytes.size() / 16);
    if (bytes.size() > kMaxText && options_.limits)
      throw Fault{"a text is longer than " + std::to_string(kMaxText >> 20) + " MiB"};
    return with_text(Kind::string, std::move(bytes));
  }
  Value text(const Text& code_points) { return text(encode(code_points)); }
  Value sequence(Kind kind, std::vector<Value> items) {
    charge(4 * items.size());
    Value value{kind, 0, 0, std::make_shared<Object>()};
    for (const Value& item : items)
      if (item.object) value.object->depth = std::max(value.object->depth, item.object->depth + 1);
    if (value.object->depth > kMaxNesting) throw Fault{"a value is nested too deeply"};
    value.object->items = std::move(items);
    return value;
  }
  Value generator(const Value& source, Iterator pull) {
    Value value = sequence(Kind::generator, {source});
    value.object->pull = std::move(pull);
    return value;
  }

  // Python's semantics

  Value from_json(const Json& json) {
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

  bool truth(const Value& v) const {
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

  std::string str(const Value& v) {
    if (is_text(v)) return v.object->text;
    if (v.kind == Kind::undefined) return "";
    std::string out;
    repr(v, out);
    return out;
  }
  // As it stands in a page: markup as it is, all else escaped as MarkupSafe does.
  std::string escaped(const Value& v) {
    std::string plain = str(v);
    if (v.kind == Kind::markup) return plain;
    std::string out;
    for (const char c : plain) {
      if (c == '&') out += "&amp;";
      else if (c == '<') out += "&lt;";
      else if (c == '>') out += "&gt;";
      else if (c == '"') out += "&#34;";
      else if (c == '\'') out += "&#39;";
      else out += c;
    }
    return out;
  }
  std::string written(const Value& v) { return options_.autoescape ? escaped(v) : str(v); }
  // What a macro or a block wrote: where values are escaped as they are written, it is markup.
  Value captured(std::string bytes) {
    Value value = text(std::move(bytes));
    if (options_.autoescape) value.kind = Kind::markup;
    return value;
  }
  // Markup if one of them is, and then the others are escaped.
  Value joined(const std::vector<Value>& parts, const Value& between) {
    const auto is_markup = [](const Value& v) { return v.kind == Kind::markup; };
    const bool markup = options_.autoescape &&
                        (is_markup(between) || std::any_of(parts.begin(), parts.end(), is_markup));
    const auto shown_as = [&](const Value& v) { return markup ? escaped(v) : str(v); };
    const std::string separator = shown_as(between);
    std::string out;
    for (size_t i = 0; i < parts.size(); ++i) {
      if (i > 0) grow(out, separator);
      grow(out, shown_as(parts[i]));
    }
    return markup ? captured(std::move(out)) : text(std::move(out));
  }
  void repr(const Value& v, std::string& out) {
    const Restored<int> level(depth_, deeper());
    const auto all = [&](const char* open, const char* close, size_t step) {
      grow(out, open);
      const auto& items = v.object->items;
      for (size_t i = 0; i < items.size(); i += step) {
        if (i > 0) grow(out, ", ");
        repr(items[i], out);
        if (step == 2) grow(out, ": "), repr(items[i + 1], out);
      }
      grow(out, close);
    };
    switch (v.kind) {
      case Kind::undefined: return grow(out, "Undefined");
      case Kind::none: return grow(out, "None");
      case Kind::boolean: return grow(out, v.integer ? "True" : "False");
      case Kind::integer: return grow(out, std::to_string(v.integer));
      case Kind::real: return grow(out, shown(v.real));
      case Kind::string: return grow(out, repr_text(v.object->text));
      case Kind::markup: return grow(out, "Markup(" + repr_text(v.object->text) + ")");
      case Kind::list: return all("[", "]", 1);
      case Kind::tuple: return all("(", v.object->items.size() == 1 ? ",)" : ")", 1);
      case Kind::keys: return all("dict_keys([", "])", 1);
      case Kind::values: return all("dict_values([", "])", 1);
      case Kind::items: return all("dict_items([", "])", 1);
      case Kind::dict: return all("{", "}", 2);
      case Kind::space: return all("<Namespace {", "}>", 2);
      case Kind::range: return grow(out, v.object->text);
      default:
        throw Fault{"a " + type_name(v) + " has no printable form",
                    v.kind == Kind::generator ? "put |list behind it" : ""};
    }
  }

  bool equal(const Value& a, const Value& b) {
    charge(1);
    if (is_number(a) && is_number(b)) {
      if (is_integer(a) && is_integer(b)) return a.integer == b.integer;
      const auto exact = [](const Value& v) {
        return v.kind == Kind::real ? static_cast<long double>(v.real)
                                    : static_cast<long double>(v.integer);
      };
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
  static bool same(const Value& a, const Value& b) { return a.object && a.object == b.object; }

  // -1, 0, 1, or 2 where nothing is ordered (NaN).
  int order(const Value& a, const Value& b) {
    charge(1);
    const auto sign = [](const auto& x, const auto& y) {
      return x < y ? -1 : y < x ? 1 : x == y ? 0 : 2;
    };
    if (is_integer(a) && is_integer(b)) return sign(a.integer, b.integer);
    if (is_number(a) && is_number(b)) {
      const auto exact = [](const Value& v) {
        return v.kind == Kind::real ? static_cast<long double>(v.real)
                                    : static_cast<long double>(v.integer);
      };
      return sign(exact(a), exact(b));
    }
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

  bool contains(const Value& container, const Value& item) {
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

  void need_hashable(const Value& v) {
    if (v.kind == Kind::list || v.kind == Kind::dict || v.kind == Kind::keys ||
        v.kind == Kind::items)
      throw Fault{"a " + type_name(v) + " cannot be a key"};
    if (v.kind == Kind::tuple)
      for (const Value& item : v.object->items) need_hashable(item);
  }
  const Value* find(const Object& pairs, const Value& key) {
    for (size_t i = 0; i < pairs.items.size(); i += 2)
      if (equal(pairs.items[i], key)) return &pairs.items[i + 1];
    return nullptr;
  }
  void put(std::vector<Value>& pairs, const Value& key, Value value) {
    need_hashable(key);
    for (size_t i = 0; i < pairs.size(); i += 2)
      if (equal(pairs[i], key)) {
        pairs[i + 1] = std::move(value);
        return;
      }
    pairs.push_back(key);
    pairs.push_back(std::move(value));
  }

  Iterator iterate(const Value& v) {
    if (is_text(v))
      return [this, text = decode(v.object->text), i = size_t{0}](Value& out) mutable {
        charge(8);
        return i < text.size() && (out = with_text(Kind::string, encode({&text[i++], 1})), true);
      };
    if (is_items(v) || v.kind == Kind::dict)
      return [this, object = v.object, i = size_t{0},
              step = v.kind == Kind::dict ? size_t{2} : size_t{1}](Value& out) mutable {
        charge(1);
        return i < object->items.size() && (out = object->items[i], i += step, true);
      };
    if (v.kind == Kind::generator)
      return [object = v.object](Value& out) { return object->pull(out); };
    if (v.kind == Kind::undefined) return [](Value&) { return false; };
    throw Fault{"a " + type_name(v) + " cannot be iterated over"};
  }
  std::vector<Value> all(const Value& v) {
    std::vector<Value> items;
    const Iterator next = iterate(v);
    for (Value item; next(item);) charge(4), items.push_back(item);
    return items;
  }
  int64_t length(const Value& v) {
    if (is_text(v)) return static_cast<int64_t>(code_points(v.object->text));
    if (is_items(v)) return static_cast<int64_t>(v.object->items.size());
    if (v.kind == Kind::dict) return static_cast<int64_t>(v.object->items.size() / 2);
    if (v.kind == Kind::undefined) return 0;
    throw Fault{"a " + type_name(v) + " has no length",
                v.kind == Kind::generator ? "put |list in between" : ""};
  }

  // Arguments by position or name; those not given have Kind::absent. A name with a space is one
  // that only a position can give.
  static std::vector<Value> bind(const char* what, const Args& args,
                                 std::initializer_list<const char*> names, size_t required = 0) {
    std::vector<Value> bound(names.size(), Value{Kind::absent, 0, 0, nullptr});
    if (args.list.size() > names.size())
      throw Fault{std::string(what) + " takes at most " + std::to_string(names.size()) +
                  " arguments"};
    std::copy(args.list.begin(), args.list.end(), bound.begin());
    for (const auto& [name, value] : args.named) {
      const auto found = std::find(names.begin(), names.end(), name);
      if (found == names.end()) throw Fault{std::string(what) + " has no argument " + name};
      Value& slot = bound[static_cast<size_t>(found - names.begin())];
      if (slot.kind != Kind::absent)
        throw Fault{std::string(what) + " is given " + name + " twice"};
      slot = value;
    }
    for (size_t i = 0; i < required; ++i)
      if (bound[i].kind == Kind::absent)
        throw Fault{std::string(what) + " needs " + *(names.begin() + i)};
    return bound;
  }
  static bool given(const Value& v) { return v.kind != Kind::absent; }
  bool flag(const Value& v) const { return given(v) && truth(v); }
  static const std::string& need_text(const Value& v, const char* what) {
    need_defined(v);
    if (v.kind != Kind::string)
      throw Fault{std::string(what) + " needs a text, not " + type_name(v)};
    return v.object->text;
  }
  static int64_t need_integer(const Value& v, const char* what) {
    need_defined(v);
    if (!is_integer(v)) throw Fault{std::string(what) + " needs an integer, not " + type_name(v)};
    return v.integer;
  }

  // Attributes and items

  Value attribute(const Value& v, const std::string& name) {
    need_defined(v);
    if (v.kind == Kind::space) {
      const Value* found = find(*v.object, with_text(Kind::string, name));
      return found ? *found : missing(v, name);
    }
    if (v.kind == Kind::loop) return loop_attribute(v, name);
    if (v.kind == Kind::macro || v.kind == Kind::function || v.kind == Kind::method)
      throw Fault{"attributes of a " + type_name(v) + " are not supported"};
    if (name.starts_with("__") || python_has(v, name, true))
      return undefined("access to the attribute '" + name + "' of a " + type_name(v) +
                       " is unsafe");
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
  static Value missing(const Value& v, const std::string& name) {
    return undefined("a " + type_name(v) + " has no '" + name + "'");
  }

  Value item(const Value& v, const Value& key) {
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

  Value slice(const Value& v, const Value* parts) {
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

  Value loop_attribute(const Value& v, const std::string& name) {
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

  // `path` is a name, an index, or several with dots between them, as filters take them.
  Value follow(Value v, const Value& path, const Value& otherwise = {Kind::absent, 0, 0, nullptr}) {
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

  // Operators

  Value binary(const std::string& op, const Value& a, const Value& b) {
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
    throw Fault{"'" + op + "' between " + type_name(a) + " and " + type_name(b) +
                " is not possible"};
  }

  static Value arithmetic(const std::string& op, const Value& a, const Value& b) {
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
      const int64_t rest = a.integer % b.integer,
                    adjust = rest != 0 && (rest < 0) != (b.integer < 0);
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

  // "%s: %5.2f" % arguments
  Value format(const std::string& pattern, const Value& arguments) {
    const std::vector<Value> list =
        arguments.kind == Kind::tuple ? arguments.object->items : std::vector<Value>{arguments};
    size_t used = 0;
    std::string out;
    for (size_t i = 0; i < pattern.size(); ++i) {
      if (pattern[i] != '%') {
        out += pattern[i];
        continue;
      }
      Value value{Kind::absent, 0, 0, nullptr};
      if (++i < pattern.size() && pattern[i] == '(') {
        const size_t end = pattern.find(')', i);
        if (arguments.kind != Kind::dict || end == std::string::npos)
          throw Fault{"%(name) needs a mapping"};
        const Value* found =
            find(*arguments.object, with_text(Kind::string, pattern.substr(i + 1, end - i - 1)));
        if (!found) throw Fault{"the mapping lacks " + pattern.substr(i, end - i + 1)};
        value = *found;
        i = end + 1;
      }
      const Conversion conversion = conversion_at(pattern, i);
      if (conversion.type == '%') {
        out += '%';
        continue;
      }
      if (!given(value)) {
        if (used >= list.size()) throw Fault{"a format has fewer values than it needs"};
        value = list[used++];
      }
      grow(out, converted(conversion, value));
    }
    const bool lenient = arguments.kind == Kind::dict || arguments.kind == Kind::list ||
                         arguments.kind == Kind::range || arguments.kind == Kind::undefined;
    if (used < list.size() && !lenient) throw Fault{"a format does not use all its values"};
    return text(std::move(out));
  }

  // Of a format, what follows a % and perhaps a name: flags, width, precision, type.
  struct Conversion {
    std::string flags;
    size_t width = 0;
    std::optional<size_t> precision;
    char type = 0;

    std::string for_printf(const std::string& ending) const {
      return "%" + flags + std::to_string(width) +
             (precision ? "." + std::to_string(*precision) : "") + ending;
    }
  };

  // Leaves `i` at its last character.
  static Conversion conversion_at(const std::string& pattern, size_t& i) {
    const auto digits = [&] {
      size_t amount = 0;
      for (; i < pattern.size() && is_digit(static_cast<unsigned char>(pattern[i])); ++i)
        amount = std::min<size_t>(amount * 10 + static_cast<size_t>(pattern[i] - '0'), 10000);
      if (amount > 1000) throw Fault{"a width above 1000 is not supported"};
      return amount;
    };
    Conversion conversion;
    for (; i < pattern.size() && std::strchr("-+ 0", pattern[i]); ++i)
      conversion.flags += pattern[i];
    conversion.width = digits();
    if (i < pattern.size() && pattern[i] == '.') {
      ++i;
      conversion.precision = digits();
    }
    if (i >= pattern.size()) throw Fault{"a format ends within %"};
    conversion.type = pattern[i];
    return conversion;
  }

  std::string converted(const Conversion& conversion, const Value& value) {
    if (conversion.type == 's' || conversion.type == 'r') return converted_text(conversion, value);
    if (std::strchr("diuxXo", conversion.type)) return converted_integer(conversion, value);
    if (std::strchr("fFeEgG", conversion.type)) return converted_real(conversion, value);
    throw Fault{std::string("%") + conversion.type + " is not supported in a format"};
  }

  std::string converted_text(const Conversion& conversion, const Value& value) {
    std::string bytes;
    if (conversion.type == 's') bytes = str(value);
    else repr(value, bytes);
    Text shown = decode(bytes);
    if (conversion.precision) shown = shown.substr(0, *conversion.precision);
    const bool left = conversion.flags.find('-') != std::string::npos;
    if (shown.size() < conversion.width)
      shown.insert(left ? shown.size() : 0, conversion.width - shown.size(), U' ');
    return encode(shown);
  }

  static std::string converted_integer(Conversion conversion, const Value& value) {
    const char type = conversion.type;
    const bool decimal = !std::strchr("xXo", type);
    if (!is_number(value) || (!decimal && !is_integer(value)))
      throw Fault{std::string("%") + type + " needs a number"};
    if (value.kind == Kind::real && !(std::abs(value.real) < 9e18))
      throw Fault{"a number is too large"};
    if (!decimal && value.integer < 0)
      throw Fault{std::string("%") + type + " of a negative number is not supported"};
    if (conversion.precision) {
      std::erase(conversion.flags, '0');
      conversion.precision = std::max<size_t>(*conversion.precision, 1);
    }
    char buffer[1500];
    std::snprintf(buffer, sizeof buffer,
                  conversion.for_printf(std::string("l") + (type == 'u' ? 'd' : type)).c_str(),
                  value.kind == Kind::real ? static_cast<int64_t>(value.real) : value.integer);
    return buffer;
  }

  static std::string converted_real(Conversion conversion, const Value& value) {
    if (!is_number(value)) throw Fault{std::string("%") + conversion.type + " needs a number"};
    if (!std::isfinite(as_real(value))) std::erase(conversion.flags, '0');
    char buffer[1500];
    std::snprintf(buffer, sizeof buffer,
                  conversion.for_printf(std::string(1, conversion.type)).c_str(), as_real(value));
    return buffer;
  }

  // JSON as Python's json.dumps writes it.
  struct JsonStyle {
    bool ascii = false, sorted = false;
    std::optional<std::string> indent = {};
    std::string comma = ", ", colon = ": ";
  };
  void write_json_text(const std::string& bytes, const JsonStyle& style, std::string& out) {
    out += '"';
    for (const char32_t c : decode(bytes)) {
      static const std::string plain = "\"\\\n\r\t\f\b", letter = "\"\\nrtfb";
      if (const size_t known = c < 0x80 ? plain.find(static_cast<char>(c)) : std::string::npos;
          known != std::string::npos)
        (out += '\\') += letter[known];
      else if (c < 0x20 || (style.ascii && c >= 0x7f && c < 0x10000 && c != 0x7f))
        out += hexadecimal("\\u", c, 4);
      else if (style.ascii && c >= 0x10000)
        out += hexadecimal("\\u", 0xd800 + ((c - 0x10000) >> 10), 4) +
               hexadecimal("\\u", 0xdc00 + ((c - 0x10000) & 0x3ff), 4);
      else append_code_point(out, c);
    }
    grow(out, "\"");
  }
  void write_json(const Value& v, const JsonStyle& style, const std::string& margin,
                  std::string& out) {
    const Restored<int> level(depth_, deeper());
    charge(1 + (is_text(v) ? v.object->text.size() / 16 : 0));
    const auto scalar = [&](const Value& value) -> std::string {
      if (value.kind == Kind::none) return "null";
      if (value.kind == Kind::boolean) return value.integer ? "true" : "false";
      if (value.kind == Kind::real && !std::isfinite(value.real))
        return std::isnan(value.real) ? "NaN" : value.real < 0 ? "-Infinity" : "Infinity";
      if (is_number(value)) return str(value);
      need_defined(value);
      throw Fault{"a " + type_name(value) + " has no JSON form"};
    };
    if (is_text(v)) return write_json_text(v.object->text, style, out);
    const bool dict = v.kind == Kind::dict;
    if (!dict && v.kind != Kind::list && v.kind != Kind::tuple) return grow(out, scalar(v));
    std::vector<std::pair<Value, Value>> entries;
    for (size_t i = 0; i < v.object->items.size(); i += dict ? 2 : 1)
      entries.emplace_back(dict ? v.object->items[i] : kNone, v.object->items[dict ? i + 1 : i]);
    if (dict && style.sorted)
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto& a, const auto& b) { return order(a.first, b.first) == -1; });
    const std::string inner = style.indent ? margin + *style.indent : "";
    grow(out, dict ? "{" : "[");
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) grow(out, style.comma);
      if (style.indent) grow(out, inner);
      if (dict) {
        if (is_text(entries[i].first)) write_json_text(entries[i].first.object->text, style, out);
        else write_json_text(scalar(entries[i].first), style, out);
        grow(out, style.colon);
      }
      write_json(entries[i].second, style, inner, out);
    }
    if (style.indent && !entries.empty()) grow(out, margin);
    grow(out, dict ? "}" : "]");
  }

  // Calls

  Value filtered(const std::string& name, const Value& v, const Args& args) {
    const auto found = filters().find(name);
    if (found == filters().end()) unknown("filter", name, filters());
    const Restored<int> level(depth_, deeper());
    charge(1);
    return found->second(*this, v, args);
  }
  bool tested(const std::string& name, const Value& v, const Args& args) {
    const auto found = tests().find(name);
    if (found == tests().end()) unknown("test", name, tests());
    charge(1);
    return found->second(*this, v, args);
  }
  template <class Table>
  [[noreturn]] static void unknown(const std::string& kind, const std::string& name,
                                   const Table& table) {
    std::vector<std::string> names;
    for (const auto& entry : table) names.push_back(entry.first);
    std::sort(names.begin(), names.end());
    const std::string near = did_you_mean(name, names);
    throw Fault{"the " + kind + " " + name + " is not supported in chat templates",
                near.empty() ? "" : "did you mean " + near + "?"};
  }

  Value call(const Value& callee, const Args& args) {
    need_defined(callee);
    const Restored<int> level(depth_, deeper());
    if (callee.kind == Kind::macro) return call_macro(*callee.object->macro, args);
    if (callee.kind == Kind::method)
      return call_method(callee.object->items[0], callee.object->text, args);
    if (callee.kind != Kind::function) throw Fault{"a " + type_name(callee) + " cannot be called"};
    const std::string& name = callee.object->text;
    if (name == "range") return range(args);
    if (name == "namespace") {
      std::vector<Value> pairs = dict_of(args);
      for (size_t i = 0; i < pairs.size(); i += 2) check_member(str(pairs[i]));
      charge(30);
      spaces_.emplace_back().items = std::move(pairs);
      return {Kind::space, 0, 0,
              std::shared_ptr<Object>(std::shared_ptr<Object>(), &spaces_.back())};
    }
    if (name == "dict") return sequence(Kind::dict, dict_of(args));
    if (name == "strftime_now")
      return text(
          formatted_date(need_text(bind("strftime_now", args, {"format"}, 1)[0], "strftime_now")));
    throw Fault{str(bind("raise_exception", args, {"message"}, 1)[0])};
  }

  Value call_macro(const Node& macro, const Args& args) {
    Scope scope{&global_};
    const auto is_parameter = [&](const auto& argument) {
      return std::any_of(macro.named.begin(), macro.named.end(),
                         [&](const auto& parameter) { return parameter.first == argument.first; });
    };
    if (args.list.size() > macro.named.size())
      throw Fault{"the macro " + macro.text + " takes at most " +
                  std::to_string(macro.named.size()) + " arguments"};
    for (const auto& argument : args.named)
      if (!is_parameter(argument))
        throw Fault{"the macro " + macro.text + " has no argument " + argument.first};
    const Restored<Scope*> inside(scope_, &scope);
    for (size_t i = 0; i < macro.named.size(); ++i) {
      const auto& [name, otherwise] = macro.named[i];
      const auto found = std::find_if(
          args.named.begin(), args.named.end(),
          [&, &parameter = name](const auto& argument) { return argument.first == parameter; });
      if (i < args.list.size() && found != args.named.end())
        throw Fault{"the macro " + macro.text + " is given " + name + " twice"};
      scope.names[name] = i < args.list.size()        ? args.list[i]
                          : found != args.named.end() ? found->second
                          : otherwise ? eval(*otherwise)
                                      : undefined("the parameter '" + name + "' was not provided");
    }
    std::string out;
    hide(macro.hidden);
    execute(macro.bodies[0], out);
    return captured(std::move(out));
  }

  Value call_method(const Value& self, const std::string& name, const Args& args) {
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
      if (name == "copy") return bind("copy", args, {}), self;
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

  Value view(const Value& dict, Kind kind) {
    std::vector<Value> items;
    for (size_t i = 0; i < dict.object->items.size(); i += 2) {
      if (kind == Kind::items)
        items.push_back(sequence(Kind::tuple, {dict.object->items[i], dict.object->items[i + 1]}));
      else items.push_back(dict.object->items[kind == Kind::keys ? i : i + 1]);
    }
    return sequence(kind, std::move(items));
  }

  std::vector<Value> dict_of(const Args& args) {
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

  Value range(const Args& args) {
    const auto a = bind("range", args, {"the end", "the start", "the step"}, 1);
    const int64_t first = need_integer(a[0], "range"), begin = given(a[1]) ? first : 0,
                  end = given(a[1]) ? need_integer(a[1], "range") : first,
                  step = given(a[2]) ? need_integer(a[2], "range") : 1;
    if (step == 0) throw Fault{"range cannot have the step 0"};
    std::vector<Value> items;
    for (int64_t i = begin; step < 0 ? i > end : i < end;) {
      if (items.size() == 100'000) throw Fault{"a range of more than 100000 is not allowed"};
      items.push_back(number(i));
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    Value value = sequence(Kind::range, std::move(items));
    value.object->text = "range(" + std::to_string(begin) + ", " + std::to_string(end) +
                         (step == 1 ? "" : ", " + std::to_string(step)) + ")";
    return value;
  }

  std::string formatted_date(const std::string& pattern) const {
    std::tm time = {};
    int year = 0, month = 0, day = 0, consumed = 0;
    const int parts = std::sscanf(date_.c_str(), "%4d-%2d-%2d%n", &year, &month, &day, &consumed);
    const std::string clock = date_.substr(std::min(date_.size(), static_cast<size_t>(consumed)));
    int end = 0;
    if (parts != 3 ||
        (!clock.empty() && (std::sscanf(clock.c_str(), "T%2d:%2d:%2d%n", &time.tm_hour,
                                        &time.tm_min, &time.tm_sec, &end) != 3 ||
                            static_cast<size_t>(end) != clock.size())) ||
        month < 1 || month > 12 || day < 1 || day > 31)
      throw Fault{"the context's strftime_now is not a date",
                  "write it like 2025-12-31 or 2025-12-31T23:59:59"};
    time.tm_year = year - 1900;
    time.tm_mon = month - 1;
    time.tm_mday = day;
    time.tm_isdst = 0;
    timegm(&time);  // fills in the day of the week and of the year
    if (pattern.size() > 200) throw Fault{"the format of strftime_now is too long"};
    char buffer[8192];
    return std::string(buffer, std::strftime(buffer, sizeof buffer, pattern.c_str(), &time));
  }

  static void check_member(const std::string& name) {
    if (name.starts_with("_")) throw Fault{"a namespace cannot hold the name " + name};
  }

  // Evaluation

 private:
  int deeper() const {
    if (depth_ >= kMaxEvalDepth) throw Fault{"the template calls itself too deeply"};
    return depth_ + 1;
  }

  Value lookup(const std::string& name) {
    for (const Scope* scope = scope_; scope; scope = scope->parent)
      if (const auto found = scope->names.find(name); found != scope->names.end())
        return found->second;
    for (const char* function : {"range", "dict", "namespace", "raise_exception", "strftime_now"})
      if (name == function) return with_text(Kind::function, name);
    for (const char* known : {"lipsum", "cycler", "joiner", "self"})
      if (name == known) throw Fault{name + " is not supported in chat templates"};
    return undefined("'" + name + "' is undefined");
  }

  Args arguments(const Node& n) {
    Args args;
    for (size_t i = 1; i < n.kids.size(); ++i) args.list.push_back(eval(*n.kids[i]));
    for (const auto& [name, value] : n.named) args.named.emplace_back(name, eval(*value));
    return args;
  }

  Value eval(const Node& n) {
    const Restored<int> level(depth_, deeper());
    charge(1);
    line_ = n.line;
    switch (n.op) {
      case Op::literal: return n.value;
      case Op::name: return lookup(n.text);
      case Op::tuple:
      case Op::list: return sequence(n.op == Op::tuple ? Kind::tuple : Kind::list, eval_all(n));
      case Op::dict: return eval_dict(n);
      case Op::attribute: return attribute(eval(*n.kids[0]), n.text);
      case Op::item: return eval_item(n);
      case Op::call: {
        const Value callee = eval(*n.kids[0]);
        return call(callee, arguments(n));
      }
      case Op::filter: {
        const Value v = eval(*n.kids[0]);
        return filtered(n.text, v, arguments(n));
      }
      case Op::test: {
        const Value v = eval(*n.kids[0]);
        return boolean(tested(n.text, v, arguments(n)));
      }
      case Op::negate:
      case Op::plus: {
        const Value v = eval(*n.kids[0]);
        need_defined(v);
        if (!is_number(v)) throw Fault{"a sign needs a number, not " + type_name(v)};
        if (v.kind == Kind::real) return number(n.op == Op::negate ? -v.real : v.real);
        return n.op == Op::negate ? arithmetic("-", number(int64_t{0}), v) : number(v.integer);
      }
      case Op::invert: return boolean(!truth(eval(*n.kids[0])));
      case Op::both: {
        Value left = eval(*n.kids[0]);
        return truth(left) ? eval(*n.kids[1]) : left;
      }
      case Op::either: {
        Value left = eval(*n.kids[0]);
        return truth(left) ? left : eval(*n.kids[1]);
      }
      case Op::binary: {
        const Value left = eval(*n.kids[0]), right = eval(*n.kids[1]);
        return binary(n.text, left, right);
      }
      case Op::concat: return joined(eval_all(n), text(std::string()));
      case Op::compare: return eval_compare(n);
      case Op::condition:
        if (truth(eval(*n.kids[0]))) return eval(*n.kids[1]);
        return n.kids[2] ? eval(*n.kids[2]) : undefined("an inline if without else was false");
      default: throw Fault{"a slice cannot stand here"};
    }
  }
  std::vector<Value> eval_all(const Node& n) {
    std::vector<Value> values;
    for (const NodePtr& kid : n.kids) values.push_back(eval(*kid));
    return values;
  }
  Value eval_dict(const Node& n) {
    std::vector<Value> pairs;
    for (size_t i = 0; i < n.kids.size(); i += 2) {
      const Value key = eval(*n.kids[i]);
      put(pairs, key, eval(*n.kids[i + 1]));
    }
    return sequence(Kind::dict, std::move(pairs));
  }
  Value eval_item(const Node& n) {
    const Value v = eval(*n.kids[0]);
    if (n.kids[1]->op != Op::slice) return item(v, eval(*n.kids[1]));
    Value parts[3];
    for (size_t i = 0; i < 3; ++i)
      parts[i] = n.kids[1]->kids[i] ? eval(*n.kids[1]->kids[i]) : kNone;
    return slice(v, parts);
  }
  Value eval_compare(const Node& n) {
    Value left = eval(*n.kids[0]);
    for (const auto& [op, kid] : n.named) {
      Value right = eval(*kid);
      if (!compared(op, left, right)) return boolean(false);
      left = std::move(right);
    }
    return boolean(true);
  }

 public:
  bool compared(const std::string& op, const Value& a, const Value& b) {
    if (op == "==" || op == "!=") return equal(a, b) == (op == "==");
    if (op == "in" || op == "not in") return contains(b, a) == (op == "in");
    const int o = order(a, b);
    return o != 2 && (op == "<" ? o < 0 : op == "<=" ? o <= 0 : op == ">" ? o > 0 : o >= 0);
  }

 private:
  void assign(const Node& target, const Value& value) {
    if (target.op == Op::name) {
      scope_->names[target.text] = value;
    } else if (target.op == Op::member) {
      check_member(target.text);
      const Value space = eval(*target.kids[0]);
      put(space.object->items, with_text(Kind::string, target.text), value);
    } else {
      const std::vector<Value> parts = all(value);
      if (parts.size() != target.kids.size())
        throw Fault{std::to_string(parts.size()) + " values cannot be given to " +
                    std::to_string(target.kids.size()) + " names"};
      for (size_t i = 0; i < parts.size(); ++i) assign(*target.kids[i], parts[i]);
    }
  }
  // What a filtered loop goes on with: Jinja puts the parts of an item together again, as tuples.
  Value assigned(const Node& target) {
    if (target.op == Op::name) return lookup(target.text);
    std::vector<Value> parts;
    for (const NodePtr& kid : target.kids) parts.push_back(assigned(*kid));
    return sequence(Kind::tuple, std::move(parts));
  }
  void need_spaces(const Node& target) {
    for (const NodePtr& kid : target.kids) {
      if (target.op == Op::member && eval(*kid).kind != Kind::space)
        throw Fault{"an attribute can be set on a namespace only", "{% set ns = namespace() %}"};
      if (target.op == Op::tuple) need_spaces(*kid);
    }
  }

  void hide(const std::vector<std::string>& names) {
    for (const std::string& name : names)
      scope_->names[name] = undefined("'" + name + "' is undefined");
  }

  Flow execute(const Body& body, std::string& out) {
    for (const NodePtr& n : body)
      if (const Flow flow = execute(*n, out); flow != Flow::on) return flow;
    return Flow::on;
  }
  Flow execute_inside(const Body& body, const std::vector<std::string>& hidden, std::string& out) {
    Scope scope{scope_};
    const Restored<Scope*> inside(scope_, &scope);
    hide(hidden);
    return execute(body, out);
  }

  // A case for each kind of statement.
  Flow execute(const Node& n, std::string& out) {
    const Restored<int> level(depth_, deeper());
    charge(1);
    line_ = n.line;
    switch (n.op) {
      case Op::data: grow(out, n.text); return Flow::on;
      case Op::output: grow(out, written(eval(*n.kids[0]))); return Flow::on;
      case Op::leave: return Flow::leave;
      case Op::proceed: return Flow::proceed;
      case Op::branch:
        for (size_t i = 0; i < n.bodies.size(); ++i)
          if (i == n.kids.size() || truth(eval(*n.kids[i]))) return execute(n.bodies[i], out);
        return Flow::on;
      case Op::loop: return execute_loop(n, out);
      case Op::set:
        need_spaces(*n.kids[0]);
        if (n.kids[0]->op == Op::member) check_member(n.kids[0]->text);
        assign(*n.kids[0], eval(*n.kids[1]));
        return Flow::on;
      case Op::macro: {
        Value macro = with_text(Kind::macro, n.text);
        macro.object->macro = &n;
        scope_->names[n.text] = macro;
        return Flow::on;
      }
      case Op::with: {
        std::vector<Value> values;
        for (size_t i = 1; i < n.kids.size(); i += 2) values.push_back(eval(*n.kids[i]));
        Scope scope{scope_};
        const Restored<Scope*> inside(scope_, &scope);
        for (size_t i = 0; i < values.size(); ++i) assign(*n.kids[2 * i], values[i]);
        hide(n.hidden);
        return execute(n.bodies[0], out);
      }
      case Op::set_block:
      case Op::filter_block: {
        std::string inner;
        Scope scope{scope_};
        const Restored<Scope*> inside(scope_, &scope);
        hide(n.hidden);
        if (const Flow flow = execute(n.bodies[0], inner); flow != Flow::on) return flow;
        const Node* filter = n.kids.back().get();
        Value value = captured(std::move(inner));
        if (filter) value = apply(*filter, std::move(value));
        scope_ = scope.parent;
        if (n.op == Op::set_block) assign(*n.kids[0], filter ? captured(str(value)) : value);
        else grow(out, str(value));
        return Flow::on;
      }
      default: {  // Op::generation
        const size_t begin = out.size();
        if (&out != main_out_) {
          if (generated_)
            throw Fault{"{% generation %} inside a macro or a block is not supported"};
        } else if (generated_) {
          generated_->push_back({begin, begin, message_here()});
        }
        const size_t index = generated_ ? generated_->size() - 1 : 0;
        execute_inside(n.bodies[0], n.hidden, out);
        if (generated_) (*generated_)[index].end = out.size();
        return Flow::on;
      }
    }
  }
  // Which of `messages` a variable is, of the innermost scope that holds one; nothing where it
  // holds several.
  std::optional<size_t> message_here() const {
    const auto all = global_.names.find("messages");
    if (all == global_.names.end() || all->second.kind != Kind::list) return std::nullopt;
    const auto& messages = all->second.object->items;
    for (const Scope* scope = scope_; scope; scope = scope->parent) {
      std::optional<size_t> found;
      for (const auto& [name, value] : scope->names)
        for (size_t i = 0; i < messages.size(); ++i) {
          if (!same(value, messages[i])) continue;
          if (found && *found != i) return std::nullopt;
          found = i;
        }
      if (found) return found;
    }
    return std::nullopt;
  }
  Value apply(const Node& filter, Value value) {  // a chain of filters on a block's text
    if (filter.kids[0]) value = apply(*filter.kids[0], std::move(value));
    return filtered(filter.text, value, arguments(filter));
  }

  Flow execute_loop(const Node& n, std::string& out) {
    const Iterator source = iterate(eval(*n.kids[1]));
    charge(30);
    loops_.emplace_back();
    Loop& loop = loops_.back();
    struct End {
      Loop& loop;
      ~End() {
        loop = {.pull = {}, .ahead = {}, .before = {}, .current = {}, .index0 = -1, .over = true};
      }
    } const end{loop};
    const Node* const test = n.kids[2].get();
    Scope* const outer = scope_;
    loop.pull = [this, &n, &source, test, outer](Value& item) {
      while (source(item)) {
        if (!test) return true;
        Scope scope{outer};
        const Restored<Scope*> inside(scope_, &scope);
        assign(*n.kids[0], item);
        if (!truth(eval(*test))) continue;
        item = assigned(*n.kids[0]);
        return true;
      }
      return false;
    };
    Value handle = with_text(Kind::loop, "");
    handle.object->loop = &loop;
    bool completed = false;
    while (loop.next()) {
      charge(1);
      Scope scope{outer};
      const Restored<Scope*> inside(scope_, &scope);
      scope.names["loop"] = handle;
      assign(*n.kids[0], loop.current);
      hide(n.hidden);
      const Flow flow = execute(n.bodies[0], out);
      if (flow == Flow::leave) break;
      completed |= flow == Flow::on;
    }
    // Jinja runs the else part where no round came to its end, so also where each was left by break
    // or continue.
    return !completed && n.bodies.size() > 1 ? execute_inside(n.bodies[1], {}, out) : Flow::on;
  }

  const TemplateOptions options_;
  std::vector<Generated>* generated_;
  const std::string* main_out_ = nullptr;
  std::string date_ = "2024-07-26";
  // Owned here, since namespaces may hold each other in circles and values may outlive their loop.
  std::deque<Object> spaces_;
  std::deque<Loop> loops_;
  Scope global_;
  Scope* scope_ = &global_;
  int64_t steps_ = 0;
  int depth_ = 0, line_ = 1;
};

// Filters, tests, methods

Value folded(Renderer& r, const Value& v) {
  return is_text(v) ? r.text(mapped(decode(v.object->text), lower)) : v;
}

// Each item of `v` that `keep` accepts, as map, select and their like give them: when they are
// asked for.
Value lazily(Renderer& r, const Value& v, std::function<bool(Value&)> keep) {
  if (!r.truth(v)) return r.generator(v, [](Value&) { return false; });
  return r.generator(v, [next = r.iterate(v), keep = std::move(keep)](Value& out) {
    while (next(out))
      if (keep(out)) return true;
    return false;
  });
}

Value do_map(Renderer& r, const Value& v, const Args& args) {
  if (args.list.empty()) {
    const auto a = Renderer::bind("map", args, {"attribute", "default"}, 1);
    return lazily(r, v, [&r, a](Value& item) { return item = r.follow(item, a[0], a[1]), true; });
  }
  const std::string name = Renderer::need_text(args.list[0], "map");
  const Args rest{{args.list.begin() + 1, args.list.end()}, args.named};
  return lazily(
      r, v, [&r, name, rest](Value& item) { return item = r.filtered(name, item, rest), true; });
}

Value do_select(Renderer& r, const Value& v, const Args& args, bool wanted, bool by_attribute) {
  const size_t skip = by_attribute ? 1 : 0;
  if (args.list.size() < skip)
    throw Fault{"selectattr and rejectattr need the name of an attribute"};
  const Value path = by_attribute ? args.list[0] : kNone;
  if (args.list.size() == skip)
    return lazily(
        r, v, [&r, path, wanted](Value& item) { return r.truth(r.follow(item, path)) == wanted; });
  const std::string name = Renderer::need_text(args.list[skip], "select");
  const Args rest{{args.list.begin() + static_cast<std::ptrdiff_t>(skip) + 1, args.list.end()},
                  args.named};
  return lazily(r, v, [&r, path, name, rest, wanted](Value& item) {
    return r.tested(name, r.follow(item, path), rest) == wanted;
  });
}

// Stable, by keys, as Python's sorted.
std::vector<Value> sorted_by(Renderer& r, std::vector<Value> items, bool descending,
                             const std::function<Value(const Value&)>& key) {
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : items) keyed.emplace_back(key(item), std::move(item));
  if (descending) std::reverse(keyed.begin(), keyed.end());
  std::stable_sort(keyed.begin(), keyed.end(),
                   [&](const auto& a, const auto& b) { return r.order(a.first, b.first) == -1; });
  if (descending) std::reverse(keyed.begin(), keyed.end());
  items.clear();
  for (auto& [k, item] : keyed) items.push_back(std::move(item));
  return items;
}

Value do_sort(Renderer& r, const Value& v, const Args& args) {
  const auto a = Renderer::bind("sort", args, {"reverse", "case_sensitive", "attribute"});
  std::vector<Value> paths;
  if (!Renderer::given(a[2]) || a[2].kind != Kind::string)
    paths.push_back(Renderer::given(a[2]) ? a[2] : kNone);
  else
    for (size_t i = 0; i <= a[2].object->text.size();) {
      const size_t end = std::min(a[2].object->text.find(',', i), a[2].object->text.size());
      paths.push_back(r.text(a[2].object->text.substr(i, end - i)));
      i = end + 1;
    }
  const bool exact = r.flag(a[1]);
  return r.sequence(
      Kind::list, sorted_by(r, r.all(v), r.flag(a[0]), [&](const Value& item) {
        std::vector<Value> keys;
        for (const Value& path : paths)
          keys.push_back(exact ? r.follow(item, path) : folded(r, r.follow(item, path)));
        return r.sequence(Kind::list, std::move(keys));
      }));
}

Value do_dictsort(Renderer& r, const Value& v, const Args& args) {
  const auto a = Renderer::bind("dictsort", args, {"case_sensitive", "by", "reverse"});
  need_defined(v);
  if (v.kind != Kind::dict) throw Fault{"dictsort needs a mapping, not " + type_name(v)};
  const std::string by = Renderer::given(a[1]) ? Renderer::need_text(a[1], "dictsort") : "key";
  if (by != "key" && by != "value") throw Fault{"dictsort sorts by \"key\" or \"value\""};
  return r.sequence(Kind::list, sorted_by(r, r.view(v, Kind::items).object->items, r.flag(a[2]),
                                          [&](const Value& pair) {
                                            const Value& key = pair.object->items[by == "value"];
                                            return r.flag(a[0]) ? key : folded(r, key);
                                          }));
}

Value do_unique(Renderer& r, const Value& v, const Args& args) {
  const auto a = Renderer::bind("unique", args, {"case_sensitive", "attribute"});
  const auto seen = std::make_shared<std::vector<Value>>();
  const Value path = Renderer::given(a[1]) ? a[1] : kNone;
  return r.generator(v, [&r, next = r.iterate(v), seen, path, exact = r.flag(a[0])](Value& out) {
    while (next(out)) {
      const Value key = exact ? r.follow(out, path) : folded(r, r.follow(out, path));
      r.need_hashable(key);
      if (std::any_of(seen->begin(), seen->end(),
                      [&](const Value& other) { return r.equal(other, key); }))
        continue;
      seen->push_back(key);
      return true;
    }
    return false;
  });
}

Value do_tojson(Renderer& r, const Value& v, const Args& args) {
  const auto a =
      Renderer::bind("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  Renderer::JsonStyle style{.ascii = r.flag(a[0]), .sorted = r.flag(a[3])};
  if (Renderer::given(a[1]) && a[1].kind != Kind::none) {
    style.indent = is_text(a[1])
                       ? a[1].object->text
                       : std::string(static_cast<size_t>(std::clamp<int64_t>(
                                         Renderer::need_integer(a[1], "tojson"), 0, 1000)),
                                     ' ');
    style.comma = ",";
  }
  if (Renderer::given(a[2]) && a[2].kind != Kind::none) {
    const auto both = r.all(a[2]);
    if (both.size() != 2) throw Fault{"tojson needs two separators"};
    style.comma = Renderer::need_text(both[0], "tojson");
    style.colon = Renderer::need_text(both[1], "tojson");
  }
  std::string out;
  r.write_json(v, style, "\n", out);
  return r.text(std::move(out));
}

Value do_indent(Renderer& r, const Value& v, const Args& args) {
  const auto a = Renderer::bind("indent", args, {"width", "first", "blank"});
  const std::string margin =
      !Renderer::given(a[0]) ? "    "
      : is_text(a[0])        ? a[0].object->text
                             : std::string(static_cast<size_t>(std::clamp<int64_t>(
                                               Renderer::need_integer(a[0], "indent"), 0, 1000)),
                                           ' ');
  const std::vector<Text> lines =
      split_lines(decode(Renderer::need_text(v, "indent") + "\n"), false);
  std::string out = r.flag(a[1]) ? margin : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) r.grow(out, "\n");
    if (i > 0 && (r.flag(a[2]) || !lines[i].empty())) r.grow(out, margin);
    r.grow(out, encode(lines[i]));
  }
  return r.text(std::move(out));
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

Value do_int(Renderer&, const Value& v, const Args& args) {
  const auto a = Renderer::bind("int", args, {"default", "base"});
  if (Renderer::given(a[1]) && !(is_integer(a[1]) && a[1].integer == 10))
    throw Fault{"int knows base 10 only"};
  need_defined(v);
  Value otherwise = Renderer::given(a[0]) ? a[0] : number(int64_t{0});
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

Value do_float(Renderer&, const Value& v, const Args& args) {
  const auto a = Renderer::bind("float", args, {"default"});
  need_defined(v);
  if (is_number(v)) return number(as_real(v));
  const auto value = is_text(v) ? parsed(v.object->text, false) : std::nullopt;
  return value ? *value : Renderer::given(a[0]) ? a[0] : number(0.0);
}

Value do_round(Renderer&, const Value& v, const Args& args) {
  const auto a = Renderer::bind("round", args, {"precision", "method"});
  const int64_t precision = Renderer::given(a[0]) ? Renderer::need_integer(a[0], "round") : 0;
  const std::string method = Renderer::given(a[1]) ? Renderer::need_text(a[1], "round") : "common";
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

Value do_reverse(Renderer& r, const Value& v, const Args& args) {
  Renderer::bind("reverse", args, {});
  if (v.kind == Kind::string) {
    Text text = decode(v.object->text);
    std::reverse(text.begin(), text.end());
    return r.text(text);
  }
  std::vector<Value> items = r.all(v);
  std::reverse(items.begin(), items.end());
  const Value list = r.sequence(Kind::list, std::move(items));
  return v.kind == Kind::generator ? list : r.generator(list, r.iterate(list));
}

Value do_join(Renderer& r, const Value& v, const Args& args) {
  const auto a = Renderer::bind("join", args, {"d", "attribute"});
  std::vector<Value> items = r.all(v);
  if (Renderer::given(a[1]) && a[1].kind != Kind::none)
    for (Value& item : items) item = r.follow(item, a[1]);
  return r.joined(items, Renderer::given(a[0]) ? a[0] : r.text(std::string()));
}

std::string replaced(Renderer& r, const std::string& bytes, const std::string& from,
                     const std::string& to, int64_t count) {
  std::string out;
  size_t at = 0;
  if (from.empty()) {  // before every character and at the end
    for (const char32_t c : decode(bytes)) {
      if (count != 0) r.grow(out, to), --count;
      r.charge(1);
      append_code_point(out, c);
    }
    if (count != 0) r.grow(out, to);
    return out;
  }
  for (size_t found; count != 0 && (found = bytes.find(from, at)) != std::string::npos; --count) {
    r.charge(1);
    r.grow(out, std::string_view(bytes).substr(at, found - at));
    r.grow(out, to);
    at = found + from.size();
  }
  r.grow(out, std::string_view(bytes).substr(at));
  return out;
}

Value do_last(Renderer& r, const Value& v, const Args& args) {
  Renderer::bind("last", args, {});
  if (v.kind == Kind::generator)
    throw Fault{"last cannot take a generator", "put |list in between"};
  const std::vector<Value> items = r.all(v);
  return items.empty() ? undefined("the sequence was empty") : items.back();
}

Value do_first(Renderer& r, const Value& v, const Args& args) {
  Renderer::bind("first", args, {});
  Value item;
  return r.iterate(v)(item) ? item : undefined("the sequence was empty");
}

Value do_title(Renderer& r, const Value& v, const Args& args) {
  Renderer::bind("title", args, {});
  Text text = decode(r.str(v));
  bool starts = true;
  for (char32_t& c : text) {
    const bool parts = c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || is_space(c);
    c = starts ? upper(c) : lower(c);
    starts = parts;
  }
  return r.text(text);
}

Value do_escape(Renderer& r, const Value& v, const Args& args) {
  Renderer::bind("escape", args, {});
  return with_text(Kind::markup, r.escaped(v));
}

// A table: an entry for each filter that templates may name.
const std::unordered_map<std::string, Filter>& filters() {
  static const std::unordered_map<std::string, Filter> table = {
      {"abs",
       [](Renderer&, const Value& v, const Args& args) {
         Renderer::bind("abs", args, {});
         need_defined(v);
         if (!is_number(v)) throw Fault{"abs needs a number, not " + type_name(v)};
         return v.kind == Kind::real ? number(std::abs(v.real))
                : v.integer < 0      ? Renderer::arithmetic("-", number(int64_t{0}), v)
                                     : number(v.integer);
       }},
      {"capitalize",
       [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("capitalize", args, {}), r.text(capitalized(decode(r.str(v))));
       }},
      {"default",
       [](Renderer& r, const Value& v, const Args& args) {
         const auto a = Renderer::bind("default", args, {"default_value", "boolean"});
         return v.kind == Kind::undefined || (r.flag(a[1]) && !r.truth(v))
                    ? (Renderer::given(a[0]) ? a[0] : r.text(std::string()))
                    : v;
       }},
      {"dictsort", do_dictsort},
      {"escape", do_escape},
      {"first", do_first},
      {"float", do_float},
      {"format",
       [](Renderer& r, const Value& v, const Args& args) {
         if (!args.list.empty() && !args.named.empty())
           throw Fault{"format takes arguments by position or by name, not both"};
         return r.format(r.str(v), args.named.empty() ? r.sequence(Kind::tuple, args.list)
                                                      : r.sequence(Kind::dict, r.dict_of(args)));
       }},
      {"indent", do_indent},
      {"int", do_int},
      {"items",
       [](Renderer& r, const Value& v, const Args& args) {
         Renderer::bind("items", args, {});
         if (v.kind != Kind::dict && v.kind != Kind::undefined)
           throw Fault{"items needs a mapping, not " + type_name(v)};
         const Value pairs =
             v.kind == Kind::dict ? r.view(v, Kind::items) : r.sequence(Kind::list, {});
         return r.generator(pairs, r.iterate(pairs));
       }},
      {"join", do_join},
      {"last", do_last},
      {"length",
       [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("length", args, {}), number(r.length(v));
       }},
      {"list",
       [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("list", args, {}), r.sequence(Kind::list, r.all(v));
       }},
      {"lower",
       [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("lower", args, {}), r.text(mapped(decode(r.str(v)), lower));
       }},
      {"map", do_map},
      {"reject", [](Renderer& r, const Value& v,
                    const Args& args) { return do_select(r, v, args, false, false); }},
      {"rejectattr", [](Renderer& r, const Value& v,
                        const Args& args) { return do_select(r, v, args, false, true); }},
      {"replace",
       [](Renderer& r, const Value& v, const Args& args) {
         const auto a = Renderer::bind("replace", args, {"old", "new", "count"}, 2);
         const int64_t count = Renderer::given(a[2]) && a[2].kind != Kind::none
                                   ? Renderer::need_integer(a[2], "replace")
                                   : -1;
         return r.text(replaced(r, r.str(v), r.str(a[0]), r.str(a[1]), count));
       }},
      {"reverse", do_reverse},
      {"round", do_round},
      {"safe",
       [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("safe", args, {}), with_text(Kind::markup, r.str(v));
       }},
      {"select", [](Renderer& r, const Value& v,
                    const Args& args) { return do_select(r, v, args, true, false); }},
      {"selectattr", [](Renderer& r, const Value& v,
                        const Args& args) { return do_select(r, v, args, true, true); }},
      {"sort", do_sort},
      {"string",
       [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("string", args, {}), v.kind == Kind::markup ? v : r.text(r.str(v));
       }},
      {"title", do_title},
      {"tojson", do_tojson},
      {"trim",
       [](Renderer& r, const Value& v, const Args& args) {
         const auto a = Renderer::bind("trim", args, {"chars"});
         if (!Renderer::given(a[0]) || a[0].kind == Kind::none)
           return r.text(stripped(decode(r.str(v)), true, true));
         const Text chars = decode(Renderer::need_text(a[0], "trim"));
         return r.text(stripped(decode(r.str(v)), true, true, &chars));
       }},
      {"unique", do_unique},
      {"upper", [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("upper", args, {}), r.text(mapped(decode(r.str(v)), upper));
       }}};
  static const auto with_aliases = [] {
    auto all = table;
    all["count"] = all["length"];
    all["d"] = all["default"];
    all["e"] = all["escape"];
    return all;
  }();
  return with_aliases;
}

Test simple_test(bool (*property)(const Value&)) {
  return [property](Renderer&, const Value& v, const Args& args) {
    return Renderer::bind("the test", args, {}), property(v);
  };
}
template <bool (*property)(char32_t)>
bool every(const Text& text) {  // of Python's isdigit and its like: false for an empty text
  return !text.empty() && std::all_of(text.begin(), text.end(), property);
}
bool only_case(const Text& text, char32_t (*f)(char32_t)) {
  return mapped(text, f) == text && std::any_of(text.begin(), text.end(), is_cased);
}

int64_t remainder(Renderer&, const Value& v, const Value& by) {
  need_defined(v);
  if (v.kind == Kind::string || !is_number(v))
    throw Fault{"this test needs a number, not " + type_name(v)};
  const Value rest = Renderer::arithmetic("%", v, by);
  return rest.kind == Kind::real ? (rest.real == 0 ? 0 : rest.real == 1 ? 1 : 2) : rest.integer;
}

Test comparison(const char* op) {
  return [op](Renderer& r, const Value& v, const Args& args) {
    return r.compared(op, v, Renderer::bind("the test", args, {"other"}, 1)[0]);
  };
}

// A table: an entry for each test that may follow `is`.
const std::unordered_map<std::string, Test>& tests() {
  static const std::unordered_map<std::string, Test> table = {
      {"==", comparison("==")},
      {"eq", comparison("==")},
      {"equalto", comparison("==")},
      {"!=", comparison("!=")},
      {"ne", comparison("!=")},
      {"<", comparison("<")},
      {"lt", comparison("<")},
      {"lessthan", comparison("<")},
      {"<=", comparison("<=")},
      {"le", comparison("<=")},
      {">", comparison(">")},
      {"gt", comparison(">")},
      {"greaterthan", comparison(">")},
      {">=", comparison(">=")},
      {"ge", comparison(">=")},
      {"in", comparison("in")},
      {"boolean", simple_test([](const Value& v) { return v.kind == Kind::boolean; })},
      {"callable", simple_test([](const Value& v) {
         return v.kind == Kind::undefined || v.kind >= Kind::loop;
       })},
      {"defined", simple_test([](const Value& v) { return v.kind != Kind::undefined; })},
      {"undefined", simple_test([](const Value& v) { return v.kind == Kind::undefined; })},
      {"false", simple_test([](const Value& v) { return v.kind == Kind::boolean && !v.integer; })},
      {"true", simple_test([](const Value& v) { return v.kind == Kind::boolean && v.integer; })},
      {"float", simple_test([](const Value& v) { return v.kind == Kind::real; })},
      {"integer", simple_test([](const Value& v) { return v.kind == Kind::integer; })},
      {"iterable", simple_test([](const Value& v) {
         return is_text(v) || is_items(v) || v.kind == Kind::dict || v.kind == Kind::generator ||
                v.kind == Kind::undefined || v.kind == Kind::loop;
       })},
      {"mapping", simple_test([](const Value& v) { return v.kind == Kind::dict; })},
      {"none", simple_test([](const Value& v) { return v.kind == Kind::none; })},
      {"number", simple_test([](const Value& v) { return is_number(v); })},
      {"sequence", simple_test([](const Value& v) {
         return is_text(v) || v.kind == Kind::list || v.kind == Kind::tuple ||
                v.kind == Kind::range || v.kind == Kind::dict || v.kind == Kind::undefined;
       })},
      {"string", simple_test([](const Value& v) { return is_text(v); })},
      {"divisibleby",
       [](Renderer& r, const Value& v, const Args& args) {
         const Value by = Renderer::bind("divisibleby", args, {"num"}, 1)[0];
         need_defined(by);
         if (!is_number(by)) throw Fault{"divisibleby needs a number"};
         return remainder(r, v, by) == 0;
       }},
      {"even",
       [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("even", args, {}), remainder(r, v, number(int64_t{2})) == 0;
       }},
      {"odd",
       [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("odd", args, {}), remainder(r, v, number(int64_t{2})) == 1;
       }},
      {"lower",
       [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("lower", args, {}), only_case(decode(r.str(v)), lower);
       }},
      {"upper",
       [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("upper", args, {}), only_case(decode(r.str(v)), upper);
       }},
      {"sameas", [](Renderer&, const Value& v, const Args& args) {
         const Value other = Renderer::bind("sameas", args, {"other"}, 1)[0];
         if (v.kind != other.kind) return false;
         if (v.kind != Kind::none && v.kind != Kind::boolean)
           throw Fault{"sameas knows true, false and none only"};
         return v.integer == other.integer;
       }}};
  return table;
}

// Methods of texts

// A character of \w that the is… methods judge; others outside ASCII are refused.
char32_t ascii(char32_t c) {
  if (c >= 0x80) throw Fault{"this method knows ASCII only"};
  return c;
}
bool is_letter(char32_t c) { return ascii(c | 32) >= 'a' && (c | 32) <= 'z'; }
bool is_ascii_digit(char32_t c) { return is_digit(ascii(c)); }
bool is_letter_or_digit(char32_t c) { return is_letter(c) || is_digit(c); }

template <bool left, bool right>
Value do_strip(Renderer& r, const Value& v, const Args& args) {
  const auto a = Renderer::bind("strip", args, {"the characters"});
  const bool chosen = Renderer::given(a[0]) && a[0].kind != Kind::none;
  const Text chars = chosen ? decode(Renderer::need_text(a[0], "strip")) : Text();
  return r.text(stripped(decode(v.object->text), left, right, chosen ? &chars : nullptr));
}

template <bool from_right>
Value do_split(Renderer& r, const Value& v, const Args& args) {
  const auto a = Renderer::bind("split", args, {"sep", "maxsplit"});
  int64_t limit = Renderer::given(a[1]) ? Renderer::need_integer(a[1], "split") : -1;
  Text text = decode(v.object->text), by = Renderer::given(a[0]) && a[0].kind != Kind::none
                                               ? decode(Renderer::need_text(a[0], "split"))
                                               : Text();
  const bool spaces = !Renderer::given(a[0]) || a[0].kind == Kind::none;
  if (!spaces && by.empty()) throw Fault{"a text cannot be split at an empty one"};
  if (from_right) std::reverse(text.begin(), text.end()), std::reverse(by.begin(), by.end());
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
    items.push_back(r.text(part));
  }
  return r.sequence(Kind::list, std::move(items));
}

template <bool at_end>
Value do_affix(Renderer&, const Value& v, const Args& args) {
  const auto a = Renderer::bind("startswith or endswith", args, {"the text"}, 1);
  const auto has = [&](const Value& affix) {
    const std::string& text = Renderer::need_text(affix, "startswith or endswith");
    return at_end ? v.object->text.ends_with(text) : v.object->text.starts_with(text);
  };
  if (a[0].kind != Kind::tuple) return boolean(has(a[0]));
  return boolean(std::any_of(a[0].object->items.begin(), a[0].object->items.end(), has));
}

template <bool last, bool must>
Value do_find(Renderer&, const Value& v, const Args& args) {
  const auto a = Renderer::bind("find", args, {"the text"}, 1);
  const std::string& sub = Renderer::need_text(a[0], "find");
  const size_t at = last ? v.object->text.rfind(sub) : v.object->text.find(sub);
  if (must && at == std::string::npos) throw Fault{"the text does not hold " + repr_text(sub)};
  return number(at == std::string::npos ? int64_t{-1}
                                        : static_cast<int64_t>(code_points(
                                              std::string_view(v.object->text).substr(0, at))));
}

Filter text_property(bool (*property)(const Text&)) {
  return [property](Renderer&, const Value& v, const Args& args) {
    return Renderer::bind("the method", args, {}), boolean(property(decode(v.object->text)));
  };
}

// "{} {name}".format(…), without format specifications.
Value do_format(Renderer& r, const Value& v, const Args& args) {
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
        r.grow(out, r.str(args.list[index]));
      } else {
        const auto found =
            std::find_if(args.named.begin(), args.named.end(),
                         [&](const auto& argument) { return argument.first == field; });
        if (found == args.named.end()) throw Fault{"a format lacks the value " + field};
        r.grow(out, r.str(found->second));
      }
      i = end;
    }
  }
  return r.text(std::move(out));
}

// A table: an entry for each of Python's methods of str that templates call.
const std::unordered_map<std::string, Filter>& text_methods() {
  static const std::unordered_map<std::string, Filter> table = {
      {"capitalize",
       [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("capitalize", args, {}), r.text(capitalized(decode(v.object->text)));
       }},
      {"count",
       [](Renderer&, const Value& v, const Args& args) {
         const auto a = Renderer::bind("count", args, {"the text"}, 1);
         const std::string& sub = Renderer::need_text(a[0], "count");
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
       [](Renderer& r, const Value& v, const Args& args) {
         const auto a = Renderer::bind("join", args, {"the texts"}, 1);
         need_defined(a[0]);
         std::string out;
         bool first = true;
         const Iterator next = r.iterate(a[0]);
         for (Value item; next(item); first = false) {
           if (!first) r.grow(out, v.object->text);
           r.grow(out, Renderer::need_text(item, "join"));
         }
         return r.text(std::move(out));
       }},
      {"lower",
       [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("lower", args, {}), r.text(mapped(decode(v.object->text), lower));
       }},
      {"lstrip", do_strip<true, false>},
      {"removeprefix",
       [](Renderer& r, const Value& v, const Args& args) {
         const auto a = Renderer::bind("removeprefix", args, {"the prefix"}, 1);
         const std::string& prefix = Renderer::need_text(a[0], "removeprefix");
         return v.object->text.starts_with(prefix) ? r.text(v.object->text.substr(prefix.size()))
                                                   : v;
       }},
      {"removesuffix",
       [](Renderer& r, const Value& v, const Args& args) {
         const auto a = Renderer::bind("removesuffix", args, {"the suffix"}, 1);
         const std::string& suffix = Renderer::need_text(a[0], "removesuffix");
         return v.object->text.ends_with(suffix)
                    ? r.text(v.object->text.substr(0, v.object->text.size() - suffix.size()))
                    : v;
       }},
      {"replace",
       [](Renderer& r, const Value& v, const Args& args) {
         const auto a =
             Renderer::bind("replace", args, {"the old text", "the new text", "the count"}, 2);
         return r.text(
             replaced(r, v.object->text, Renderer::need_text(a[0], "replace"),
                      Renderer::need_text(a[1], "replace"),
                      Renderer::given(a[2]) ? Renderer::need_integer(a[2], "replace") : -1));
       }},
      {"rfind", do_find<true, false>},
      {"rsplit", do_split<true>},
      {"rstrip", do_strip<false, true>},
      {"split", do_split<false>},
      {"splitlines",
       [](Renderer& r, const Value& v, const Args& args) {
         const auto a = Renderer::bind("splitlines", args, {"keepends"});
         std::vector<Value> lines;
         for (const Text& line : split_lines(decode(v.object->text), r.flag(a[0])))
           lines.push_back(r.text(line));
         return r.sequence(Kind::list, std::move(lines));
       }},
      {"startswith", do_affix<false>},
      {"strip", do_strip<true, true>},
      {"title",
       [](Renderer& r, const Value& v, const Args& args) {
         Renderer::bind("title", args, {});
         Text text = decode(v.object->text);
         bool inside = false;
         for (char32_t& c : text) {
           c = inside ? lower(c) : upper(c);
           inside = is_cased(c);
         }
         return r.text(text);
       }},
      {"upper", [](Renderer& r, const Value& v, const Args& args) {
         return Renderer::bind("upper", args, {}), r.text(mapped(decode(v.object->text), upper));
       }}};
  return table;
}

}  // namespace
}  // namespace jinja

Template::Template(const std::string& source, const std::string& name, TemplateOptions options)
    : program_(std::make_shared<const jinja::Program>(jinja::parse(source, name))),
      options_(options) {}

std::string Template::render(const Json& context, std::vector<Generated>* generated) const {
  int line = 0;
  try {
    jinja::Renderer renderer(context, options_, generated);
    try {
      return renderer.run(program_->body, program_->hidden);
    } catch (const jinja::Fault&) {
      line = renderer.line();
      throw;
    }
  } catch (const jinja::Fault& fault) {
    throw Error(fault.what, {.file = program_->name, .line = line}, fault.hint);
  }
}

bool Template::marks_generation() const { return program_->marks_generation; }
bool Template::names(const std::string& word) const { return program_->words.contains(word); }

}  // namespace inoculum
