// Text as bytes: numbers, UTF-8, words of a shell, and fields of CSV files.
#pragma once

#include <string>
#include <string_view>

namespace inoculum {

std::string six_digits(double value);               // six significant ones: 0.001, 1e+06
std::string_view strip(std::string_view text);      // without white space of ASCII at its ends
std::string ascii_lower(std::string_view text);     // other letters than ASCII's stay
std::string shell_quoted(const std::string& word);  // as a shell takes it for one word
std::string csv_field(const std::string& text);     // quoted where it must be (RFC 4180)
// At most so many bytes of it, and "…" where there is more; on one line.
std::string start_of(std::string_view text, size_t longest = 60);

struct CodePoint {
  char32_t code;
  size_t bytes;
  // Else `code` is U+FFFD and `bytes` the longest start of a character that stands there, at
  // least 1.
  bool valid;
};
CodePoint code_point_at(std::string_view text, size_t at);  // at < text.size()
void append_code_point(std::string& text, char32_t code);

// The text with every invalid part replaced by U+FFFD, as Python's bytes.decode("utf-8", "replace")
// does.
std::string valid_utf8(std::string_view text);

}  // namespace inoculum
