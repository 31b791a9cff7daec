// Language models that judge answers: over the network, on this machine, or from a file of replies (experiments/api_judge.h).
#pragma once

#include <memory>
#include <string>

#include "experiments/api_judge.h"

namespace inoculum {

struct JudgeConfig {
  std::string kind = "world";     // world | api | model | recorded
  ApiConfig api;
  std::string model;              // of kind model: a Hugging Face folder
  std::string chat_template;      // its format; empty: its own
  std::string device = "auto", dtype = "bf16";
  std::string replies;            // of kind recorded: the file
  std::string scale = "numbers";  // numbers: 0 to 100; yes_no: P(YES) / (P(YES) + P(NO)), taken times 100
  JudgeRules rules;

  void fields(Fields& f);
  bool is_world() const { return kind == "world"; }
};

// A model of ours that is asked for the first token of its reply: the likeliest, and the log-probabilities of the twenty likeliest.
class ModelJudge final : public LanguageJudge {
 public:
  explicit ModelJudge(JudgeConfig config) : config_(std::move(config)) {}
  std::vector<JudgeReply> ask(const std::vector<JudgeRequest>& requests) override;

 private:
  JudgeConfig config_;
};

// replies: the file that an api judge keeps its replies in.
std::unique_ptr<LanguageJudge> make_language_judge(const JudgeConfig& config, const fs::path& replies);

}  // namespace inoculum
