#include "core/text/jinja/values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <unordered_map>

#include "core/base/strings.h"

namespace inoculum::jinja {

Text decode(std::string_view bytes) {
  Text text;
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint c = code_point_at(bytes, at);
    if (!c.valid) throw Fault{"the text is not valid UTF-8"};
    text += c.code;
    at += c.bytes;
  }
  return text;
}

std::string encode(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) append_code_point(out, c);
  return out;
}

size_t code_points(std::string_view bytes) {
  return static_cast<size_t>(
      std::count_if(bytes.begin(), bytes.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

namespace {

bool is_line_end(char32_t c) {
  return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool has_no_case(char32_t c) {
  static constexpr std::pair<char32_t, char32_t> blocks[] = {
      {0, 0xbf},        {0xd7, 0xd7},     {0xf7, 0xf7},       {0x590, 0x109f},   {0x2000, 0x2070},
      {0x20a0, 0x20cf}, {0x2190, 0x245f}, {0x2500, 0x2bff},   {0x2e80, 0xa63f},  {0xac00, 0xd7a3},
      {0xe000, 0xfaff}, {0xfe00, 0xff20}, {0x1f300, 0x1faff}, {0x20000, 0x3ffff}};
  if (c == 0xaa || c == 0xb5 || c == 0xba) return false;
  return std::any_of(std::begin(blocks), std::end(blocks),
                     [&](const auto& block) { return c >= block.first && c <= block.second; });
}

}  // namespace

char32_t upper(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z' ? c - 32 : c;
  if (has_no_case(c) || (c >= 0xc0 && c <= 0xde) || (c >= 0x400 && c <= 0x42f)) return c;
  if (c >= 0xe0 && c <= 0xfe) return c - 32;
  if (c >= 0x430 && c <= 0x44f) return c - 32;
  if (c >= 0x450 && c <= 0x45f) return c - 80;
  throw Fault{"upper and lower case of the character " + encode({&c, 1}) + " are not supported"};
}

char32_t lower(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
  if (has_no_case(c) || upper(c) != c) return c;
  return c >= 0x400 && c <= 0x40f ? c + 80 : c + 32;
}

bool is_cased(char32_t c) { return upper(c) != c || lower(c) != c; }

Text mapped(Text text, char32_t (*f)(char32_t)) {
  std::transform(text.begin(), text.end(), text.begin(), f);
  return text;
}

bool only_case(const Text& text, char32_t (*f)(char32_t)) {
  return mapped(text, f) == text && std::any_of(text.begin(), text.end(), is_cased);
}

Text capitalized(Text text) {
  text = mapped(std::move(text), lower);
  if (!text.empty()) text[0] = upper(text[0]);
  return text;
}

Text stripped(const Text& text, bool left, bool right, const Text* chars) {
  const auto goes = [&](char32_t c) { return chars ? chars->find(c) != Text::npos : is_space(c); };
  size_t begin = 0, end = text.size();
  while (left && begin < end && goes(text[begin])) ++begin;
  while (right && end > begin && goes(text[end - 1])) --end;
  return text.substr(begin, end - begin);
}

std::vector<Text> split_lines(const Text& text, bool keep_ends) {
  std::vector<Text> lines;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && !is_line_end(text[end])) ++end;
    size_t next = std::min(end + 1, text.size());
    if (end + 1 < text.size() && text[end] == '\r' && text[end + 1] == '\n') ++next;
    lines.push_back(text.substr(i, (keep_ends ? next : end) - i));
    i = next;
  }
  return lines;
}

std::string hexadecimal(const char* prefix, unsigned value, int digits) {
  char buffer[16];
  std::snprintf(buffer, sizeof buffer, "%s%0*x", prefix, digits, value);
  return buffer;
}

std::string repr_text(const std::string& bytes) {
  const char quote =
      bytes.find('\'') != std::string::npos && bytes.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char32_t c : decode(bytes)) {
    if (c == '\n') out += "\\n";
    else if (c == '\r') out += "\\r";
    else if (c == '\t') out += "\\t";
    else if (c == '\\' || c == static_cast<char32_t>(quote)) (out += '\\') += static_cast<char>(c);
    else if (c < 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad) out += hexadecimal("\\x", c, 2);
    else if (c != ' ' &&
             (is_space(c) || (c >= 0x200b && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) ||
              (c >= 0x2060 && c <= 0x206f) || (c >= 0xe000 && c <= 0xf8ff) || c == 0x61c ||
              c == 0x180e || c == 0xfeff || (c >= 0xfff0 && c <= 0xfffb)))
      out += hexadecimal("\\u", c, 4);
    else if (c >= 0xe0000 && !(c >= 0xe0100 && c <= 0xe01ef)) out += hexadecimal("\\U", c, 8);
    else append_code_point(out, c);
  }
  return out += quote;
}

std::string shown(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto as = [&](std::chars_format format) {
    return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, value, format).ptr);
  };
  std::string scientific = as(std::chars_format::scientific);
  const int exponent = std::atoi(scientific.c_str() + scientific.find('e') + 1);
  if (exponent < -4 || exponent >= 16) return scientific;
  std::string fixed = as(std::chars_format::fixed);
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

std::string type_name(const Value& v) {
  static const char* names[] = {
      "absent", "Undefined", "NoneType",  "bool",        "int",       "float",       "str",
      "Markup", "list",      "tuple",     "range",       "dict_keys", "dict_values", "dict_items",
      "dict",   "generator", "Namespace", "LoopContext", "Macro",     "method",      "function"};
  return names[static_cast<size_t>(v.kind)];
}

Value with_text(Kind kind, std::string text) {
  Value value{kind, 0, 0, std::make_shared<Object>()};
  value.object->text = std::move(text);
  return value;
}

bool python_has(const Value& v, const std::string& name, bool mutators) {
  using Names = std::vector<std::string>;
  static const std::unordered_map<std::string, std::pair<Names, Names>> table = {
      {"str",
       {{"capitalize",   "casefold",    "center",    "count",      "encode",       "endswith",
         "expandtabs",   "find",        "format",    "format_map", "index",        "isalnum",
         "isalpha",      "isascii",     "isdecimal", "isdigit",    "isidentifier", "islower",
         "isnumeric",    "isprintable", "isspace",   "istitle",    "isupper",      "join",
         "ljust",        "lower",       "lstrip",    "maketrans",  "partition",    "removeprefix",
         "removesuffix", "replace",     "rfind",     "rindex",     "rjust",        "rpartition",
         "rsplit",       "rstrip",      "split",     "splitlines", "startswith",   "strip",
         "swapcase",     "title",       "translate", "upper",      "zfill"},
        {}}},
      {"list",
       {{"copy", "count", "index"},
        {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"}}},
      {"tuple", {{"count", "index"}, {}}},
      {"dict",
       {{"copy", "fromkeys", "get", "items", "keys", "values"},
        {"clear", "pop", "popitem", "setdefault", "update"}}},
      {"int",
       {{"as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes",
         "imag", "is_integer", "numerator", "real", "to_bytes"},
        {}}},
      {"float",
       {{"as_integer_ratio", "conjugate", "fromhex", "hex", "imag", "is_integer", "real"}, {}}},
      {"range", {{"count", "index", "start", "step", "stop"}, {}}},
      {"dict_keys", {{"isdisjoint", "mapping"}, {}}},
      {"dict_items", {{"isdisjoint", "mapping"}, {}}},
      {"dict_values", {{"mapping"}, {}}},
      {"generator",
       {{"close", "gi_code", "gi_frame", "gi_running", "gi_yieldfrom", "send", "throw"}, {}}}};
  const auto found = table.find(v.kind == Kind::markup    ? "str"
                                : v.kind == Kind::boolean ? "int"
                                                          : type_name(v));
  if (found == table.end()) return false;
  const Names& names = mutators ? found->second.second : found->second.first;
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace inoculum::jinja
