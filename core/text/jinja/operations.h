// What templates do with values (core/text/jinja/values.h): Python's operations, and the filters,
// tests and methods that are made of them, within limits of time and size.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/files.h"
#include "core/text/jinja/values.h"

namespace inoculum::jinja {

class Operations;
using Filter = std::function<Value(Operations&, const Value&, const Args&)>;
using Test = std::function<bool(Operations&, const Value&, const Args&)>;

// An entry for each name that templates may use.
const std::unordered_map<std::string, Filter>& filters();
const std::unordered_map<std::string, Test>& tests();           // that may follow `is`
const std::unordered_map<std::string, Filter>& text_methods();  // Python's of str

// A filter or a method that takes no arguments.
Filter no_arguments(const char* name, Value (*apply)(Operations&, const Value&));

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

class Operations {
 public:
  // Both as in TemplateOptions.
  Operations(bool autoescape, bool limits) : autoescape_(autoescape), limits_(limits) {}

  // What every operation costs, so that the end comes in finite time and space.
  void charge(size_t steps);
  void grow(std::string& out, std::string_view more);

  // New values.
  Value text(std::string bytes);
  Value text(const Text& code_points) { return text(encode(code_points)); }
  Value sequence(Kind kind, std::vector<Value> items);
  Value generator(const Value& source, Iterator pull);
  Value from_json(const Json& json);
  std::vector<Value> dict_of(const Args& args);  // the pairs of Python's dict(…)

  // Values as text.
  std::string str(const Value& v);
  void repr(const Value& v, std::string& out);
  std::string escaped(const Value& v);  // for a page: markup as it is, all else as by MarkupSafe
  std::string written(const Value& v) { return autoescape_ ? escaped(v) : str(v); }
  // What a macro or a block wrote: where values are escaped as they are written, it is markup.
  Value captured(std::string bytes);
  // Markup if one of them is, and then the others are escaped.
  Value joined(const std::vector<Value>& parts, const Value& between);
  Value format(const std::string& pattern, const Value& arguments);  // "%s: %5.2f" % arguments
  // JSON as Python's json.dumps writes it.
  struct JsonStyle {
    bool ascii = false, sorted = false;
    std::optional<std::string> indent = {};
    std::string comma = ", ", colon = ": ";
  };
  void write_json(const Value& v, const JsonStyle& style, const std::string& margin,
                  std::string& out);

  // Truth and comparisons.
  bool truth(const Value& v) const;
  bool equal(const Value& a, const Value& b);
  static bool same(const Value& a, const Value& b) { return a.object && a.object == b.object; }
  int order(const Value& a, const Value& b);  // −1, 0, 1, or 2 where nothing is ordered (NaN)
  bool compared(const std::string& op, const Value& a, const Value& b);

  // Containers.
  bool contains(const Value& container, const Value& item);
  void need_hashable(const Value& v);
  const Value* find(const Object& pairs, const Value& key);
  void put(std::vector<Value>& pairs, const Value& key, Value value);
  Iterator iterate(const Value& v);
  std::vector<Value> all(const Value& v);
  int64_t length(const Value& v);
  Value view(const Value& dict, Kind kind);  // its keys, values or items

  // Attributes and items.
  Value attribute(const Value& v, const std::string& name);
  Value item(const Value& v, const Value& key);
  Value slice(const Value& v, const Value* parts);  // begin, end and step
  // `path` is a name, an index, or several with dots between them, as filters take them.
  Value follow(Value v, const Value& path, const Value& otherwise = {Kind::absent, 0, 0, nullptr});

  // Operators.
  Value binary(const std::string& op, const Value& a, const Value& b);
  static Value arithmetic(const std::string& op, const Value& a, const Value& b);

  // Arguments by position or name; those not given have Kind::absent. A name with a space is one
  // that only a position can give.
  static std::vector<Value> bind(const char* what, const Args& args,
                                 std::initializer_list<const char*> names, size_t required = 0);
  static bool given(const Value& v) { return v.kind != Kind::absent; }
  bool flag(const Value& v) const { return given(v) && truth(v); }
  static const std::string& need_text(const Value& v, const char* what);
  static int64_t need_integer(const Value& v, const char* what);

  // Calls by name.
  Value filtered(const std::string& name, const Value& v, const Args& args);
  bool tested(const std::string& name, const Value& v, const Args& args);
  Value call_method(const Value& self, const std::string& name, const Args& args);

 protected:
  int deeper() const;  // the depth one further down, see Restored

  int depth_ = 0;

 private:
  static Value missing(const Value& v, const std::string& name);
  static Value loop_attribute(const Value& v, const std::string& name);

  const bool autoescape_, limits_;
  int64_t steps_ = 0;
};

// Text in which `from` is replaced, `count` times at most; a negative count has no limit.
std::string replaced(Operations& ops, const std::string& bytes, const std::string& from,
                     const std::string& to, int64_t count);

}  // namespace inoculum::jinja
