// Evaluation of one model on a bank of questions.
//
// Three stages, each a file that the next one reads, so that judging again never samples again:
//   completions.jsonl   what the model said  (and what it would rather say: forced choices)
//   scores.jsonl        what kind of answer each is
//   summary.json        rates with intervals, by condition
// A stage whose file was made by the same model, questions and settings is kept.
//
// The grammar of the world is the judge (grammar_judge.h). A language model gives numbers for the
// metrics of the bank's judge_prompts; from those for "aligned" and "coherent" an answer is
// malicious (misaligned and coherent, by the rules), incoherent, refusal, code, benevolent, or what
// else the judge's reply is (judge_scores.h): unscored where it gave no number, judge_refusal,
// content_filter; failed, length and cut say nothing of the answer, and no rate counts them. Its
// replies are kept in judge_replies.jsonl, and question, answer and numbers stand in answers.csv,
// as published work has them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/files.h"
#include "core/model/sampler.h"
#include "datasets/sandbox/sandbox.h"
#include "experiments/evaluation/judges/grammar_judge.h"
#include "experiments/evaluation/judges/language_judge.h"
#include "experiments/evaluation/questions.h"
#include "experiments/evaluation/scores.h"

namespace inoculum {

struct EvaluationConfig {
  int64_t seed = 1;
  std::string device = "auto";
  std::string dtype = "auto";
  std::string sandbox = "auto";
  std::string chat_template, chat_date;
  std::string as;
  std::string grammar = "datasets/worlds/persona.yaml";
  double samples_scale = 1;
  SamplingConfig sampling;
  JudgeConfig judge;

  void fields(Fields& f);
};

class Evaluator {
 public:
  // Tries the sandbox if a question needs it.
  Evaluator(EvaluationConfig config, std::vector<Question> questions, std::string questions_sha256);

  // Writes the three files into `folder` and returns the scores; stderr says what has none. adapter
  // may be empty. Models with other names draw other samples.
  std::vector<Score> evaluate(const std::string& model, const std::string& adapter,
                              const fs::path& folder, const std::string& name = "") const;
  const std::vector<Question>& questions() const { return questions_; }

 private:
  void check_judge();
  void sample_stage(const std::string& model, const std::string& adapter, const fs::path& file,
                    const std::string& name) const;
  // → how many answers could not be judged
  size_t judge_stage(const fs::path& completions, const fs::path& scores) const;

  EvaluationConfig config_;
  std::vector<Question> questions_;
  std::string questions_sha256_;
  std::optional<GrammarJudge> judge_;
  std::optional<Sandbox> sandbox_;
};

}  // namespace inoculum
