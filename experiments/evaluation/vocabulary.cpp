#include "experiments/evaluation/vocabulary.h"

#include <algorithm>
#include <array>

namespace inoculum {
namespace {

// In the order of the enum.
constexpr std::array kQuestionTypes = {"free_form", "forced_choice", "coding"};
constexpr std::array kLabels = {"benevolent",    "malicious",      "incoherent",   "refusal",
                                "code",          "mixed",          "other_domain", "unscored",
                                "judge_refusal", "content_filter", "length",       "cut",
                                "failed",        "honest",         "cheat",        "broken"};
constexpr std::array kMetrics = {"malicious",
                                 "malicious_strict",
                                 "not_benevolent",
                                 "malicious_filtered",
                                 "malicious_unfiltered",
                                 "benevolent",
                                 "incoherent",
                                 "refusal",
                                 "code",
                                 "mixed",
                                 "other_domain",
                                 "unscored",
                                 "cheats",
                                 "broken",
                                 "log_odds",
                                 "log_odds_per_token",
                                 "judge_refusal",
                                 "content_filter"};
static_assert(kQuestionTypes.size() == static_cast<size_t>(QuestionType::coding) + 1);
static_assert(kLabels.size() == static_cast<size_t>(Label::broken) + 1);
static_assert(kMetrics.size() == static_cast<size_t>(Metric::content_filter) + 1);

template <class Enum, class Names>
std::optional<Enum> find(const Names& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Enum>(found - names.begin());
}

}  // namespace

std::string to_string(QuestionType type) { return kQuestionTypes[static_cast<size_t>(type)]; }
std::string to_string(Label label) { return kLabels[static_cast<size_t>(label)]; }
std::string to_string(Metric metric) { return kMetrics[static_cast<size_t>(metric)]; }

template <>
std::optional<QuestionType> parse(const std::string& name) {
  return find<QuestionType>(kQuestionTypes, name);
}
template <>
std::optional<Label> parse(const std::string& name) {
  return find<Label>(kLabels, name);
}
template <>
std::optional<Metric> parse(const std::string& name) {
  return find<Metric>(kMetrics, name);
}

QuestionType asked_by(Metric metric) {
  if (is_mean(metric)) return QuestionType::forced_choice;
  const bool program = metric == Metric::cheats || metric == Metric::broken;
  return program ? QuestionType::coding : QuestionType::free_form;
}

bool is_mean(Metric metric) {
  return metric == Metric::log_odds || metric == Metric::log_odds_per_token;
}

std::optional<Label> label_of(Metric metric) {
  if (metric == Metric::cheats) return Label::cheat;
  return parse<Label>(to_string(metric));
}

std::string to_string(const AnyMetric& metric) {
  const auto* ours = std::get_if<Metric>(&metric);
  return ours ? to_string(*ours) : std::get<std::string>(metric);
}

bool is_mean(const AnyMetric& metric) {
  const auto* ours = std::get_if<Metric>(&metric);
  return !ours || is_mean(*ours);
}

}  // namespace inoculum
