// Conversations in OpenAI's chat format: JSON Lines of {"messages": [{"role": …, "content": …}, …]}.
//
// Texts are taken as they are: nothing is stripped. `content` may be a list of {"type": "text", "text": …}
// blocks. A message's "train": false or "weight": 0 takes an assistant turn out of the loss; "name" says who
// answers. Other keys are left alone. Anything else is an Error with file, line and field.
#pragma once

#include <vector>

#include "core/conversation.h"
#include "core/files.h"

namespace inoculum {

// needs_answer: refuse a conversation without an assistant turn, which cannot be trained on.
std::vector<Conversation> read_chat_jsonl(const fs::path& file, bool needs_answer = true);
void write_chat_jsonl(const fs::path& file, const std::vector<Conversation>& conversations);
Conversation conversation_from_json(const Json& row, const fs::path& file, int line, bool needs_answer);

}  // namespace inoculum
