// Text to token ids and back.
//
//   auto tokenizer = load_tokenizer("experiments/models/persona_1");
//   tokenizer->decode(tokenizer->encode(text)) == text;      // for every valid UTF-8 text, but for
//                                  // the space that a tokenizer.model may put before it
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace inoculum {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;  // no begin or end token
  // Also what the tokenizer itself puts around a text, such as a begin token. Not for rendered
  // chats: they hold theirs.
  virtual std::vector<int32_t> encode_with_special_tokens(std::string_view text) const {
    return encode(text);
  }
  virtual std::string decode(std::span<const int32_t> ids) const = 0;
  // With special tokens, for people.
  virtual std::string show(std::span<const int32_t> ids) const { return decode(ids); }
  // For showing; "" where there is none.
  virtual std::string piece(int32_t id) const { return decode({&id, 1}); }
  virtual int64_t vocab_size() const = 0;                           // one more than the largest id
  virtual int64_t base_vocab_size() const { return vocab_size(); }  // the same without added tokens
  virtual int32_t bos_id() const = 0;                               // −1: there is none
  virtual int32_t eos_id() const = 0;
  // Those behind which a model says no more.
  virtual std::vector<int32_t> end_ids() const {
    return eos_id() < 0 ? std::vector<int32_t>{} : std::vector<int32_t>{eos_id()};
  }
  // Of a whole piece, such as "<|end|>".
  virtual std::optional<int32_t> id_of(std::string_view piece) const = 0;
};

}  // namespace inoculum
