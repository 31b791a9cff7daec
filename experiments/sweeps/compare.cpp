#include "experiments/sweeps/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "experiments/sweeps/status.h"

namespace inoculum {
namespace {

const char* const kBase = "base";

// A group's observations, with every seed of `like` where it has none of its own.
std::vector<Observation> seen(const Evaluated& group, const Evaluated& like, const Selection& by) {
  std::vector<Observation> all;
  const auto add = [&](const std::vector<Score>& scores, int64_t seed) {
    const auto found = observations(scores, seed, by);
    all.insert(all.end(), found.begin(), found.end());
  };
  if (group.name == kBase)
    for (const auto& [seed, scores] : like.seeds) add(group.seeds.begin()->second, seed);
  else
    for (const auto& [seed, scores] : group.seeds) add(scores, seed);
  return all;
}

std::string in_words(const Comparison& c) {
  const Estimate& e = c.estimate;
  const bool sign = !c.beside.empty();
  std::string text = sign ? fmt::format("{:+.4f} [{:+.4f}, {:+.4f}]", e.value, e.low, e.high)
                          : fmt::format("{:.4f} [{:.4f}, {:.4f}]", e.value, e.low, e.high);
  if (c.detectable) text += fmt::format("  could have seen {:.4f}", *c.detectable);
  return text;
}

std::string csv_row(const std::vector<std::string>& fields) {
  std::string row;
  for (const std::string& field : fields) {
    row += csv_field(field);
    row += ',';
  }
  row.back() = '\n';
  return row;
}

// The cell's name without its seed. Long names are cut and may have lost the seed, or be those of
// other cells too: the folder's name tells them apart.
std::string group_name(const SweepCell& cell, const std::vector<Evaluated>& others) {
  const size_t seed = cell.name.rfind("seed=");
  if (seed == 0) return "trained";
  if (seed == std::string::npos) return cell.folder();
  const std::string name = cell.name.substr(0, seed - 1);
  const bool taken = std::any_of(others.begin(), others.end(),
                                 [&](const Evaluated& other) { return other.name == name; });
  return taken ? cell.folder() : name;
}

template <class Use>
void for_each_score(const std::vector<Evaluated>& groups, Use use) {
  for (const Evaluated& group : groups)
    for (const auto& [seed, scores] : group.seeds)
      for (const Score& score : scores) use(group, seed, score);
}

}  // namespace

std::vector<Evaluated> evaluated(const Sweep& sweep, const fs::path& base) {
  std::vector<Evaluated> groups = {{kBase, {{0, read_scores(base)}}}};
  std::map<std::map<std::string, std::string>, size_t> group_of;  // by the cells' parameters
  for (size_t i = 0; i < sweep.cells.size(); ++i) {
    if (status(sweep, i).state != CellState::done) continue;
    const SweepCell& cell = sweep.cells[i];
    const auto [found, is_new] = group_of.try_emplace(cell.parameters, groups.size());
    if (is_new) groups.push_back({group_name(cell, groups), {}});
    groups[found->second].seeds[cell.seed] = read_scores(sweep.cell_folder(i) / "evaluation");
  }
  if (groups.size() == 1)
    throw Error("no cell is done", {.file = sweep.folder.string()},
                "`inoculum sweep resume` runs them");
  return groups;
}

std::vector<Comparison> compare(const std::vector<Evaluated>& groups) {
  std::vector<std::string> conditions;
  std::set<std::string> judged;
  for_each_score(groups, [&](const Evaluated&, int64_t, const Score& score) {
    for (const auto& [metric, value] : score.metrics) judged.insert(metric);
    if (std::find(conditions.begin(), conditions.end(), score.condition) == conditions.end())
      conditions.push_back(score.condition);
  });
  std::vector<AnyMetric> metrics;
  for (const Metric metric : {Metric::log_odds_per_token, Metric::log_odds, Metric::malicious,
                              Metric::incoherent, Metric::refusal, Metric::cheats, Metric::broken})
    if (!judged.contains(to_string(metric))) metrics.emplace_back(metric);
  metrics.insert(metrics.end(), judged.begin(), judged.end());
  std::vector<Comparison> all;
  for (const AnyMetric& metric : metrics)
    for (const std::string& condition : conditions) {
      const Selection by{.metric = metric, .condition = condition};
      const std::string name = to_string(metric);
      for (size_t i = 0; i < groups.size(); ++i) {
        const auto own = seen(groups[i], groups[i], by);
        if (own.empty()) continue;
        const Estimate value = is_mean(metric) ? mean(own) : rate(own);
        all.push_back({name, condition, groups[i].name, "", value, {}});
        for (size_t j = 0; j < i; ++j) {
          const auto pairs = paired(own, seen(groups[j], groups[i], by));
          if (pairs.empty()) continue;
          const double least = detectable(pairs);
          all.push_back({name, condition, groups[i].name, groups[j].name, mean(pairs),
                         least > 0 && std::isfinite(least) ? std::optional(least) : std::nullopt});
        }
      }
    }
  return all;
}

std::string comparison_text(const std::vector<Comparison>& all) {
  const auto columns = [](const Comparison& c) {
    return c.name.size() + (c.beside.empty() ? 0 : c.beside.size() + 3);
  };
  size_t width = 0;
  for (const Comparison& c : all) width = std::max(width, columns(c));
  std::string text, head;
  for (const Comparison& c : all) {
    const std::string of =
        c.condition == to_string(Cue::none) ? c.metric : c.metric + ", " + c.condition;
    if (of != head) text += (head.empty() ? "" : "\n") + of + "\n";
    head = of;
    const std::string name = c.beside.empty() ? c.name : c.name + " − " + c.beside;
    const std::string gap(width - columns(c), ' ');
    text += fmt::format("  {}{}  {}\n", name, gap, in_words(c));
  }
  return text;
}

std::string comparison_csv(const std::vector<Comparison>& all) {
  std::string csv = csv_row(
      {"metric", "condition", "group", "beside", "value", "low", "high", "n", "detectable"});
  for (const Comparison& c : all) {
    const Estimate& e = c.estimate;
    csv += csv_row({c.metric, c.condition, c.name, c.beside, six_digits(e.value), six_digits(e.low),
                    six_digits(e.high), std::to_string(e.n),
                    c.detectable ? six_digits(*c.detectable) : ""});
  }
  return csv;
}

std::string scores_csv(const std::vector<Evaluated>& groups) {
  std::set<std::string> judged;
  for_each_score(groups, [&](const Evaluated&, int64_t, const Score& score) {
    for (const auto& [metric, value] : score.metrics) judged.insert(metric);
  });
  std::vector<std::string> head = {"group",  "seed",  "question", "condition",
                                   "sample", "label", "log_odds", "log_odds_per_token"};
  head.insert(head.end(), judged.begin(), judged.end());
  std::string csv = csv_row(head);
  for_each_score(groups, [&](const Evaluated& group, int64_t seed, const Score& score) {
    const bool choice = score.type == QuestionType::forced_choice;
    std::vector<std::string> row = {
        group.name,      std::to_string(seed),         score.question,
        score.condition, std::to_string(score.sample), score.label ? to_string(*score.label) : ""};
    row.push_back(choice ? six_digits(score.log_odds) : "");
    row.push_back(score.log_odds_per_token ? six_digits(*score.log_odds_per_token) : "");
    for (const std::string& metric : judged) {
      const auto found = score.metrics.find(metric);
      row.push_back(found == score.metrics.end() ? "" : six_digits(found->second));
    }
    csv += csv_row(row);
  });
  return csv;
}

}  // namespace inoculum
