// One row of a file of conversations, by its keys: datasets/conversations/conversations.h says what
// they mean. Every fault is an Error at the row's place, with the field.
#pragma once

#include <set>
#include <string>

#include "core/base/files.h"
#include "core/text/conversation.h"

namespace inoculum {

enum class RowFormat { chat, completion, alpaca, sharegpt, text };
const char* name_of(RowFormat format);

struct Row {
  Conversation conversation;
  std::set<std::string> passed_over, for_template;  // keys that are not its conversation
};

RowFormat format_of(const Json& row, const Where& where);
Row read_row(const Json& row, const Where& where, RowFormat format, bool needs_answer);

}  // namespace inoculum
