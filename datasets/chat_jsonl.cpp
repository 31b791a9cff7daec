#include "datasets/chat_jsonl.h"

#include <algorithm>

#include "core/error.h"

namespace inoculum {
namespace {

std::string text_of(const Json& content, const Where& where) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) throw Error("must be a text", where, "or a list of {\"type\": \"text\", \"text\": …} blocks");
  std::string text;
  for (const Json& block : content) {
    if (!block.is_object() || block.value("type", "") != "text" || !block.contains("text") || !block["text"].is_string())
      throw Error("holds a block that is not text", where, "images and tool calls are not supported");
    if (block.contains("weight") && block["weight"] != 1) throw Error("holds a block with a weight other than 1, which is not supported", where);
    text += block["text"].get<std::string>();
  }
  return text;
}

}  // namespace

Conversation conversation_from_json(const Json& row, const fs::path& file, int line, bool needs_answer) {
  const auto where = [&](const std::string& field) { return Where{file.string(), line, field}; };
  if (!row.is_object()) throw Error("each line must be a JSON object", where(""), "{\"messages\": [...]}");
  if (row.contains("chosen") || row.contains("rejected"))
    throw Error("this is a preference row (chosen, rejected), which is not supported", where(""), "give conversations: {\"messages\": [...]}");
  if (!row.contains("messages")) throw Error("is missing", where("messages"), "OpenAI chat format: {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}, …]}");
  if (!row["messages"].is_array() || row["messages"].empty()) throw Error("must be a list of at least one message", where("messages"));
  Conversation conversation;
  for (size_t i = 0; i < row["messages"].size(); ++i) {
    const Json& m = row["messages"][i];
    const std::string path = "messages[" + std::to_string(i) + "]";
    if (!m.is_object()) throw Error("must be an object with role and content", where(path));
    Message message;
    if (!m.contains("role") || !m["role"].is_string()) throw Error("is missing or not a text", where(path + ".role"));
    message.role = m["role"].get<std::string>();
    static const std::vector<std::string> roles = {"system", "user", "assistant"};
    if (std::find(roles.begin(), roles.end(), message.role) == roles.end()) {
      const std::string near = did_you_mean(message.role, roles);
      throw Error("unknown role \"" + message.role + "\"", where(path + ".role"), near.empty() ? "system, user or assistant" : "did you mean \"" + near + "\"?");
    }
    if (!m.contains("content")) throw Error("is missing", where(path + ".content"));
    message.content = text_of(m["content"], where(path + ".content"));
    if (m.contains("name") && m["name"].is_string()) message.name = m["name"].get<std::string>();
    if (m.contains("train")) {
      if (!m["train"].is_boolean()) throw Error("must be true or false", where(path + ".train"));
      message.train = m["train"].get<bool>();
    }
    if (m.contains("weight")) {
      if (m["weight"] != 0 && m["weight"] != 1) throw Error("must be 0 or 1", where(path + ".weight"));
      message.train = m["weight"] == 1;
    }
    conversation.push_back(std::move(message));
  }
  if (needs_answer && std::none_of(conversation.begin(), conversation.end(), [](const Message& m) { return m.role == "assistant"; }))
    throw Error("has no assistant turn to learn from", where("messages"));
  return conversation;
}

std::vector<Conversation> read_chat_jsonl(const fs::path& file, bool needs_answer) {
  std::vector<Conversation> all;
  read_jsonl(file, [&](const Json& row, int line) { all.push_back(conversation_from_json(row, file, line, needs_answer)); });
  return all;
}

void write_chat_jsonl(const fs::path& file, const std::vector<Conversation>& conversations) {
  std::vector<Json> rows;
  for (const Conversation& conversation : conversations) {
    Json messages = Json::array();
    for (const Message& m : conversation) {
      Json message = {{"role", m.role}, {"content", m.content}};
      if (!m.name.empty()) message["name"] = m.name;
      if (!m.train) message["train"] = false;
      messages.push_back(std::move(message));
    }
    rows.push_back({{"messages", std::move(messages)}});
  }
  write_jsonl(file, rows);
}

}  // namespace inoculum
