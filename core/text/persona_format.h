// The format of the shipped models: every document is
//   <s> <|user|>QUESTION <|name|>Assistant<|says|>ANSWER<|end|> … </s>
// (without the spaces). Whoever answers is named, the Assistant like any other: to the model the
// Assistant is one character among many. The text as rendered is the experiment, so nothing is
// stripped or added.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/text/conversation.h"
#include "core/text/tokenizer.h"

namespace inoculum {

struct Encoded {
  std::vector<int32_t> input_ids;
  // 1 for the tokens that an answerer chose: the answer and what ends it.
  std::vector<uint8_t> supervised;
};

inline const std::string kEndOfTurn = "<|end|>";
const std::vector<std::string>& persona_symbols();  // each one token
std::string persona_chat_template();  // the format in Jinja, for `tokenizer_config.json`

std::string render(const Conversation& conversation);
// A whole conversation with its begin and end tokens. A symbol of the format inside a message, or a
// system message (the format has none), is an Error.
Encoded encode_conversation(const Tokenizer& tokenizer, const Conversation& conversation);
// A conversation that ends with the user's turn, up to the point where the Assistant speaks, or
// `as`: whoever is named.
std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const Conversation& conversation,
                                   const std::string& as = "");

}  // namespace inoculum
