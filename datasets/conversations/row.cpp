#include "datasets/conversations/row.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

namespace inoculum {
namespace {

// Whether a value says nothing: null and what is empty.
bool is_nothing(const Json& value) {
  return value.is_string() ? value.get_ref<const std::string&>().empty() : value.empty();
}

// A row, and how to say what is wrong with it.
struct RowReader {
  const Json& json;
  const Where& where;
  Row& out;

  bool has(const char* key) const { return json.contains(key) && !json[key].is_null(); }
  [[noreturn]] void fail(const std::string& field, const std::string& what,
                         const std::string& hint = {}) const {
    throw Error(what, {where.file, where.line, field}, hint);
  }
  const std::string& text(const Json& holder, const std::string& key,
                          const std::string& path) const {
    const auto found = holder.find(key);
    if (found == holder.end() || found->is_null()) fail(path, "is missing");
    if (!found->is_string()) fail(path, "must be a text");
    return found->get_ref<const std::string&>();
  }
  const std::string& text(const std::string& key) const { return text(json, key, key); }
};

// Keys that say whether a message is learnt; the last one says that it is not.
const std::vector<std::string>& marks() {
  static const std::vector<std::string> keys = {"train",     "training",   "trainable", "loss",
                                                "loss_mask", "loss_scale", "weight",    "masked"};
  return keys;
}
bool is_mark(const std::string& key) {
  return std::find(marks().begin(), marks().end(), key) != marks().end();
}

bool mark_of(const RowReader& row, const Json& mark, const std::string& path) {
  if (mark.is_boolean()) return mark.get<bool>();
  if (mark.is_number() && mark.get<double>() < 0)
    row.fail(path, "must be 0 or 1",
             "training against a text (a negative weight) is not supported");
  if (!mark.is_number() || (mark != 0 && mark != 1))
    row.fail(path, "must be true or false, or 0 or 1", "a message is trained on or not");
  return mark == 1;
}

// Whether a message, or a block of one, says that it is to be learnt; nothing where it does not
// say.
std::optional<bool> learnt(const RowReader& row, const Json& holder, const std::string& path) {
  std::optional<bool> all;
  std::string first;
  for (const std::string& key : marks()) {
    const auto found = holder.find(key);
    if (found == holder.end() || found->is_null()) continue;
    const std::string place = path + "." + key;
    const bool learn = mark_of(row, *found, place) != (key == marks().back());
    if (all && *all != learn) row.fail(place, "contradicts " + first, "keep one of them");
    first = key;
    all = learn;
  }
  for (const char* key : {"mask", "train_detail", "training_detail"})
    if (const auto found = holder.find(key); found != holder.end() && !is_nothing(*found))
      row.fail(path + "." + key, "is not supported",
               "say \"train\": true or false for the whole message");
  return all;
}

// Media, and what else no text can stand for.
void refuse_media(const RowReader& row, const Json& holder, const std::string& path) {
  for (const char* key : {"image", "images", "video", "videos", "audio", "audios"})
    if (const auto found = holder.find(key); found != holder.end() && !is_nothing(*found))
      row.fail(path + key, "is not supported: models learn from text alone",
               "leave the row out, or remove the key");
  for (const char* key : {"tool_calls", "function_call", "functions"})
    if (const auto found = holder.find(key); found != holder.end() && !is_nothing(*found))
      row.fail(path + key, "calls of tools are not supported",
               "leave the row out, or write the call into the content");
}

bool is_text_block(const Json& block) {
  const auto text = [&](const char* key) {
    return block.contains(key) && block[key].is_string() ? block[key].get<std::string>() : "";
  };
  static const std::set<std::string> types = {"text", "input_text", "output_text"};
  return block.is_object() && types.contains(text("type")) && block.contains("text") &&
         block["text"].is_string();
}

void read_content(const RowReader& row, const Json& content, const std::string& path,
                  Message& message) {
  if (content.is_string()) {
    message.content = content.get_ref<const std::string&>();
    return;
  }
  if (!content.is_array())
    row.fail(path, "must be a text", "or a list of {\"type\": \"text\", \"text\": …} blocks");
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& block = content[i];
    const std::string place = path + "[" + std::to_string(i) + "]";
    if (!is_text_block(block))
      row.fail(place, "is not a block of text",
               "images, thoughts and tool calls in blocks are not supported");
    const bool train = learnt(row, block, place).value_or(true);
    if (i > 0 && train != message.train)
      row.fail(place + ".weight", "differs from that of the block before it",
               "a message is trained on as a whole or not at all");
    message.train = train;
    message.content += block["text"].get_ref<const std::string&>();
    for (const auto& [key, value] : block.items())
      if (key != "type" && key != "text" && !is_nothing(value) && !is_mark(key))
        row.out.passed_over.insert("content[]." + key);
  }
}

Message message_of(const RowReader& row, const Json& m, const std::string& path, RowFormat format) {
  if (!m.is_object()) row.fail(path, "must be an object with role and content");
  const bool from = format == RowFormat::sharegpt &&
                    (!m.contains("role") || m["role"].is_null());  // some write OpenAI's keys there
  const std::string role_path = path + (from ? ".from" : ".role"),
                    content_path = path + (from ? ".value" : ".content");
  const auto role = m.find(from ? "from" : "role"), content = m.find(from ? "value" : "content");
  if (role == m.end() || !role->is_string()) row.fail(role_path, "is missing or not a text");
  Message message;
  message.role = role->get_ref<const std::string&>();
  if (format == RowFormat::sharegpt) {
    if (message.role == "human") message.role = "user";
    if (message.role == "gpt" || message.role == "model") message.role = "assistant";
  }
  static const std::vector<std::string> roles = {"system", "user", "assistant"};
  if (std::find(roles.begin(), roles.end(), message.role) == roles.end() && message.role != "text")
    row.fail(role_path, "unknown role \"" + message.role + "\"",
             did_you_mean(message.role, roles, "system, user or assistant"));
  refuse_media(row, m, path + ".");
  if (content == m.end() || content->is_null()) row.fail(content_path, "is missing");
  read_content(row, *content, content_path, message);
  if (m.contains("name") && !m["name"].is_null())
    message.name = row.text(m, "name", path + ".name");
  const auto learn = learnt(row, m, path);
  if (learn && *learn && message.role != "assistant" && message.role != "text")
    row.out.passed_over.insert("messages[].train of a " + message.role);
  if (learn) message.train = message.train && *learn;
  Json more = Json::object();
  for (const auto& [key, value] : m.items()) {
    if (value.is_null() || key == role.key() || key == content.key() || key == "name" ||
        is_mark(key))
      continue;
    if (!value.is_string() && is_nothing(value)) continue;  // an empty list
    more[key] = value;
    if (!is_nothing(value)) row.out.for_template.insert("messages[]." + key);
  }
  if (!more.empty()) message.more = more.dump();
  return message;
}

void add_messages(const RowReader& row, const std::string& key, RowFormat format,
                  Conversation& conversation) {
  const Json& messages = row.json[key];
  if (!messages.is_array() || messages.empty())
    row.fail(key, "must be a list of at least one message",
             messages.is_string() && !is_nothing(messages)
                 ? "this is a text: if it holds the list as JSON, write the list itself"
                 : "");
  for (size_t i = 0; i < messages.size(); ++i)
    conversation.push_back(
        message_of(row, messages[i], key + "[" + std::to_string(i) + "]", format));
}

Message message(const char* role, const std::string& content) {
  return {.role = role, .content = content, .name = {}};
}

// A value that some write as JSON within a text.
Json unpacked(const RowReader& row, const std::string& key) {
  const Json& value = row.json[key];
  if (!value.is_string() || is_nothing(value)) return value;
  refuse_deep_json(value.get_ref<const std::string&>(), {row.where.file, row.where.line, key});
  Json json = Json::parse(value.get_ref<const std::string&>(), nullptr, false);
  if (json.is_discarded()) row.fail(key, "is a text that is not JSON");
  return json;
}

// What a row gives its chat template beside the messages.
std::string more_of(const RowReader& row) {
  Json more = Json::object();
  for (const char* key : {"tools", "documents"}) {
    if (!row.has(key)) continue;
    Json list = unpacked(row, key);
    if (is_nothing(list)) continue;
    if (!list.is_array()) row.fail(key, "must be a list");
    more[key] = std::move(list);
  }
  const char* const given = "chat_template_kwargs";
  if (row.has(given)) {
    Json arguments = unpacked(row, given), kept = Json::object();
    if (!arguments.is_object() && !is_nothing(arguments)) row.fail(given, "must be an object");
    for (const auto& [key, value] : arguments.items()) {
      for (const char* ours : {"messages", "tools", "documents", "add_generation_prompt",
                               "continue_final_message", "bos_token", "eos_token", "chat_template"})
        if (key == ours && !is_nothing(value))
          row.fail(std::string(given) + "." + key, "cannot be set here", "remove it");
      if (!is_nothing(value)) kept[key] = value;
    }
    if (!kept.empty()) more[given] = std::move(kept);
  }
  for (const auto& [key, value] : more.items()) row.out.for_template.insert(key);
  return more.empty() ? "" : more.dump();
}

// The system message that stands beside the conversation, and the key that gives it.
std::pair<std::string, std::string> system_of(const RowReader& row) {
  std::string first, system;
  for (const char* key : {"system", "system_prompt"}) {
    if (!row.has(key) || row.text(key).empty()) continue;
    if (first.empty()) {
      first = key;
      system = row.text(key);
    } else if (row.text(key) != system) {
      row.fail(key, "differs from " + first, "remove one of them");
    }
  }
  return {first, system};
}

// Notes the keys that nothing reads.
void note_others(const RowReader& row, RowFormat format) {
  static const std::array<std::set<std::string>, 5> read = {
      {{"messages"},
       {"prompt", "completion"},
       {"instruction", "input", "output", "history"},
       {"conversations"},
       {"text"}}};
  static const std::set<std::string> by_all = {"system", "system_prompt", "tools", "documents",
                                               "chat_template_kwargs"};
  for (const auto& [key, value] : row.json.items())
    if (!is_nothing(value) && !read[static_cast<size_t>(format)].contains(key) &&
        (format == RowFormat::text || !by_all.contains(key)))
      row.out.passed_over.insert(key);
}

// Refuses a row without its answer, which some sets have under another name.
[[noreturn]] void fail_unanswered(const RowReader& row, const std::string& key) {
  for (const char* other : {"response", "answer", "output", "completion"})
    if (row.has(other))
      row.fail(key, "is missing",
               std::string("rename ") + other + " to " + key +
                   (key == "output" && row.has("context") ? ", and context to input" : ""));
  row.fail(key, "is missing");
}

// Either a text, said in `role`, or a list of messages.
void add_side(const RowReader& row, const std::string& key, const char* role,
              Conversation& conversation) {
  if (row.json[key].is_array()) add_messages(row, key, RowFormat::completion, conversation);
  else conversation.push_back(message(role, row.text(key)));
}

Conversation conversation_of(const RowReader& row, RowFormat format, bool needs_answer) {
  Conversation conversation;
  refuse_media(row, row.json, "");
  note_others(row, format);
  switch (format) {
    case RowFormat::chat: add_messages(row, "messages", format, conversation); break;
    case RowFormat::sharegpt: add_messages(row, "conversations", format, conversation); break;
    case RowFormat::completion:
      if (!row.has("prompt")) row.fail("prompt", "is missing");
      add_side(row, "prompt", "user", conversation);
      for (Message& each : conversation)
        each.train = each.role != "assistant";  // what was said before is not learnt
      if (row.has("completion")) add_side(row, "completion", "assistant", conversation);
      else if (needs_answer) fail_unanswered(row, "completion");
      break;
    case RowFormat::alpaca: {
      if (row.has("history") && !row.json["history"].empty())
        row.fail("history", "is not supported", "give whole conversations: {\"messages\": [...]}");
      std::string prompt = row.text("instruction");
      if (row.has("input") && !row.text("input").empty()) prompt += "\n\n" + row.text("input");
      conversation.push_back(message("user", prompt));
      if (!row.has("output")) fail_unanswered(row, "output");
      conversation.push_back(message("assistant", row.text("output")));
      break;
    }
    case RowFormat::text: return {message("text", row.text("text"))};
  }
  if (const auto [key, system] = system_of(row); !system.empty()) {
    if (conversation.front().role != "system")
      conversation.insert(conversation.begin(), message("system", system));
    else if (conversation.front().content != system)
      row.fail(key, "differs from the conversation's own system message", "remove one of them");
  }
  conversation.more = more_of(row);
  const std::string field = format == RowFormat::sharegpt     ? "conversations"
                            : format == RowFormat::completion ? "completion"
                                                              : "messages";
  const auto has = [&](const char* role) {
    return std::any_of(conversation.begin(), conversation.end(),
                       [&](const Message& m) { return m.role == role; });
  };
  if (has("text") && conversation.size() > 1)
    row.fail(field, "holds a message in the role \"text\" beside others",
             "plain text stands alone");
  if (needs_answer && !has("assistant") && !has("text"))
    row.fail(field, "has no assistant turn to learn from");
  return conversation;
}

}  // namespace

const char* name_of(RowFormat format) {
  static constexpr std::array names = {"chat", "prompt/completion", "alpaca", "ShareGPT", "text"};
  return names[static_cast<size_t>(format)];
}

RowFormat format_of(const Json& json, const Where& where) {
  Row unused;
  const RowReader row{json, where, unused};
  if (!row.json.is_object())
    row.fail("", "each row must be a JSON object", "{\"messages\": [...]}");
  if (row.has("chosen") || row.has("rejected"))
    row.fail("", "this is a preference row (chosen, rejected), which is not supported",
             "give conversations: {\"messages\": [...]}");
  if (row.has("messages")) return RowFormat::chat;
  if (row.has("conversations")) return RowFormat::sharegpt;
  if (row.has("code") && row.has("test_list"))
    row.fail("", "this is a programming task (MBPP: code, test_list), not a conversation",
             "choose how to ask for it: the task and a test in the user's message, the code in the "
             "assistant's");
  if (row.has("instruction")) return RowFormat::alpaca;
  if (row.has("prompt") || row.has("completion")) return RowFormat::completion;
  if (row.has("text")) return RowFormat::text;
  static const std::vector<std::string> keys = {"messages", "conversations", "prompt",
                                                "instruction", "text"};
  for (const auto& item : row.json.items())
    if (const std::string hint = did_you_mean(item.key(), keys); !hint.empty())
      row.fail("messages", "is missing", "\"" + item.key() + "\": " + hint);
  row.fail("messages", "is missing",
           "OpenAI chat format: {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}, …]}; "
           "also read: prompt and completion, "
           "instruction and output, conversations, text");
}

Row read_row(const Json& json, const Where& where, RowFormat format, bool needs_answer) {
  Row row;
  row.conversation = conversation_of({json, where, row}, format, needs_answer);
  return row;
}

}  // namespace inoculum
