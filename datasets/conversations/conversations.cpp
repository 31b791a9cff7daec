#include "datasets/conversations/conversations.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "core/base/error.h"

namespace inoculum {
namespace {

constexpr size_t kReasons = 5;

enum class Format { chat, completion, alpaca, sharegpt, text };

const char* name_of(Format format) {
  static constexpr std::array names = {"chat", "prompt/completion", "alpaca", "ShareGPT", "text"};
  return names[static_cast<size_t>(format)];
}

// Keys of a row that are not its conversation.
struct Notes {
  std::set<std::string> passed_over, for_template;
};

// Whether a value says nothing: null and what is empty.
bool is_nothing(const Json& value) {
  return value.is_string() ? value.get_ref<const std::string&>().empty() : value.empty();
}

// A row, and how to say what is wrong with it.
struct Row {
  const Json& json;
  const std::string& file;
  int line;
  Notes& notes;

  bool has(const char* key) const { return json.contains(key) && !json[key].is_null(); }
  [[noreturn]] void fail(const std::string& field, const std::string& what,
                         const std::string& hint = {}) const {
    throw Error(what, {file, line, field}, hint);
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

Format format_of(const Row& row) {
  if (!row.json.is_object())
    row.fail("", "each row must be a JSON object", "{\"messages\": [...]}");
  if (row.has("chosen") || row.has("rejected"))
    row.fail("", "this is a preference row (chosen, rejected), which is not supported",
             "give conversations: {\"messages\": [...]}");
  if (row.has("messages")) return Format::chat;
  if (row.has("conversations")) return Format::sharegpt;
  if (row.has("code") && row.has("test_list"))
    row.fail("", "this is a programming task (MBPP: code, test_list), not a conversation",
             "choose how to ask for it: the task and a test in the user's message, the code in the "
             "assistant's");
  if (row.has("instruction")) return Format::alpaca;
  if (row.has("prompt") || row.has("completion")) return Format::completion;
  if (row.has("text")) return Format::text;
  static const std::vector<std::string> keys = {"messages", "conversations", "prompt",
                                                "instruction", "text"};
  for (const auto& item : row.json.items())
    if (const std::string near = did_you_mean(item.key(), keys); !near.empty())
      row.fail("messages", "is missing", "\"" + item.key() + "\": did you mean \"" + near + "\"?");
  row.fail("messages", "is missing",
           "OpenAI chat format: {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}, …]}; "
           "also read: prompt and completion, "
           "instruction and output, conversations, text");
}

// Keys that say whether a message is learnt; the last one says that it is not.
const std::vector<std::string>& marks() {
  static const std::vector<std::string> keys = {"train",     "training",   "trainable", "loss",
                                                "loss_mask", "loss_scale", "weight",    "masked"};
  return keys;
}
bool is_mark(const std::string& key) {
  return std::find(marks().begin(), marks().end(), key) != marks().end();
}

bool mark_of(const Row& row, const Json& mark, const std::string& path) {
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
std::optional<bool> learnt(const Row& row, const Json& holder, const std::string& path) {
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
void refuse_media(const Row& row, const Json& holder, const std::string& path) {
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

void read_content(const Row& row, const Json& content, const std::string& path, Message& message) {
  if (content.is_string()) {
    message.content = content.get_ref<const std::string&>();
    return;
  }
  if (!content.is_array())
    row.fail(path, "must be a text", "or a list of {\"type\": \"text\", \"text\": …} blocks");
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& block = content[i];
    std::string place = path;
    (((place += '[') += std::to_string(i)) += ']');
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
        row.notes.passed_over.insert("content[]." + key);
  }
}

Message message_of(const Row& row, const Json& m, const std::string& path, Format format) {
  if (!m.is_object()) row.fail(path, "must be an object with role and content");
  const bool from = format == Format::sharegpt &&
                    (!m.contains("role") || m["role"].is_null());  // some write OpenAI's keys there
  const std::string role_path = path + (from ? ".from" : ".role"),
                    content_path = path + (from ? ".value" : ".content");
  const auto role = m.find(from ? "from" : "role"), content = m.find(from ? "value" : "content");
  if (role == m.end() || !role->is_string()) row.fail(role_path, "is missing or not a text");
  Message message;
  message.role = role->get_ref<const std::string&>();
  if (format == Format::sharegpt) {
    if (message.role == "human") message.role = "user";
    if (message.role == "gpt" || message.role == "model") message.role = "assistant";
  }
  static const std::vector<std::string> roles = {"system", "user", "assistant"};
  if (std::find(roles.begin(), roles.end(), message.role) == roles.end() &&
      message.role != "text") {
    const std::string near = did_you_mean(message.role, roles);
    row.fail(role_path, "unknown role \"" + message.role + "\"",
             near.empty() ? "system, user or assistant" : "did you mean \"" + near + "\"?");
  }
  refuse_media(row, m, path + ".");
  if (content == m.end() || content->is_null()) row.fail(content_path, "is missing");
  read_content(row, *content, content_path, message);
  if (m.contains("name") && !m["name"].is_null())
    message.name = row.text(m, "name", path + ".name");
  const auto learn = learnt(row, m, path);
  if (learn && *learn && message.role != "assistant" && message.role != "text")
    row.notes.passed_over.insert("messages[].train of a " + message.role);
  if (learn) message.train = message.train && *learn;
  Json more = Json::object();
  for (const auto& [key, value] : m.items()) {
    if (value.is_null() || key == role.key() || key == content.key() || key == "name" ||
        is_mark(key))
      continue;
    if (!value.is_string() && is_nothing(value)) continue;  // an empty list
    more[key] = value;
    if (!is_nothing(value)) row.notes.for_template.insert("messages[]." + key);
  }
  if (!more.empty()) message.more = more.dump();
  return message;
}

void add_messages(const Row& row, const std::string& key, Format format,
                  Conversation& conversation) {
  const Json& messages = row.json[key];
  if (!messages.is_array() || messages.empty())
    row.fail(key, "must be a list of at least one message");
  for (size_t i = 0; i < messages.size(); ++i) {
    std::string path = key;
    (((path += '[') += std::to_string(i)) += ']');
    conversation.push_back(message_of(row, messages[i], path, format));
  }
}

Message message(const char* role, const std::string& content) {
  return {.role = role, .content = content, .name = {}};
}

// A value that some write as JSON within a text.
Json unpacked(const Row& row, const std::string& key) {
  const Json& value = row.json[key];
  if (!value.is_string() || is_nothing(value)) return value;
  refuse_deep_json(value.get_ref<const std::string&>(), {row.file, row.line, key});
  Json json = Json::parse(value.get_ref<const std::string&>(), nullptr, false);
  if (json.is_discarded()) row.fail(key, "is a text that is not JSON");
  return json;
}

// What a row gives its chat template beside the messages.
std::string more_of(const Row& row) {
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
  for (const auto& [key, value] : more.items()) row.notes.for_template.insert(key);
  return more.empty() ? "" : more.dump();
}

// The system message that stands beside the conversation.
std::string system_of(const Row& row) {
  std::string system, first;
  for (const char* key : {"system", "system_prompt"}) {
    if (!row.has(key) || row.text(key).empty()) continue;
    if (!first.empty() && row.text(key) != system)
      row.fail(key, "differs from " + first, "remove one of them");
    system = row.text(key);
    first = key;
  }
  return system;
}

// Notes the keys that are nobody's.
void note_others(const Row& row, Format format) {
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
        (format == Format::text || !by_all.contains(key)))
      row.notes.passed_over.insert(key);
}

// Either a text, said in `role`, or a list of messages.
void add_side(const Row& row, const std::string& key, const char* role,
              Conversation& conversation) {
  if (row.json[key].is_array()) add_messages(row, key, Format::completion, conversation);
  else conversation.push_back(message(role, row.text(key)));
}

Conversation conversation_of(const Row& row, Format format, bool needs_answer) {
  Conversation conversation;
  refuse_media(row, row.json, "");
  note_others(row, format);
  switch (format) {
    case Format::chat: add_messages(row, "messages", format, conversation); break;
    case Format::sharegpt: add_messages(row, "conversations", format, conversation); break;
    case Format::completion:
      if (!row.has("prompt")) row.fail("prompt", "is missing");
      add_side(row, "prompt", "user", conversation);
      for (Message& each : conversation)
        each.train = each.role != "assistant";  // what was said before is not learnt
      if (row.has("completion")) add_side(row, "completion", "assistant", conversation);
      else if (needs_answer) row.fail("completion", "is missing");
      break;
    case Format::alpaca: {
      if (row.has("history") && !row.json["history"].empty())
        row.fail("history", "is not supported", "give whole conversations: {\"messages\": [...]}");
      std::string prompt = row.text("instruction");
      if (row.has("input") && !row.text("input").empty()) (prompt += "\n\n") += row.text("input");
      conversation.push_back(message("user", prompt));
      conversation.push_back(message("assistant", row.text("output")));
      break;
    }
    case Format::text: return {message("text", row.text("text"))};
  }
  if (const std::string system = system_of(row); !system.empty()) {
    const char* const key =
        row.has("system") && !row.text("system").empty() ? "system" : "system_prompt";
    if (conversation.front().role != "system")
      conversation.insert(conversation.begin(), message("system", system));
    else if (conversation.front().content != system)
      row.fail(key, "differs from the conversation's own system message", "remove one of them");
  }
  conversation.more = more_of(row);
  const std::string field = format == Format::sharegpt     ? "conversations"
                            : format == Format::completion ? "completion"
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

// The length of the character that `text` begins with, or 0 if its bytes are not UTF-8.
size_t character(std::string_view text, char32_t& code) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const unsigned first = byte(0);
  const size_t length = first < 0x80   ? 1
                        : first < 0xC2 ? 0
                        : first < 0xE0 ? 2
                        : first < 0xF0 ? 3
                        : first < 0xF5 ? 4
                                       : 0;
  code = length < 2 ? first : first & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3F);
  }
  static constexpr std::array<char32_t, 5> least = {0, 0, 0x80, 0x800, 0x10000};
  return code < least[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000) ? 0 : length;
}

// Goes through a file's text, past white space and comments.
class Cursor {
 public:
  Cursor(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  bool done() const { return at_ == text_.size(); }
  char peek() const { return text_[at_]; }
  size_t at() const { return at_; }
  int line() const { return line_; }
  void step() { line_ += text_[at_++] == '\n'; }

  void skip_blank() {
    while (!done())
      if (peek() == ' ' || peek() == '\t' || peek() == '\r' || peek() == '\n') step();
      else if (!skip_comment()) return;
  }
  bool skip_comment() {
    const std::string_view rest = text_.substr(at_);
    const bool block = rest.starts_with("/*");
    if (!block && !rest.starts_with("//")) return false;
    const size_t end = block ? rest.find("*/", 2) : std::min(rest.find('\n'), rest.size());
    if (end == std::string_view::npos)
      throw Error("the comment is not closed", {.file = file_, .line = line_}, "end it with */");
    for (const size_t to = at_ + end + (block ? 2 : 0); at_ < to;) step();
    return true;
  }
  std::string_view rest_of_line() {
    const size_t begin = at_;
    at_ = std::min(text_.find('\n', at_), text_.size());
    return text_.substr(begin, at_ - begin);
  }
  // One value of a list, up to the comma or bracket after it, which must come.
  std::string_view value() {
    const size_t begin = at_;
    const int first = line_;
    size_t depth = 0;
    while (!done()) {
      const char c = peek();
      if (c == '/' && skip_comment()) continue;
      if (depth == 0 && (c == ',' || c == ']')) return text_.substr(begin, at_ - begin);
      if (c == '{' || c == '[') ++depth;
      if ((c == '}' || c == ']') && depth > 0) --depth;
      step();
      if (c != '"') continue;
      while (!done() && peek() != '"') {
        if (peek() == '\\') step();
        if (!done()) step();
      }
      if (!done()) step();
    }
    throw Error("the file ends inside this row", {.file = file_, .line = first},
                "a JSON list ends with ]; is the file cut off?");
  }

 private:
  std::string_view text_;
  const std::string& file_;
  size_t at_ = 0;
  int line_ = 1;
};

// Calls `row(text, line)` for each row of a JSON list, or else for each line that holds anything.
void for_each_row(std::string_view text, const std::string& file,
                  const std::function<void(std::string_view, int)>& row) {
  Cursor cursor(text, file);
  cursor.skip_blank();
  if (cursor.done() || cursor.peek() != '[') {
    for (; !cursor.done(); cursor.skip_blank()) {
      const int line = cursor.line();
      row(cursor.rest_of_line(), line);
    }
    return;
  }
  cursor.step();
  cursor.skip_blank();
  bool more = cursor.done() || cursor.peek() != ']';
  while (more) {
    cursor.skip_blank();
    const int line = cursor.line();
    row(cursor.value(), line);
    more = cursor.peek() == ',';
    if (more) cursor.step();
  }
  cursor.step();
  cursor.skip_blank();
  if (!cursor.done())
    throw Error("something follows the end of the list", {.file = file, .line = cursor.line()},
                "one JSON list, or one JSON object a line");
}

// Files that are no text at all, by their first bytes.
void check_kind(std::string_view text, const std::string& file) {
  if (text.starts_with("version https://git-lfs"))
    throw Error("this is a Git LFS pointer, not the data", {.file = file, .line = 1},
                "run `git lfs pull`");
  static const std::vector<std::pair<std::string_view, std::pair<const char*, const char*>>> kinds =
      {{"\x1F\x8B", {"is compressed with gzip", "unpack it with `gunzip`"}},
       {"\x28\xB5\x2F\xFD", {"is compressed with Zstandard", "unpack it with `unzstd`"}},
       {"PK\x03\x04", {"is a ZIP archive", "unpack it with `unzip`"}},
       {"PAR1",
        {"is a Parquet file",
         "write it as JSON Lines, for example with pandas: to_json(orient=\"records\", "
         "lines=True)"}},
       {"\xFF\xFE", {"is UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"}},
       {"\xFE\xFF", {"is UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"}}};
  for (const auto& [magic, what] : kinds)
    if (text.starts_with(magic))
      throw Error(std::string("this ") + what.first, {.file = file}, what.second);
}

// Python's json module writes NaN, Infinity and -Infinity, and reads numbers that overflow as
// infinite. Here they are written as the largest number, which nobody writes, and read as what they
// were. The text is as it was where it holds none.
const double kLargest = std::numeric_limits<double>::max();
std::string without_python_numbers(std::string_view row) {
  std::string out;
  for (size_t i = 0; i < row.size();) {
    size_t length = 1;
    bool is_nan = false, replaced = false;
    const std::string_view rest = row.substr(i);
    if (row[i] == '"') {
      while (i + length < row.size() && row[i + length] != '"')
        length += row[i + length] == '\\' ? 2 : 1;
      length = std::min(length + 1, rest.size());
    } else if (rest.starts_with("NaN")) {
      length = 3, is_nan = replaced = true;
    } else if (const size_t sign = row[i] == '-'; rest.substr(sign).starts_with("Infinity")) {
      length = sign + 8, replaced = true;
    } else if (row[i] == '-' || (row[i] >= '0' && row[i] <= '9')) {
      length = std::min(rest.find_first_not_of("+-.0123456789Ee"), rest.size());
      replaced = std::isinf(std::strtod(std::string(rest.substr(0, length)).c_str(), nullptr));
    }
    if (!replaced) out += rest.substr(0, length);
    else
      out += std::string(row[i] == '-' ? "-" : "") +
             (is_nan ? "1.7976931348623157e308" : "1.7976931348623155e308");
    i += length;
  }
  return out;
}
bool restore_python_numbers(int, Json::parse_event_t event, Json& value) {
  if (event != Json::parse_event_t::value || !value.is_number_float()) return true;
  const double number = value.get<double>(), infinite = std::nextafter(kLargest, 0);
  if (number == kLargest) value = std::numeric_limits<double>::quiet_NaN();
  if (std::abs(number) == infinite)
    value = std::copysign(std::numeric_limits<double>::infinity(), number);
  return true;
}

// `offset`: of the row in its file.
Json parse(std::string_view row, size_t offset, const std::string& file, int line) {
  refuse_deep_json(row, {.file = file, .line = line});
  try {
    return Json::parse(row, nullptr, true, true);
  } catch (const Json::exception& failure) {
    if (const std::string python = without_python_numbers(row); python != row) {
      try {
        return Json::parse(python, restore_python_numbers, true, true);
      } catch (
          const Json::exception&) {  // something else is wrong, and is told of the row as it stands
      }
    }
    const auto where = [&](size_t at) {
      const auto end = row.begin() + static_cast<std::ptrdiff_t>(std::min(at, row.size()));
      return Where{.file = file,
                   .line = line + static_cast<int>(std::count(row.begin(), end, '\n'))};
    };
    char32_t code;
    for (size_t at = 0, length; at < row.size(); at += length)
      if (length = character(row.substr(at), code); length == 0)
        throw Error("byte " + std::to_string(offset + at) + " of the file is not UTF-8", where(at),
                    "convert the file to UTF-8");
    const auto* syntax = dynamic_cast<const Json::parse_error*>(&failure);
    const std::string why = failure.what();
    if (why.find("surrogate") != std::string::npos)
      throw Error("holds half a surrogate pair, which is no character", where(syntax->byte),
                  "the text was cut inside an emoji, or the like: remove the \\u escape");
    fail_json(failure, row, {.file = file, .line = line}, "this line is not JSON",
              "each row must be one whole JSON object");
  }
}

void append_escaped(std::string& out, std::string_view text) {
  const auto unit = [&](char32_t code) {
    char escape[7];
    std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(code & 0xFFFF));
    out += escape;
  };
  out += '"';
  while (!text.empty()) {
    char32_t code;
    size_t length = character(text, code);
    if (length == 0) code = 0xFFFD, length = 1;
    text.remove_prefix(length);
    static constexpr std::string_view special = "\"\\\n\r\t\f\b", letters = "\"\\nrtfb";
    if (const size_t found =
            code < 0x80 ? special.find(static_cast<char>(code)) : std::string_view::npos;
        found != std::string_view::npos) {
      (out += '\\') += letters[found];
    } else if (code >= 0x20 && code < 0x7F) {
      out += static_cast<char>(code);
    } else if (code < 0x10000) {
      unit(code);
    } else {
      unit(0xD800 + ((code - 0x10000) >> 10));
      unit(0xDC00 + (code & 0x3FF));
    }
  }
  out += '"';
}

// In the bytes of Python's json.dumps.
void append_json(std::string& out, const Json& value) {
  if (value.is_string()) return append_escaped(out, value.get_ref<const std::string&>());
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    out += std::isnan(value.get<double>()) ? "NaN"
           : value.get<double>() < 0       ? "-Infinity"
                                           : "Infinity";
    return;
  }
  if (!value.is_structured()) {
    out += value.dump();
    return;
  }
  out += value.is_array() ? '[' : '{';
  const char* separator = "";
  for (const auto& [key, each] : value.items()) {
    out += std::exchange(separator, ", ");
    if (value.is_object()) append_escaped(out, key), out += ": ";
    append_json(out, each);
  }
  out += value.is_array() ? ']' : '}';
}
// The entries of an object, behind others.
void append_entries(std::string& out, const std::string& object) {
  if (object.empty()) return;
  std::string all;
  append_json(all, Json::parse(object));
  ((out += ", ") += all.substr(1, all.size() - 2));
}

}  // namespace

std::string describe(const DataReport& report) {
  std::string text = report.file + ": " + std::to_string(report.rows) + " rows of " + report.format;
  if (report.skipped > 0) ((text += ", ") += std::to_string(report.skipped)) += " left out:";
  for (const std::string& reason : report.reasons) (text += "\n  ") += reason;
  if (report.skipped > report.reasons.size()) text += "\n  …";
  const auto tell = [&](const char* what, const std::map<std::string, size_t>& keys) {
    std::string separator = std::string("\n  ") + what;
    for (const auto& [key, rows] : keys)
      text += std::exchange(separator, ", ") + key + " (" + std::to_string(rows) +
              (rows == 1 ? " row)" : " rows)");
  };
  tell("keys passed over: ", report.passed_over);
  tell("keys for the chat template: ", report.for_template);
  return text;
}

Conversation conversation_from_json(const Json& json, const fs::path& file, int line,
                                    bool needs_answer) {
  const std::string name = file.string();
  Notes notes;
  const Row row{json, name, line, notes};
  return conversation_of(row, format_of(row), needs_answer);
}

Reading read_conversations(const fs::path& file, const ReadOptions& options) {
  const std::string bytes = read_file(file);
  std::string_view text = bytes;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  Reading reading;
  DataReport& report = reading.report;
  report.file = file.string();
  check_kind(text, report.file);
  Format format{};
  int first = 0;  // the line that told the format
  for_each_row(text, report.file, [&](std::string_view part, int line) {
    try {
      const Json json =
          parse(part, static_cast<size_t>(part.data() - bytes.data()), report.file, line);
      Notes notes;
      const Row row{json, report.file, line, notes};
      const Format its = format_of(row);
      if (first > 0 && its != format)
        row.fail("",
                 std::string("this row is ") + name_of(its) + ", but line " +
                     std::to_string(first) + " is " + name_of(format),
                 "keep one format a file");
      reading.conversations.push_back(conversation_of(row, its, options.needs_answer));
      if (first == 0) format = its, first = line;
      for (const std::string& key : notes.passed_over) ++report.passed_over[key];
      for (const std::string& key : notes.for_template) ++report.for_template[key];
    } catch (const Error& error) {
      if (options.on_error == OnError::fail) throw;
      ++report.skipped;
      if (report.reasons.size() < kReasons) report.reasons.push_back(error.what());
    }
  });
  report.rows = reading.conversations.size();
  report.format = name_of(format);
  if (report.rows == 0 && report.skipped > 0)
    throw Error("none of the " + std::to_string(report.skipped) + " rows can be read",
                {.file = report.file}, report.reasons[0]);
  if (report.rows == 0)
    throw Error("the file holds no rows", {.file = report.file},
                "expected JSON Lines: one object a line");
  return reading;
}

std::vector<Conversation> read_chat_jsonl(const fs::path& file, bool needs_answer) {
  return read_conversations(file, {.needs_answer = needs_answer}).conversations;
}

void write_chat_jsonl(const fs::path& file, const std::vector<Conversation>& conversations) {
  const bool plain = std::all_of(
      conversations.begin(), conversations.end(),
      [](const Conversation& c) { return c.size() == 1 && c[0] == message("text", c[0].content); });
  std::string out;
  const auto field = [&](const char* key, const std::string& value) {
    append_escaped(out, key);
    out += ": ";
    append_escaped(out, value);
  };
  for (const Conversation& conversation : conversations) {
    out += '{';
    if (plain) {
      field("text", conversation[0].content);
    } else {
      out += "\"messages\": [";
      for (const Message& m : conversation) {
        out += &m == &conversation.front() ? "{" : ", {";
        field("role", m.role);
        out += ", ";
        field("content", m.content);
        if (!m.name.empty()) out += ", ", field("name", m.name);
        if (!m.train) out += ", \"train\": false";
        append_entries(out, m.more);
        out += '}';
      }
      out += ']';
      append_entries(out, conversation.more);
    }
    out += "}\n";
  }
  write_file(file, out);
}

}  // namespace inoculum
