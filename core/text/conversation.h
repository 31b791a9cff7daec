// A conversation: what is said by whom. Roles are those of the OpenAI chat format. Plain text,
// learnt whole, is a conversation of one message in the role "text".
#pragma once

#include <string>
#include <vector>

#include "core/base/error.h"

namespace inoculum {

struct Message {
  std::string role;  // "system", "user" or "assistant"; "text" alone
  std::string content;
  std::string name;   // who answers; empty means the Assistant
  bool train = true;  // assistant turns only: whether its tokens are supervised
  std::string more;   // further keys, for the chat template: a JSON object, or empty

  bool operator==(const Message&) const = default;
};

struct Conversation : std::vector<Message> {
  using std::vector<Message>::vector;
  std::string more;  // for the chat template beside the messages: a JSON object of `tools`,
                     // `documents` and `chat_template_kwargs`, or empty
  Where where = {};  // the row that it was read from, for errors

  bool operator==(const Conversation& other) const {
    return static_cast<const std::vector<Message>&>(*this) == other && more == other.more;
  }
};

}  // namespace inoculum
