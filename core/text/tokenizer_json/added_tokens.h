// Added tokens: those that stand in a text as they are, whatever the vocabulary makes of the rest.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/text/special_tokens.h"
#include "core/text/unicode.h"

namespace inoculum::tokenizer_json {

// Finds added tokens in a text, the longest of those that begin at one place.
class AddedTokens {
 public:
  void add(const std::string& content, const AddedToken& token) {
    uint32_t node = 0;
    for (const char c : content)
      node = next_.try_emplace(edge(node, c), static_cast<uint32_t>(++nodes_)).first->second;
    begins_[static_cast<unsigned char>(content[0])] = true;
    tokens_.try_emplace(node, token);  // of two the same, the first counts
  }

  // Calls `found(token, begin, end)` for all parts of the text in order; the token is null for what
  // lies between.
  template <class Found>
  void split(std::string_view text, Found found) const {
    size_t from = 0;
    for (size_t at = 0; at < text.size();) {
      const auto [token, length] = longest(text, at);
      if (token == nullptr) {
        ++at;
        continue;
      }
      size_t begin = at, end = at + length;
      at = end;
      if (token->single_word && ((begin > 0 && is_word(character_before(text, begin))) ||
                                 (end < text.size() && is_word(code_point_at(text, end).code))))
        continue;
      if (token->lstrip) {
        while (begin > from && is_white_space(character_before(text, begin)))
          begin -= character_bytes_before(text, begin);
      }
      if (token->rstrip) {
        while (end < text.size() && is_white_space(code_point_at(text, end).code))
          end += code_point_at(text, end).bytes;
      }
      if (from < begin) found(nullptr, from, begin);
      found(token, begin, end);
      from = end;
    }
    if (from < text.size()) found(nullptr, from, text.size());
  }

 private:
  static uint64_t edge(uint32_t node, char c) {
    return uint64_t{node} << 8 | static_cast<unsigned char>(c);
  }
  static size_t character_bytes_before(std::string_view text, size_t at) {
    size_t bytes = 1;
    while ((static_cast<unsigned char>(text[at - bytes]) & 0xC0) == 0x80) ++bytes;
    return bytes;
  }
  static char32_t character_before(std::string_view text, size_t at) {
    return code_point_at(text, at - character_bytes_before(text, at)).code;
  }

  std::pair<const AddedToken*, size_t> longest(std::string_view text, size_t at) const {
    std::pair<const AddedToken*, size_t> best = {nullptr, 0};
    if (!begins_[static_cast<unsigned char>(text[at])]) return best;
    uint32_t node = 0;
    for (size_t i = at; i < text.size(); ++i) {
      const auto next = next_.find(edge(node, text[i]));
      if (next == next_.end()) break;
      node = next->second;
      if (const auto token = tokens_.find(node); token != tokens_.end())
        best = {&token->second, i + 1 - at};
    }
    return best;
  }

  std::unordered_map<uint64_t, uint32_t> next_;  // the trie of the tokens' bytes
  std::unordered_map<uint32_t, AddedToken> tokens_;
  std::array<bool, 256> begins_{};
  size_t nodes_ = 0;
};

}  // namespace inoculum::tokenizer_json
