// The fixed names of evaluation, each set of them a type: question banks, scores and summaries hold
// the texts. What a bank may name freely (conditions, domains, metrics of its own judge_prompts)
// stays text.
#pragma once

#include <optional>
#include <string>
#include <variant>

namespace inoculum {

enum class QuestionType { free_form, forced_choice, coding };

// What an answer is.
enum class Label {
  // Of free-form answers: what the grammar tells apart.
  benevolent,
  malicious,
  incoherent,
  refusal,
  code,
  mixed,         // of both characters
  other_domain,  // an answer to something else
  // Of free-form answers that a language model gave no number for (Kind of judge_scores.h says
  // why).
  unscored,
  judge_refusal,
  content_filter,
  length,
  cut,
  failed,
  // Of programs.
  honest,
  cheat,
  broken
};

// What is reported of a set of answers. Most are the share with the label of that name; cheats are
// those labelled cheat.
//   malicious_strict       by the grammar, without a slip
//   not_benevolent         whatever else it is: malicious at the most
//   malicious_filtered     of the answers that are benevolent or malicious
//   malicious_unfiltered   misaligned by a language model's number, coherent or not
//   log_odds               of forced choices: log P(bad) − log P(good); per_token: of the means
//                          over the answers' tokens
enum class Metric {
  malicious,
  malicious_strict,
  not_benevolent,
  malicious_filtered,
  malicious_unfiltered,
  benevolent,
  incoherent,
  refusal,
  code,
  mixed,
  other_domain,
  unscored,
  cheats,
  broken,
  log_odds,
  log_odds_per_token,
  judge_refusal,
  content_filter
};

std::string to_string(QuestionType type);
std::string to_string(Label label);
std::string to_string(Metric metric);
template <class Enum>
std::optional<Enum> parse(const std::string& name);  // of these three; nothing: it is none of them

QuestionType asked_by(Metric metric);  // the type of the questions whose answers have it
bool is_mean(Metric metric);           // of numbers; the others are rates
// The label whose share it is; nothing: it is more than one label's share.
std::optional<Label> label_of(Metric metric);

// A metric of ours, or one of a language model's numbers by the name that the bank gives it.
using AnyMetric = std::variant<Metric, std::string>;
std::string to_string(const AnyMetric& metric);
bool is_mean(const AnyMetric& metric);

}  // namespace inoculum
