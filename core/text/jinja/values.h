// The values of chat templates (core/text/jinja/jinja.h): Python's, as far as templates see them.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace inoculum::jinja {

// Enough for any conversation; a hostile template meets them within seconds.
constexpr int64_t kMaxSteps = 20'000'000;
constexpr size_t kMaxText = size_t{32} << 20;
constexpr int kMaxNesting = 100;    // of values
constexpr int kMaxNodeDepth = 200;  // of expressions and statements
constexpr int kMaxEvalDepth = 400;

// Thrown where the line is not known; Template turns it into an Error.
struct Fault {
  std::string what, hint = {};
};

// Text. Python counts code points.
using Text = std::u32string;

Text decode(std::string_view bytes);  // Fault where it is not UTF-8
std::string encode(std::u32string_view text);
size_t code_points(std::string_view bytes);

inline bool is_one_of(char c, std::string_view set) { return set.find(c) != set.npos; }
bool is_space(char32_t c);
inline bool is_digit(char32_t c) { return c >= '0' && c <= '9'; }
// Case is known for ASCII, Latin-1 and Cyrillic, and for the blocks that have none; other letters
// are a Fault.
char32_t upper(char32_t c);
char32_t lower(char32_t c);
bool is_cased(char32_t c);
Text mapped(Text text, char32_t (*f)(char32_t));
Text capitalized(Text text);
// Whether it has letters with cases, and is what `f` makes of it.
bool only_case(const Text& text, char32_t (*f)(char32_t));
Text stripped(const Text& text, bool left, bool right, const Text* chars = nullptr);
std::vector<Text> split_lines(const Text& text, bool keep_ends);

std::string hexadecimal(const char* prefix, unsigned value, int digits);
std::string repr_text(const std::string& bytes);  // Python's repr of a str
std::string shown(double value);                  // Python's repr of a float

// Values

struct Node;
struct Object;
struct Loop;
using Iterator = std::function<bool(struct Value&)>;  // false at the end

enum class Kind {
  absent,
  undefined,
  none,
  boolean,
  integer,
  real,
  string,
  markup,
  list,
  tuple,
  range,
  keys,
  values,
  items,
  dict,
  generator,
  space,
  loop,
  macro,
  method,
  function
};

struct Value {
  Kind kind = Kind::undefined;
  int64_t integer = 0;  // boolean, integer
  double real = 0;
  std::shared_ptr<Object> object;
};

struct Object {
  // Of a string; of an undefined value, why; of a range, how it prints; of a method or function,
  // its name.
  std::string text;
  // Of a dict or namespace: key, value, key, value, …; of a method, whose it is.
  std::vector<Value> items;
  Iterator pull;  // of a generator
  const Node* macro = nullptr;
  Loop* loop = nullptr;
  int depth = 1;
};

struct Loop {
  Iterator pull;
  std::list<Value> ahead;
  Value before, current;
  int64_t index0 = -1;
  bool over = false;
  std::optional<Value> changed = {};

  bool peek() {
    Value value;
    if (ahead.empty() && pull(value)) ahead.push_back(std::move(value));
    return !ahead.empty();
  }
  bool next() {
    if (!peek()) return false;
    before = std::move(current);
    current = std::move(ahead.front());
    ahead.pop_front();
    ++index0;
    return true;
  }
  int64_t length() {
    for (Value value; pull(value);) ahead.push_back(std::move(value));
    return index0 + 1 + static_cast<int64_t>(ahead.size());
  }
};

struct Args {
  std::vector<Value> list;
  std::vector<std::pair<std::string, Value>> named;
};

std::string type_name(const Value& v);
// Attributes that Python's types have; `mutators`: those that change the object, which the sandbox
// forbids.
bool python_has(const Value& v, const std::string& name, bool mutators);
Value with_text(Kind kind, std::string text);

inline Value number(int64_t value) { return {Kind::integer, value, 0, nullptr}; }
inline Value number(double value) { return {Kind::real, 0, value, nullptr}; }
inline Value boolean(bool value) { return {Kind::boolean, value, 0, nullptr}; }
inline const Value kNone = {Kind::none, 0, 0, nullptr};
inline Value undefined(std::string why) { return with_text(Kind::undefined, std::move(why)); }

inline bool is_text(const Value& v) { return v.kind == Kind::string || v.kind == Kind::markup; }
inline bool is_integer(const Value& v) {
  return v.kind == Kind::integer || v.kind == Kind::boolean;
}
inline bool is_number(const Value& v) { return is_integer(v) || v.kind == Kind::real; }
inline bool is_items(const Value& v) {  // has plain items
  return v.kind >= Kind::list && v.kind <= Kind::items;
}
inline double as_real(const Value& v) {
  return v.kind == Kind::real ? v.real : static_cast<double>(v.integer);
}

[[noreturn]] inline void fail_undefined(const Value& v) {
  throw Fault{v.object ? v.object->text : "a value is undefined"};
}
inline void need_defined(const Value& v) {
  if (v.kind == Kind::undefined) fail_undefined(v);
}

}  // namespace inoculum::jinja
