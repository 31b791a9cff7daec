// A server's replies to a judge's requests: read from what it sends, and kept in a file.
#pragma once

#include <string>
#include <unordered_map>

#include "core/base/files.h"
#include "experiments/evaluation/judges/judge_scores.h"

namespace inoculum {

// The body of an answer with status 200, in the shapes that servers have:
//   text             choices[0].message.content, as a text or as parts ({type: text, text};
//                    thoughts are no part of it), or the older choices[0].text;
//                    without <think>…</think>
//   log-probabilities  choices[0].logprobs.content, or the older {tokens, token_logprobs,
//                    top_logprobs}; null, −Infinity and NaN count as probability 0. Only those of
//                    the text: thoughts' tokens are left out. None where `top_logprobs` are missing
//   end              finish_reason length, content_filter, refusal; or message.refusal
// What cannot be read is named in the reply's `error`.
// Log-probabilities that were not asked for are not read.
JudgeReply read_reply(const std::string& body, bool with_logprobs = true);

// The replies of a file (JSON Lines) by the hash of their requests. A line that a killed process
// left half-written is left out.
class Replies {
 public:
  explicit Replies(fs::path file);  // need not be there yet
  const JudgeReply* find(const std::string& key) const;
  // In one write, at the end of the file.
  void add(const std::string& key, const std::string& model, const JudgeReply& reply);

 private:
  fs::path file_;
  std::unordered_map<std::string, JudgeReply> replies_;
};

}  // namespace inoculum
