// A conversation: what is said by whom. Roles are those of the OpenAI chat format. Plain text, learnt whole, is a
// conversation of one message in the role "text".
#pragma once

#include <string>
#include <vector>

namespace inoculum {

struct Message {
  std::string role;  // "system", "user" or "assistant"; "text" alone
  std::string content;
  std::string name;  // who answers; empty means the Assistant
  bool train = true;  // assistant turns only: whether its tokens are supervised

  bool operator==(const Message&) const = default;
};

using Conversation = std::vector<Message>;

}  // namespace inoculum
