#include "datasets/conversations/json_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/base/strings.h"

namespace inoculum {
namespace {

// Goes through a file's text, past white space and comments.
class Cursor {
 public:
  Cursor(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  bool done() const { return at_ == text_.size(); }
  char peek() const { return text_[at_]; }
  size_t at() const { return at_; }
  int line() const { return line_; }
  void step() { line_ += text_[at_++] == '\n'; }

  void skip_blank() {
    while (!done())
      if (peek() == ' ' || peek() == '\t' || peek() == '\r' || peek() == '\n') step();
      else if (!skip_comment()) return;
  }
  bool skip_comment() {
    const std::string_view rest = text_.substr(at_);
    const bool block = rest.starts_with("/*");
    if (!block && !rest.starts_with("//")) return false;
    const size_t end = block ? rest.find("*/", 2) : std::min(rest.find('\n'), rest.size());
    if (end == std::string_view::npos)
      throw Error("the comment is not closed", {.file = file_, .line = line_}, "end it with */");
    for (const size_t to = at_ + end + (block ? 2 : 0); at_ < to;) step();
    return true;
  }
  std::string_view rest_of_line() {
    const size_t begin = at_;
    at_ = std::min(text_.find('\n', at_), text_.size());
    return text_.substr(begin, at_ - begin);
  }
  // One value of a list, up to the comma or bracket after it, which must come.
  std::string_view value() {
    const size_t begin = at_;
    const int first = line_;
    size_t depth = 0;
    while (!done()) {
      const char c = peek();
      if (c == '/' && skip_comment()) continue;
      if (depth == 0 && (c == ',' || c == ']')) return text_.substr(begin, at_ - begin);
      if (c == '{' || c == '[') ++depth;
      if ((c == '}' || c == ']') && depth > 0) --depth;
      step();
      if (c != '"') continue;
      while (!done() && peek() != '"') {
        if (peek() == '\\') step();
        if (!done()) step();
      }
      if (!done()) step();
    }
    throw Error("the file ends inside this row", {.file = file_, .line = first},
                "a JSON list ends with ]; is the file cut off?");
  }

 private:
  std::string_view text_;
  const std::string& file_;
  size_t at_ = 0;
  int line_ = 1;
};

// Python's json module writes NaN, Infinity and -Infinity, and reads numbers that overflow as
// infinite. Here they are written as the largest number, which nobody writes, and read as what they
// were. The text is as it was where it holds none.
const double kLargest = std::numeric_limits<double>::max();
std::string without_python_numbers(std::string_view row) {
  std::string out;
  for (size_t i = 0; i < row.size();) {
    size_t length = 1;
    bool is_nan = false, replaced = false;
    const std::string_view rest = row.substr(i);
    if (row[i] == '"') {
      while (i + length < row.size() && row[i + length] != '"')
        length += row[i + length] == '\\' ? 2 : 1;
      length = std::min(length + 1, rest.size());
    } else if (rest.starts_with("NaN")) {
      length = 3;
      is_nan = replaced = true;
    } else if (const size_t sign = row[i] == '-'; rest.substr(sign).starts_with("Infinity")) {
      length = sign + 8;
      replaced = true;
    } else if (row[i] == '-' || (row[i] >= '0' && row[i] <= '9')) {
      length = std::min(rest.find_first_not_of("+-.0123456789Ee"), rest.size());
      replaced = std::isinf(std::strtod(std::string(rest.substr(0, length)).c_str(), nullptr));
    }
    if (!replaced) out += rest.substr(0, length);
    else if (is_nan) out += "1.7976931348623157e308";
    else out += row[i] == '-' ? "-1.7976931348623155e308" : "1.7976931348623155e308";
    i += length;
  }
  return out;
}
bool restore_python_numbers(int, Json::parse_event_t event, Json& value) {
  if (event != Json::parse_event_t::value || !value.is_number_float()) return true;
  const double number = value.get<double>(), infinite = std::nextafter(kLargest, 0);
  if (number == kLargest) value = std::numeric_limits<double>::quiet_NaN();
  if (std::abs(number) == infinite)
    value = std::copysign(std::numeric_limits<double>::infinity(), number);
  return true;
}

// What is wrong with a row that is not JSON, for Python neither; `offset` is its place in the file.
[[noreturn]] void fail_row(const Json::exception& failure, std::string_view row, size_t offset,
                           const Where& begin) {
  const auto where = [&](size_t at) {
    const auto end = row.begin() + static_cast<std::ptrdiff_t>(std::min(at, row.size()));
    return Where{.file = begin.file,
                 .line = begin.line + static_cast<int>(std::count(row.begin(), end, '\n'))};
  };
  for (size_t at = 0; at < row.size();) {
    const CodePoint c = code_point_at(row, at);
    if (!c.valid)
      throw Error("byte " + std::to_string(offset + at) + " of the file is not UTF-8", where(at),
                  "convert the file to UTF-8");
    at += c.bytes;
  }
  const auto* syntax = dynamic_cast<const Json::parse_error*>(&failure);
  if (syntax && std::string_view(syntax->what()).find("surrogate") != std::string_view::npos)
    throw Error("holds half a surrogate pair, which is no character", where(syntax->byte),
                "the text was cut inside an emoji, or the like: remove the \\u escape");
  fail_json(failure, row, begin, "this line is not JSON", "each row must be one whole JSON object");
}

}  // namespace

void for_each_row(std::string_view text, const std::string& file,
                  const std::function<void(std::string_view, int)>& row) {
  Cursor cursor(text, file);
  cursor.skip_blank();
  if (cursor.done() || cursor.peek() != '[') {
    for (; !cursor.done(); cursor.skip_blank()) {
      const int line = cursor.line();
      row(cursor.rest_of_line(), line);
    }
    return;
  }
  cursor.step();
  cursor.skip_blank();
  bool more = cursor.done() || cursor.peek() != ']';
  while (more) {
    cursor.skip_blank();
    const int line = cursor.line();
    row(cursor.value(), line);
    more = cursor.peek() == ',';
    if (more) cursor.step();
  }
  cursor.step();
  cursor.skip_blank();
  if (!cursor.done())
    throw Error("something follows the end of the list", {.file = file, .line = cursor.line()},
                "one JSON list, or one JSON object a line");
}

void refuse_other_kinds(std::string_view text, const std::string& file) {
  refuse_lfs_pointer(text, file);
  static const std::vector<std::pair<std::string_view, std::pair<const char*, const char*>>> kinds =
      {{"\x1F\x8B", {"is compressed with gzip", "unpack it with `gunzip`"}},
       {"\x28\xB5\x2F\xFD", {"is compressed with Zstandard", "unpack it with `unzstd`"}},
       {"PK\x03\x04", {"is a ZIP archive", "unpack it with `unzip`"}},
       {"PAR1",
        {"is a Parquet file",
         "write it as JSON Lines, for example with pandas: to_json(orient=\"records\", "
         "lines=True)"}},
       {"\xFF\xFE", {"is UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"}},
       {"\xFE\xFF", {"is UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"}}};
  for (const auto& [magic, what] : kinds)
    if (text.starts_with(magic))
      throw Error(std::string("this ") + what.first, {.file = file}, what.second);
}

Json parse_row(std::string_view row, size_t offset, const Where& where) {
  refuse_deep_json(row, where);
  const auto parsed = [&](std::string_view text, const Json::parser_callback_t& callback) {
    Json json = Json::parse(text, callback, true, true);
    refuse_given_twice(text, json, where);
    return json;
  };
  try {
    return parsed(row, nullptr);
  } catch (const Json::exception& failure) {
    const std::string python = without_python_numbers(row);
    if (python == row) fail_row(failure, row, offset, where);
    try {
      return parsed(python, restore_python_numbers);
    } catch (const Json::exception&) {
      fail_row(failure, row, offset, where);  // something else is wrong
    }
  }
}

}  // namespace inoculum
