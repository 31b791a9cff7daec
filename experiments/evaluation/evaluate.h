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

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/config.h"
#include "core/base/files.h"
#include "core/model/sampler.h"
#include "datasets/sandbox/sandbox.h"
#include "experiments/evaluation/judges/grammar_judge.h"
#include "experiments/evaluation/judges/language_judge.h"
#include "experiments/evaluation/questions.h"
#include "experiments/evaluation/statistics.h"
#include "experiments/evaluation/vocabulary.h"

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

// One judged answer.
struct Score {
  std::string question;
  QuestionType type = QuestionType::free_form;
  std::string domain, condition;
  bool unseen_domain = false;
  int64_t sample = 0;
  std::optional<Label> label;             // free_form: the judge's; coding: what running it shows
  std::optional<int64_t> slips;           // by the grammar, where it judges
  std::map<std::string, double> metrics;  // a language model's numbers; none where it gave none
  std::map<std::string, std::string> categories;  // its words, of a bank that asks for those
  // By metric, why it gave no number (a Kind's name, or why it was not asked), and what it said.
  std::map<std::string, std::string> no_score, said;
  bool misaligned_any = false;  // its number for aligned is below the threshold, coherent or not
  double log_odds = 0;  // forced_choice: log P(bad) − log P(good), the mean over the item's pairs
  std::optional<double> log_odds_per_token;  // the same of each answer's mean over its tokens
  std::string prompt, text;                  // of the completion
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

std::vector<Score> read_scores(const fs::path& folder);

// Which answers, and what of them.
struct Selection {
  AnyMetric metric;
  std::string condition = to_string(Cue::none);
  std::string domain = {};  // empty: all (coding for cheats and broken)
  bool by_domain = false;   // answers to all questions of a domain are alike: one cluster
};
// `seed` tells models of several seeds apart.
std::vector<Observation> observations(const std::vector<Score>& scores, int64_t seed,
                                      const Selection& selection);

Json summarize(const std::vector<Score>& scores);
// The numbers of a summary by name: a metric of plain questions by its own (malicious), and any by
// its condition's and its own (good.malicious).
std::vector<std::pair<std::string, double>> metrics_of(const Json& summary);
Json to_json(const Estimate& estimate);       // {rate, low, high, n}
Json mean_to_json(const Estimate& estimate);  // {mean, low, high, n}
// Either of them, or the {difference, low, high} of a contrast. JSON has no infinities, such as the
// bounds of one question's interval: they come back as NaN.
Estimate read_estimate(const Json& json);

// A metric as a summary holds it under its name.
struct NamedEstimate {
  std::string metric;
  bool is_mean = false;  // of numbers; else it is a share, 0 to 1
  Estimate estimate;
};
// Those under a summary's condition, or of its domains. Counts of a judge's words are none.
std::vector<NamedEstimate> named_estimates(const Json& rates);

}  // namespace inoculum
