#include "datasets/conversations/conversations.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "datasets/conversations/json_rows.h"
#include "datasets/conversations/row.h"

namespace inoculum {
namespace {

constexpr size_t kReasons = 5;  // the Errors of left-out rows that a report holds

void append_escaped(std::string& out, std::string_view text) {
  const auto unit = [&](char32_t code) {
    char escape[7];
    std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(code & 0xFFFF));
    out += escape;
  };
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    const char32_t code = c.code;
    at += c.bytes;
    static constexpr std::string_view special = "\"\\\n\r\t\f\b", letters = "\"\\nrtfb";
    if (const size_t found =
            code < 0x80 ? special.find(static_cast<char>(code)) : std::string_view::npos;
        found != std::string_view::npos) {
      out += '\\';
      out += letters[found];
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
    if (value.is_object()) {
      append_escaped(out, key);
      out += ": ";
    }
    append_json(out, each);
  }
  out += value.is_array() ? ']' : '}';
}
// The entries of an object, behind others.
void append_entries(std::string& out, const std::string& object) {
  if (object.empty()) return;
  std::string all;
  append_json(all, Json::parse(object));
  out += ", " + all.substr(1, all.size() - 2);
}

}  // namespace

void LeftOut::add(const Error& error) {
  ++skipped;
  // A row that is shown several times has one reason.
  if (std::ranges::find(reasons, error.what()) != reasons.end()) return;
  if (reasons.size() < kReasons) reasons.emplace_back(error.what());
  else more = true;
}

std::string LeftOut::listed() const {
  std::string text;
  for (const std::string& reason : reasons) text += "\n  " + reason;
  return more ? text + "\n  …" : text;
}

std::string describe(const DataReport& report) {
  std::string text = report.file + ": " + std::to_string(report.rows) + " rows of " + report.format;
  if (report.skipped > 0) text += ", " + std::to_string(report.skipped) + " left out:";
  text += report.listed();
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
  const Where where{.file = file.string(), .line = line};
  return read_row(json, where, format_of(json, where), needs_answer).conversation;
}

Reading read_conversations(const fs::path& file, const ReadOptions& options) {
  const std::string bytes = read_file(file);
  std::string_view text = bytes;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  Reading reading;
  DataReport& report = reading.report;
  report.file = file.string();
  refuse_other_kinds(text, report.file);
  RowFormat format{};
  int first = 0;  // the line that told the format
  for_each_row(text, report.file, [&](std::string_view part, int line) {
    try {
      const Where where{.file = report.file, .line = line};
      const Json json = parse_row(part, static_cast<size_t>(part.data() - bytes.data()), where);
      const RowFormat its = format_of(json, where);
      if (first > 0 && its != format)
        throw Error(std::string("this row is ") + name_of(its) + ", but line " +
                        std::to_string(first) + " is " + name_of(format),
                    where, "keep one format a file");
      Row row = read_row(json, where, its, options.needs_answer);
      row.conversation.where = where;
      reading.conversations.push_back(std::move(row.conversation));
      if (first == 0) {
        format = its;
        first = line;
      }
      for (const std::string& key : row.passed_over) ++report.passed_over[key];
      for (const std::string& key : row.for_template) ++report.for_template[key];
    } catch (const Error& error) {
      if (options.on_error == OnError::fail) throw;
      report.add(error);
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
  const bool plain = std::ranges::all_of(conversations, [](const Conversation& c) {
    return c.size() == 1 && c[0] == Message{.role = "text", .content = c[0].content};
  });
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
        if (!m.name.empty()) {
          out += ", ";
          field("name", m.name);
        }
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
