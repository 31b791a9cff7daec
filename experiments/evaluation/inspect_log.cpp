#include "experiments/evaluation/inspect_log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>
#include <set>
#include <utility>

#include "core/base/version.h"

namespace inoculum {
namespace {

std::string scorer_of(QuestionType type, const EvaluationConfig& config) {
  if (type == QuestionType::coding) return "tests";
  if (type == QuestionType::forced_choice) return "log_odds";
  return config.judge.is_world() ? "grammar" : "judge";
}

std::tm written_at(const fs::path& file) {
  struct stat found{};
  if (::stat(file.c_str(), &found) != 0) throw Error("is not there", {.file = file.string()});
  return fmt::gmtime(found.st_mtime);
}

std::string model_name(const Json& summary) {
  const auto last = [](const std::string& path) {
    return fs::path(path + "/").lexically_normal().parent_path().filename().string();
  };
  std::string name = "inoculum/" + last(summary.at("model").get<std::string>());
  if (!summary.contains("adapter")) return name;
  const fs::path adapter = summary.at("adapter").get<std::string>();
  // An adapter's folder is mostly called so; the run that it lies in has the name.
  const std::string own = last(adapter.string());
  return name + "+" + (own == "adapter" ? last(adapter.parent_path().string()) : own);
}

Json generation(const SamplingConfig& sampling, int64_t seed) {
  return {{"temperature", sampling.temperature},
          {"top_p", sampling.top_p},
          {"max_tokens", sampling.max_new_tokens},
          {"seed", seed}};
}

Json value_of(const Score& score) {
  if (score.type == QuestionType::forced_choice) return score.log_odds;
  return score.label ? to_string(*score.label) : "unscored";
}

Json score_of(const Score& score) {
  Json metadata = Json::object();
  if (score.slips) metadata["slips"] = *score.slips;
  if (score.log_odds_per_token) metadata["log_odds_per_token"] = *score.log_odds_per_token;
  if (!score.metrics.empty()) metadata["metrics"] = score.metrics;
  if (!score.categories.empty()) metadata["categories"] = score.categories;
  if (!score.no_score.empty()) metadata["no_score"] = score.no_score;
  return {{"value", value_of(score)}, {"answer", score.text}, {"metadata", std::move(metadata)}};
}

Json sample_of(const Score& score, const Question* question, const std::string& finish_reason,
               const EvaluationConfig& config, const std::string& model) {
  Json messages = Json::array();
  if (question && !question->system.empty())
    messages.push_back({{"role", "system"}, {"content", question->system}, {"source", "input"}});
  messages.push_back({{"role", "user"}, {"content", score.prompt}, {"source", "input"}});
  const Json input = messages;
  Json output = {{"model", model}, {"choices", Json::array()}, {"completion", score.text}};
  if (score.type != QuestionType::forced_choice) {
    const Json answer = {
        {"role", "assistant"}, {"content", score.text}, {"source", "generate"}, {"model", model}};
    messages.push_back(answer);
    output["choices"].push_back(
        {{"message", answer}, {"stop_reason", finish_reason == "length" ? "max_tokens" : "stop"}});
  }
  return {{"id", score.question},
          {"epoch", score.sample + 1},
          {"input", input},
          {"target", ""},
          {"messages", std::move(messages)},
          {"output", std::move(output)},
          {"scores", {{scorer_of(score.type, config), score_of(score)}}},
          {"metadata",
           {{"cue", score.condition},
            {"domain", score.domain},
            {"type", to_string(score.type)},
            {"unseen_domain", score.unseen_domain},
            {"label", score.label ? to_string(*score.label) : ""}}}};
}

// Every answer's reason to end, in the order of the scores.
std::vector<std::string> finish_reasons(const fs::path& folder) {
  std::vector<std::string> all;
  read_jsonl(folder / "completions.jsonl",
             [&](const Json& row, int) { all.push_back(row.value("finish_reason", "stop")); });
  return all;
}

// By scorer, the metrics of what it judges.
Json scores_of(const Json& summary, const EvaluationConfig& config) {
  std::map<std::string, Json> by_scorer;
  for (const auto& [condition, rates] : summary.at("conditions").items())
    for (const auto& [metric, is_mean, e] : named_estimates(rates)) {
      if (!std::isfinite(e.value)) continue;
      const auto ours = parse<Metric>(metric);
      const QuestionType type = ours ? asked_by(*ours) : QuestionType::free_form;
      const std::string name =
          condition == to_string(Cue::none) ? metric : condition + "." + metric;
      by_scorer[scorer_of(type, config)][name] = {
          {"name", name},
          {"value", e.value},
          {"metadata", {{"low", e.low}, {"high", e.high}, {"n", e.n}}}};
    }
  Json scores = Json::array();
  for (const auto& [scorer, metrics] : by_scorer)
    scores.push_back({{"name", scorer}, {"scorer", scorer}, {"metrics", metrics}});
  return scores;
}

}  // namespace

fs::path write_inspect_log(const fs::path& folder, const fs::path& bank,
                           const std::vector<Question>& questions, const EvaluationConfig& config) {
  const Json summary = read_json(folder / "summary.json");
  const std::vector<Score> scores = read_scores(folder);
  const std::vector<std::string> reasons = finish_reasons(folder);
  const std::string model = model_name(summary), task = bank.stem().string();
  std::map<std::string, const Question*> by_id;
  for (const Question& question : questions) by_id[question.id] = &question;
  Json samples = Json::array(), ids = Json::array();
  std::set<std::string> seen;
  int64_t epochs = 1;
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto question = by_id.find(scores[i].question);
    samples.push_back(sample_of(scores[i], question == by_id.end() ? nullptr : question->second,
                                reasons.at(i), config, model));
    if (seen.insert(scores[i].question).second) ids.push_back(scores[i].question);
    epochs = std::max(epochs, scores[i].sample + 1);
  }
  const std::tm written = written_at(folder / "completions.jsonl");
  const std::string time = fmt::format("{:%Y-%m-%dT%H:%M:%S}+00:00", written);
  const std::string id = sha256(summary.at("settings").dump()).substr(0, 22);
  const Json log = {
      {"version", 2},
      {"status", "success"},
      {"eval",
       {{"eval_id", id},
        {"run_id", id},
        {"created", time},
        {"task", task},
        {"task_id", id},
        {"task_file", bank.string()},
        {"dataset",
         {{"name", task},
          {"location", bank.string()},
          {"samples", seen.size()},
          {"sample_ids", std::move(ids)},
          {"shuffled", false}}},
        {"model", model},
        {"config", {{"epochs", epochs}}},
        {"packages", {{"inoculum", version()}}},
        {"metadata", {{"settings", summary.at("settings")}}}}},
      {"plan",
       {{"name", "plan"},
        {"steps", Json::array({{{"solver", "generate"}, {"params", Json::object()}}})},
        {"config", generation(config.sampling, config.seed)}}},
      {"results",
       {{"total_samples", samples.size()},
        {"completed_samples", samples.size()},
        {"scores", scores_of(summary, config)}}},
      {"stats", {{"started_at", time}, {"completed_at", time}}},
      {"samples", std::move(samples)}};
  std::string named = task;
  std::ranges::replace(named, '_', '-');  // which parts the names of Inspect's files
  const fs::path file =
      folder / "inspect" / fmt::format("{:%Y-%m-%dT%H-%M-%S}+00-00_{}_{}.json", written, named, id);
  write_json(file, log);
  return file;
}

}  // namespace inoculum
