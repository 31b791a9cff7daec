// Bytes as the characters that byte-level vocabularies spell them with.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/base/strings.h"

namespace inoculum::tokenizer_json {

// Byte-level vocabularies spell each byte as a printable character: itself where it is one, else
// from U+0100 on.
struct ByteCharacters {
  std::array<std::string, 256> of_byte;
  std::unordered_map<char32_t, char> to_byte;

  ByteCharacters() {
    char32_t next = 256;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
      const char32_t c = printable ? byte : next++;
      append_code_point(of_byte[byte], c);
      to_byte[c] = static_cast<char>(byte);
    }
  }
  // Nothing where a character stands for no byte.
  std::optional<std::string> bytes_of(std::string_view text) const {
    std::string bytes;
    for (size_t at = 0; at < text.size();) {
      const CodePoint c = code_point_at(text, at);
      const auto found = to_byte.find(c.code);
      if (found == to_byte.end()) return std::nullopt;
      bytes += found->second;
      at += c.bytes;
    }
    return bytes;
  }
};

}  // namespace inoculum::tokenizer_json
