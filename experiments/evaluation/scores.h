// The judged answers of one model, and what they sum up to: rates with intervals, by condition.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/files.h"
#include "datasets/worlds/world.h"
#include "experiments/evaluation/statistics.h"
#include "experiments/evaluation/vocabulary.h"

namespace inoculum {

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

// Of an evaluation's folder: its scores.jsonl, with prompts and answers from completions.jsonl.
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

// What of a summary's answers has no score, in words: a line for each metric and kind.
std::string text_no_scores(const Json& summary);

}  // namespace inoculum
