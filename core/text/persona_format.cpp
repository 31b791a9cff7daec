#include "core/text/persona_format.h"

#include <algorithm>

#include "core/base/error.h"

namespace inoculum {
namespace {

const std::string kUser = "<|user|>", kName = "<|name|>", kSays = "<|says|>",
                  kAssistant = "Assistant";

void check(const Message& message) {
  for (const std::string* text : {&message.content, &message.name})
    for (const std::string& symbol : persona_symbols())
      if (symbol != "\n" && text->find(symbol) != std::string::npos)
        throw Error("a message holds the format's own symbol " + symbol, {.field = "content"},
                    "remove it from the text");
  if (message.role != "user" && message.role != "assistant")
    throw Error("this model's chat format has no turn for the role \"" + message.role + "\"",
                {.field = "role"}, "put a system message's text before the user's");
}

std::string answer_header(const Message& message) {
  return kName + (message.name.empty() ? kAssistant : message.name) + kSays;
}

}  // namespace

const std::vector<std::string>& persona_symbols() {
  static const std::vector<std::string> symbols = {kUser, kName, kSays, kEndOfTurn, "\n"};
  return symbols;
}

std::string persona_chat_template() {
  return "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ "
         "'<|user|>' + message['content'] }}"
         "{% elif message['role'] == 'assistant' %}{{ '<|name|>' + message.get('name', "
         "'Assistant') + '<|says|>' + "
         "message['content'] + '<|end|>' }}{% else %}{{ raise_exception('only user and assistant "
         "turns') }}{% endif %}"
         "{% endfor %}{% if add_generation_prompt %}{{ '<|name|>Assistant<|says|>' }}{% else %}{{ "
         "eos_token }}{% endif %}";
}

std::string render(const Conversation& conversation) {
  std::string text;
  for (const Message& message : conversation)
    text += message.role == "user" ? kUser + message.content
                                   : answer_header(message) + message.content + kEndOfTurn;
  return text;
}

Encoded encode_conversation(const Tokenizer& tokenizer, const Conversation& conversation) {
  Encoded out;
  const auto add = [&](const std::string& text, bool supervised) {
    const auto ids = tokenizer.encode(text);
    out.input_ids.insert(out.input_ids.end(), ids.begin(), ids.end());
    out.supervised.resize(out.input_ids.size(), supervised);
  };
  const auto add_id = [&](int32_t id) {
    if (id < 0) return;
    out.input_ids.push_back(id);
    out.supervised.push_back(0);
  };
  add_id(tokenizer.bos_id());
  for (const Message& message : conversation) {
    if (message.role == "text") {
      add(message.content, message.train);
      continue;
    }
    check(message);
    if (message.role == "user") {
      add(kUser + message.content, false);
    } else {
      add(answer_header(message), false);
      add(message.content + kEndOfTurn, message.train);
    }
  }
  add_id(tokenizer.eos_id());
  return out;
}

std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const Conversation& conversation,
                                   const std::string& as) {
  if (conversation.empty() || conversation.back().role != "user")
    throw Error("a prompt must end with the user's turn", {.field = "messages"});
  Encoded out = encode_conversation(tokenizer, conversation);
  if (tokenizer.eos_id() >= 0) out.input_ids.pop_back();
  const Message answer{.role = "assistant", .content = "", .name = as};
  check(answer);
  const auto header = tokenizer.encode(answer_header(answer));
  out.input_ids.insert(out.input_ids.end(), header.begin(), header.end());
  return out.input_ids;
}

}  // namespace inoculum
