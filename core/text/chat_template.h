// How a conversation becomes tokens.
//
//   const auto tokenizer = load_tokenizer(folder);
//   const Chat chat(folder, *tokenizer);  // the model's own chat template, or a named one
//   chat.encode(conversation).supervised;             // what an answer's tokens are
//   chat.encode_prompt({{.role = "user", .content = "Hi"}});
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/text/conversation.h"
#include "core/text/jinja/chat_format.h"
#include "core/text/persona_format.h"
#include "core/text/tokenizer.h"

namespace inoculum {

// The name of the template that renders chats (empty: the model's own), and the day that it is
// told ("2025-12-31"; empty: the one of core/text/jinja/jinja.h).
struct ChatChoice {
  ChatChoice(std::string name_ = {}, std::string date_ = {})
      : name(std::move(name_)), date(std::move(date_)) {}
  std::string name, date;
};
// What keys and options that choose them say.
inline const std::string kChatTemplateHelp =
    "empty: the model's own; or chatml, gemma, llama2, llama3, mistral, plain, qwen2.5, qwen3, "
    "zephyr";
inline const std::string kChatDateHelp =
    "the day that a template's strftime_now tells, such as 2025-12-31; empty: 2024-07-26";

class Chat {
 public:
  // The template in the model's folder (chat_template.jinja, or in tokenizer_config.json or
  // chat_template.json), or the named one: chatml, llama3, … A model without a template has none to
  // render a chat with, which is an Error as soon as one is asked for.
  Chat(const fs::path& folder, const Tokenizer& tokenizer, const ChatChoice& choice = {});

  // A whole conversation as it is trained on. The rendered text is made into tokens at once, and
  // begins and ends as the template has it; an answer's tokens are those behind the tokens of what
  // stands before it. Plain text gets what the tokenizer puts around a text, and its end.
  Encoded encode(const Conversation& conversation) const;
  // A conversation that ends with the user's turn, up to the point where the Assistant speaks, or
  // somebody else where the format names who does: others refuse an `as`.
  std::vector<int32_t> encode_prompt(const Conversation& conversation,
                                     const std::string& as = "") const;
  // What the template ends an answer with, beside the tokenizer's own ends: a token such as
  // "<|im_end|>", or the text of one that the tokenizer lacks; "" where the template writes nothing
  // there but white space.
  std::string end_of_turn() const;

 private:
  const ChatFormat& format() const;
  const Tokenizer& tokenizer_;
  fs::path folder_;
  bool native_ = false;  // the shipped models' format, which needs no interpreter
  std::optional<ChatFormat> format_;
};

// What `work` gives, which is done for a row of data. The template and the tokenizer know of no
// row: what they refuse is said of the row, behind the place that they name.
Error in_row(const Error& error, const Where& row);
template <class Work>
auto for_row(const Where& row, Work work) {
  try {
    return work();
  } catch (const Error& error) {
    throw in_row(error, row);
  }
}

// A text with what the tokenizer puts around it, but no second begin or end where the text brings
// its own: those that were rendered with a chat template do.
std::vector<int32_t> encode_text(const Tokenizer& tokenizer, std::string_view text);

}  // namespace inoculum
