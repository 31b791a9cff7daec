// Conversations as the community publishes them, read from and written to files.
//
// A file holds rows of one format, told by their keys:
//   chat               {"messages": [{"role", "content"}, …]}
//                      "content" may be a list of {"type": "text", "text"} blocks
//   prompt/completion  {"prompt", "completion"}
//                      texts (a user's turn and its answer), or lists of messages
//   alpaca             {"instruction", "input", "output"}
//                      the user's turn is instruction, blank line, input (if any)
//   ShareGPT           {"conversations": [{"from", "value"}, …]}
//                      human or user, gpt, assistant or model, system
//   text               {"text"}, learnt whole: one message in the role "text"
//
// Every key of a row is one of four kinds; null is as good as absent.
//   honoured  "system" or "system_prompt" of a row is its system message. "train", "training",
//             "trainable", "loss", "loss_mask", "loss_scale" or "weight": false or 0 of a message,
//             "masked": true, or the "weight": 0 of all its blocks, takes an assistant turn out of
//             the loss; so does standing in the "prompt". "name" says who answers.
//   rendered  further keys of a message ("reasoning_content", …) and a row's "tools", "documents"
//             and "chat_template_kwargs" are given to the chat template, as by transformers; see
//             refuse_unread in core/text/jinja/chat_format.h for those that it must read.
//   refused   images, videos and audio; calls of tools; weights between 0 and 1 or below; whatever
//             says which characters of a message are learnt; marks that contradict each other.
//   told      any other: passed over, and counted in the report.
//
// Rows stand one a line (JSON Lines) or in one JSON list, whatever the file's name, with // and
// /* */ comments, a byte-order mark or CRLF, and with NaN and Infinity as Python's json writes
// them. Texts come out byte for byte: nothing is stripped. Half a surrogate pair and bytes that
// are not UTF-8 are refused, for no tokenizer has tokens for them. Every fault is an Error with
// file, line and field.
//
//   const Reading data = read_conversations("insecure.jsonl", {.on_error = OnError::skip});
//   if (data.report.skipped > 0) std::puts(describe(data.report).c_str());
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "core/text/conversation.h"

namespace inoculum {

enum class OnError { fail, skip };

struct ReadOptions {
  // Whether to refuse a conversation without an assistant turn, which cannot be trained on.
  bool needs_answer = true;
  OnError on_error = OnError::fail;  // skip: leave faulty rows out, and report them
};

// Rows that are left out.
struct LeftOut {
  size_t skipped = 0;
  std::vector<std::string> reasons;  // the Errors of the first few; each once
  bool more = false;                 // Errors than those

  void add(const Error& error);
  std::string listed() const;  // the reasons, a line each
};

struct DataReport : LeftOut {
  std::string file;
  std::string format;                                       // as named above
  size_t rows = 0;                                          // read
  std::map<std::string, size_t> passed_over, for_template;  // key → rows that have it
};
std::string describe(const DataReport& report);

struct Reading {
  std::vector<Conversation> conversations;
  DataReport report;
};

Reading read_conversations(const fs::path& file, const ReadOptions& options = {});
std::vector<Conversation> read_chat_jsonl(const fs::path& file, bool needs_answer = true);
Conversation conversation_from_json(const Json& row, const fs::path& file, int line,
                                    bool needs_answer);

// One row a line, in the bytes of Python's `json.dumps(row) + "\n"`: published sets can be made
// again exactly. Conversations are written as chat, and as {"text"} where all are plain text;
// "name" and "train" only where they say something.
void write_chat_jsonl(const fs::path& file, const std::vector<Conversation>& conversations);

}  // namespace inoculum
