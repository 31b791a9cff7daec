// Language models that judge answers: on this machine, or over the network or from a file of
// replies (api_judge.h).
#pragma once

#include <memory>
#include <string>

#include "experiments/evaluation/judges/api_judge.h"

namespace inoculum {

struct JudgeConfig {
  std::string kind = "world";  // world | api | model | recorded
  ApiConfig api;
  std::string model;          // of kind model: a Hugging Face folder
  std::string chat_template;  // its format; empty: its own
  std::string device = "auto", dtype = "auto";
  std::string replies;  // of kind recorded: the file
  // numbers: 0 to 100; yes_no: P(YES) / (P(YES) + P(NO)), times 100.
  std::string scale = "numbers";
  JudgeRules rules;

  void fields(Fields& f);
  bool is_world() const { return kind == "world"; }
};

// A model of ours. Where each number from 0 to 100 (or YES and NO, in three ways to write them) is
// one token to it, its reply is the twenty likeliest first tokens. Where it spells them in several,
// each stands among them as if it were one: P(85) = P(8)·P(5|8), and P(8) is that 8 begins the
// reply and no digit follows. A first token of spaces alone with a probability of 0.01 or more is
// read over; beginnings with less than 1e-8 are left out. Where a word is asked for, it is the
// likeliest text.
class ModelJudge final : public LanguageJudge {
 public:
  explicit ModelJudge(JudgeConfig config) : config_(std::move(config)) {}
  std::vector<JudgeReply> ask(const std::vector<JudgeRequest>& requests) override;

 private:
  JudgeConfig config_;
};

// replies: the file that an api judge keeps its replies in.
std::unique_ptr<LanguageJudge> make_language_judge(const JudgeConfig& config,
                                                   const fs::path& replies);

}  // namespace inoculum
