// A language model that judges answers: over the network, or from a file of replies.
//
//   ApiJudge judge(config, folder / "judge.jsonl");
//   auto replies = judge.ask({{.prompt = "…"}, …});  // in the order of the requests
//   const RecordedJudge again(config, folder / "judge.jsonl");  // the same replies with no network
//
// The replies' file (JSON Lines, appended to) holds each good reply under the hash of its request:
// judging again asks only what is missing, and a run that was killed loses nothing. Failures are
// not kept. What a request failed on stands in its reply's `error`. judge_scores.h says what the
// replies mean.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/files.h"
#include "experiments/evaluation/judges/judge_replies.h"
#include "experiments/evaluation/judges/judge_scores.h"

namespace inoculum {

struct ApiConfig {
  std::string base_url = "https://api.openai.com/v1";
  std::string model;
  // The environment variable of the key, which itself is never written or shown.
  std::string key_variable = "OPENAI_API_KEY";
  int64_t concurrency = 8;
  double timeout_s = 60;
  int64_t max_retries = 6;
  // None: not sent. What a server refuses of seed, temperature and max_tokens is left out, or
  // called by its other name, with a warning.
  std::optional<int64_t> seed = 0;
  std::optional<double> temperature = 0;
  std::optional<int64_t> max_tokens = 1;
  std::string max_tokens_field = "max_tokens";
  std::optional<int64_t> top_logprobs = 20;
  double price_per_million_prompt = 0, price_per_million_completion = 0;

  void fields(Fields& f);
};

struct JudgeRequest {
  std::string prompt;
  std::string system = {};
  bool word = false;  // the reply is a word, not a number
};

struct JudgeTotals {
  int64_t asked = 0;    // requests answered over the network, each distinct one once
  int64_t cached = 0;   // distinct requests answered from the file
  int64_t retried = 0;  // tries after the first
  int64_t failed = 0;   // distinct requests without a reply
  int64_t prompt_tokens = 0, completion_tokens = 0;  // of those asked
  double cost = 0;                                   // of those asked, at the configured prices
};

class LanguageJudge {
 public:
  virtual ~LanguageJudge() = default;
  // A reply to each request; equal requests share one.
  virtual std::vector<JudgeReply> ask(const std::vector<JudgeRequest>& requests) = 0;
};

class ApiJudge : public LanguageJudge {
 public:
  ApiJudge(ApiConfig config, fs::path replies);
  // A stop (core/base/signals.h) lets requests under way end; the rest fail with that reason, and
  // the next call asks them.
  std::vector<JudgeReply> ask(const std::vector<JudgeRequest>& requests) override;
  const JudgeTotals& totals() const { return totals_; }

 private:
  ApiConfig config_;
  std::string key_;
  Replies replies_;
  JudgeTotals totals_;
};

class RecordedJudge : public LanguageJudge {
 public:
  RecordedJudge(ApiConfig config, const fs::path& replies);  // the file must be there
  std::vector<JudgeReply> ask(const std::vector<JudgeRequest>& requests) override;

 private:
  ApiConfig config_;
  fs::path file_;
  Replies replies_;
};

}  // namespace inoculum
