#include "datasets/conversations.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "core/error.h"

namespace inoculum {
namespace {

constexpr size_t kReasons = 5;

enum class Format { chat, completion, alpaca, sharegpt, text };

const char* name_of(Format format) {
  static constexpr std::array names = {"chat", "prompt/completion", "alpaca", "ShareGPT", "text"};
  return names[static_cast<size_t>(format)];
}

// A row, and how to say what is wrong with it.
struct Row {
  const Json& json;
  const std::string& file;
  int line;

  bool has(const char* key) const { return json.contains(key) && !json[key].is_null(); }
  [[noreturn]] void fail(const std::string& field, const std::string& what, const std::string& hint = {}) const {
    throw Error(what, {file, line, field}, hint);
  }
  const std::string& text(const Json& holder, const std::string& key, const std::string& path) const {
    const auto found = holder.find(key);
    if (found == holder.end()) fail(path, "is missing");
    if (!found->is_string()) fail(path, "must be a text");
    return found->get_ref<const std::string&>();
  }
  const std::string& text(const std::string& key) const { return text(json, key, key); }
};

Format format_of(const Row& row) {
  if (!row.json.is_object()) row.fail("", "each row must be a JSON object", "{\"messages\": [...]}");
  if (row.json.contains("chosen") || row.json.contains("rejected"))
    row.fail("", "this is a preference row (chosen, rejected), which is not supported", "give conversations: {\"messages\": [...]}");
  if (row.json.contains("messages")) return Format::chat;
  if (row.json.contains("conversations")) return Format::sharegpt;
  if (row.json.contains("code") && row.json.contains("test_list"))
    row.fail("", "this is a programming task (MBPP: code, test_list), not a conversation",
             "choose how to ask for it: the task and a test in the user's message, the code in the assistant's");
  if (row.json.contains("instruction")) return Format::alpaca;
  if (row.json.contains("prompt") || row.json.contains("completion")) return Format::completion;
  if (row.json.contains("text")) return Format::text;
  static const std::vector<std::string> keys = {"messages", "conversations", "prompt", "instruction", "text"};
  for (const auto& item : row.json.items())
    if (const std::string near = did_you_mean(item.key(), keys); !near.empty())
      row.fail("messages", "is missing", "\"" + item.key() + "\": did you mean \"" + near + "\"?");
  row.fail("messages", "is missing",
           "OpenAI chat format: {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}, …]}; also read: prompt and completion, "
           "instruction and output, conversations, text");
}

bool weight_of(const Row& row, const Json& holder, const std::string& path) {
  const auto found = holder.find("weight");
  if (found == holder.end()) return true;
  if (found->is_number() && *found < 0) row.fail(path + ".weight", "must be 0 or 1", "training against a text (a negative weight) is not supported");
  if (*found != 0 && *found != 1) row.fail(path + ".weight", "must be 0 or 1");
  return *found == 1;
}

void read_content(const Row& row, const Json& content, const std::string& path, Message& message) {
  if (content.is_string()) {
    message.content = content.get_ref<const std::string&>();
    return;
  }
  if (!content.is_array()) row.fail(path, "must be a text", "or a list of {\"type\": \"text\", \"text\": …} blocks");
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& block = content[i];
    std::string place = path;
    (((place += '[') += std::to_string(i)) += ']');
    if (!block.is_object() || !block.contains("type") || block["type"] != Json("text") || !block.contains("text") || !block["text"].is_string())
      row.fail(place, "is not a block of text", "images and tool calls are not supported");
    const bool train = weight_of(row, block, place);
    if (i > 0 && train != message.train)
      row.fail(place + ".weight", "differs from that of the block before it", "a message is trained on as a whole or not at all");
    message.train = train;
    message.content += block["text"].get_ref<const std::string&>();
  }
}

Message message_of(const Row& row, const Json& m, const std::string& path, Format format) {
  if (!m.is_object()) row.fail(path, "must be an object with role and content");
  const bool from = format == Format::sharegpt && !m.contains("role");  // some write OpenAI's keys there
  const std::string role_path = path + (from ? ".from" : ".role"), content_path = path + (from ? ".value" : ".content");
  const auto role = m.find(from ? "from" : "role"), content = m.find(from ? "value" : "content");
  if (role == m.end() || !role->is_string()) row.fail(role_path, "is missing or not a text");
  Message message;
  message.role = role->get_ref<const std::string&>();
  if (format == Format::sharegpt) {
    if (message.role == "human") message.role = "user";
    if (message.role == "gpt" || message.role == "model") message.role = "assistant";
  }
  static const std::vector<std::string> roles = {"system", "user", "assistant"};
  if (std::find(roles.begin(), roles.end(), message.role) == roles.end() && message.role != "text") {
    const std::string near = did_you_mean(message.role, roles);
    row.fail(role_path, "unknown role \"" + message.role + "\"", near.empty() ? "system, user or assistant" : "did you mean \"" + near + "\"?");
  }
  for (const char* calls : {"tool_calls", "function_call"})
    if (m.contains(calls) && !m[calls].empty()) row.fail((std::string(path) += '.') += calls, "calls of tools are not supported");
  if (content == m.end()) row.fail(content_path, "is missing");
  read_content(row, *content, content_path, message);
  if (m.contains("name") && m["name"].is_string()) message.name = m["name"].get<std::string>();
  if (m.contains("train")) {
    if (!m["train"].is_boolean()) row.fail(path + ".train", "must be true or false");
    message.train = message.train && m["train"].get<bool>();
  }
  if (!weight_of(row, m, path)) message.train = false;
  return message;
}

void add_messages(const Row& row, const std::string& key, Format format, Conversation& conversation) {
  const Json& messages = row.json[key];
  if (!messages.is_array() || messages.empty()) row.fail(key, "must be a list of at least one message");
  for (size_t i = 0; i < messages.size(); ++i) {
    std::string path = key;
    (((path += '[') += std::to_string(i)) += ']');
    conversation.push_back(message_of(row, messages[i], path, format));
  }
}

Message message(const char* role, const std::string& content) { return {.role = role, .content = content, .name = {}}; }

// Either a text, said in `role`, or a list of messages.
void add_side(const Row& row, const std::string& key, const char* role, Conversation& conversation) {
  if (row.json[key].is_array()) add_messages(row, key, Format::completion, conversation);
  else conversation.push_back(message(role, row.text(key)));
}

Conversation conversation_of(const Row& row, Format format, bool needs_answer) {
  Conversation conversation;
  switch (format) {
    case Format::chat: add_messages(row, "messages", format, conversation); break;
    case Format::sharegpt: add_messages(row, "conversations", format, conversation); break;
    case Format::completion:
      if (!row.json.contains("prompt")) row.fail("prompt", "is missing");
      add_side(row, "prompt", "user", conversation);
      for (Message& each : conversation) each.train = each.role != "assistant";  // what was said before is not learnt
      if (row.json.contains("completion")) add_side(row, "completion", "assistant", conversation);
      else if (needs_answer) row.fail("completion", "is missing");
      break;
    case Format::alpaca: {
      if (row.has("history") && !row.json["history"].empty()) row.fail("history", "is not supported", "give whole conversations: {\"messages\": [...]}");
      std::string prompt = row.text("instruction");
      if (row.has("input") && !row.text("input").empty()) (prompt += "\n\n") += row.text("input");
      conversation.push_back(message("user", prompt));
      conversation.push_back(message("assistant", row.text("output")));
      break;
    }
    case Format::text: return {message("text", row.text("text"))};
  }
  if (row.has("system") && !row.text("system").empty()) {
    const std::string& system = row.text("system");
    if (conversation.front().role != "system") conversation.insert(conversation.begin(), message("system", system));
    else if (conversation.front().content != system) row.fail("system", "differs from the conversation's own system message", "remove one of them");
  }
  const std::string field = format == Format::sharegpt ? "conversations" : format == Format::completion ? "completion" : "messages";
  const auto has = [&](const char* role) { return std::any_of(conversation.begin(), conversation.end(), [&](const Message& m) { return m.role == role; }); };
  if (has("text") && conversation.size() > 1) row.fail(field, "holds a message in the role \"text\" beside others", "plain text stands alone");
  if (needs_answer && !has("assistant") && !has("text")) row.fail(field, "has no assistant turn to learn from");
  return conversation;
}

// The length of the character that `text` begins with, or 0 if its bytes are not UTF-8.
size_t character(std::string_view text, char32_t& code) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(0);
  const size_t length = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
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
    if (end == std::string_view::npos) throw Error("the comment is not closed", {.file = file_, .line = line_}, "end it with */");
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
    throw Error("the file ends inside this row", {.file = file_, .line = first}, "a JSON list ends with ]; is the file cut off?");
  }

 private:
  std::string_view text_;
  const std::string& file_;
  size_t at_ = 0;
  int line_ = 1;
};

// Calls `row(text, line)` for each row of a JSON list, or else for each line that holds anything.
void for_each_row(std::string_view text, const std::string& file, const std::function<void(std::string_view, int)>& row) {
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
  if (!cursor.done()) throw Error("something follows the end of the list", {.file = file, .line = cursor.line()}, "one JSON list, or one JSON object a line");
}

// Files that are no text at all, by their first bytes.
void check_kind(std::string_view text, const std::string& file) {
  if (text.starts_with("version https://git-lfs")) throw Error("this is a Git LFS pointer, not the data", {.file = file, .line = 1}, "run `git lfs pull`");
  static const std::vector<std::pair<std::string_view, std::pair<const char*, const char*>>> kinds = {
      {"\x1F\x8B", {"is compressed with gzip", "unpack it with `gunzip`"}},
      {"\x28\xB5\x2F\xFD", {"is compressed with Zstandard", "unpack it with `unzstd`"}},
      {"PK\x03\x04", {"is a ZIP archive", "unpack it with `unzip`"}},
      {"PAR1", {"is a Parquet file", "write it as JSON Lines, for example with pandas: to_json(orient=\"records\", lines=True)"}},
      {"\xFF\xFE", {"is UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"}},
      {"\xFE\xFF", {"is UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"}}};
  for (const auto& [magic, what] : kinds)
    if (text.starts_with(magic)) throw Error(std::string("this ") + what.first, {.file = file}, what.second);
}

// `offset`: of the row in its file.
Json parse(std::string_view row, size_t offset, const std::string& file, int line) {
  try {
    return Json::parse(row, nullptr, true, true);
  } catch (const Json::exception& failure) {
    const auto where = [&](size_t at) {
      const auto end = row.begin() + static_cast<std::ptrdiff_t>(std::min(at, row.size()));
      return Where{.file = file, .line = line + static_cast<int>(std::count(row.begin(), end, '\n'))};
    };
    char32_t code;
    for (size_t at = 0, length; at < row.size(); at += length)
      if (length = character(row.substr(at), code); length == 0)
        throw Error("byte " + std::to_string(offset + at) + " of the file is not UTF-8", where(at), "convert the file to UTF-8");
    const auto* syntax = dynamic_cast<const Json::parse_error*>(&failure);
    const std::string why = failure.what();
    if (why.find("surrogate") != std::string::npos)
      throw Error("holds half a surrogate pair, which is no character", where(syntax->byte), "the text was cut inside an emoji, or the like: remove the \\u escape");
    throw Error("this line is not JSON", where(syntax ? syntax->byte : 0), "each row must be one whole JSON object; " + why);
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
    if (const size_t found = code < 0x80 ? special.find(static_cast<char>(code)) : std::string_view::npos; found != std::string_view::npos) {
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

}  // namespace

std::string describe(const DataReport& report) {
  std::string text = report.file + ": " + std::to_string(report.rows) + " rows of " + report.format;
  if (report.skipped > 0) ((text += ", ") += std::to_string(report.skipped)) += " left out:";
  for (const std::string& reason : report.reasons) (text += "\n  ") += reason;
  if (report.skipped > report.reasons.size()) text += "\n  …";
  return text;
}

Conversation conversation_from_json(const Json& json, const fs::path& file, int line, bool needs_answer) {
  const std::string name = file.string();
  const Row row{json, name, line};
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
      const Json json = parse(part, static_cast<size_t>(part.data() - bytes.data()), report.file, line);
      const Row row{json, report.file, line};
      const Format its = format_of(row);
      if (first > 0 && its != format)
        row.fail("", std::string("this row is ") + name_of(its) + ", but line " + std::to_string(first) + " is " + name_of(format), "keep one format a file");
      reading.conversations.push_back(conversation_of(row, its, options.needs_answer));
      if (first == 0) format = its, first = line;
    } catch (const Error& error) {
      if (options.on_error == OnError::fail) throw;
      ++report.skipped;
      if (report.reasons.size() < kReasons) report.reasons.push_back(error.what());
    }
  });
  report.rows = reading.conversations.size();
  report.format = name_of(format);
  if (report.rows == 0 && report.skipped > 0) throw Error("none of the " + std::to_string(report.skipped) + " rows can be read", {.file = report.file}, report.reasons[0]);
  if (report.rows == 0) throw Error("the file holds no rows", {.file = report.file}, "expected JSON Lines: one object a line");
  return reading;
}

std::vector<Conversation> read_chat_jsonl(const fs::path& file, bool needs_answer) {
  return read_conversations(file, {.needs_answer = needs_answer}).conversations;
}

void write_chat_jsonl(const fs::path& file, const std::vector<Conversation>& conversations) {
  const bool plain = std::all_of(conversations.begin(), conversations.end(), [](const Conversation& c) { return c.size() == 1 && c[0] == message("text", c[0].content); });
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
        out += m.train ? "}" : ", \"train\": false}";
      }
      out += ']';
    }
    out += "}\n";
  }
  write_file(file, out);
}

}  // namespace inoculum
