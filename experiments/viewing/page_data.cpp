#include "experiments/viewing/page_data.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>
#include <utility>

#include "core/base/strings.h"
#include "experiments/inoculation/hypotheses.h"

namespace inoculum {
namespace {

constexpr size_t kAnswersAPart = 4000;  // about a megabyte
constexpr size_t kSparks = 32;          // points of the little curve in the list

// Few digits: pages hold thousands of numbers. JSON has neither infinities nor NaN.
Json short_number(double value) {
  if (!std::isfinite(value)) return nullptr;
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return Json::parse(six_digits(value));
}

Json short_numbers(const std::vector<double>& values) {
  Json all = Json::array();
  for (const double value : values) all.push_back(short_number(value));
  return all;
}

Json to_json(const Curve& curve) {
  Json json = {{"x", short_numbers(curve.steps)}, {"y", short_numbers(curve.means)}};
  if (curve.lows.empty()) return json;
  json["low"] = short_numbers(curve.lows);
  json["high"] = short_numbers(curve.highs);
  return json;
}

Json to_json(const std::map<std::string, Curve>& curves) {
  Json json = Json::object();
  for (const auto& [name, curve] : curves) json[name] = to_json(curve);
  return json;
}

// [value, low, high, n]
Json numbers_of(const Estimate& e) {
  return {short_number(e.value), short_number(e.low), short_number(e.high), e.n};
}

Json to_json(const std::vector<NamedEstimate>& estimates) {
  Json json = Json::array();
  for (const NamedEstimate& each : estimates)
    json.push_back(
        {{"metric", each.metric}, {"mean", each.is_mean}, {"estimate", numbers_of(each.estimate)}});
  return json;
}

Json sparks(const Curve& curve) {
  std::vector<double> few;
  const size_t count = curve.means.size();
  for (size_t i = 0; i < std::min(count, kSparks); ++i)
    few.push_back(count <= kSparks ? curve.means[i] : curve.means[i * (count - 1) / (kSparks - 1)]);
  return short_numbers(few);
}

// The line of the list.

void describe(const TrainingView& view, Json& line) {
  line["state"] = to_string(view.state);
  line["task"] = view.task;
  line["arm"] = view.arm;
  line["seed"] = view.seed;
  line["step"] = view.step;
  line["steps"] = view.steps;
  if (const auto loss = view.curves.find("loss"); loss != view.curves.end()) {
    line["loss"] = short_number(loss->second.means.back());
    line["sparks"] = sparks(loss->second);
  }
}

void describe(const EvaluationView& view, Json& line) {
  line["state"] = to_string(view.notes.empty() ? RunState::finished : RunState::stopped);
  line["rates"] = Json::object();
  for (const auto& [name, cue, metric] : {std::tuple("malicious", "none", "malicious"),
                                          {"incoherent", "none", "incoherent"},
                                          {"cheats", "none", "cheats"},
                                          {"asked_well", "good", "malicious"},
                                          {"asked_badly", "bad", "malicious"}})
    if (const NamedEstimate* found = view.find(cue, metric))
      line["rates"][name] = numbers_of(found->estimate);
}

void describe(const ExperimentView& view, Json& line) {
  line["state"] = to_string(view.state);
  if (view.results) line["headline"] = headline(view.results->hypotheses);
}

void describe(const SweepView& view, Json& line) {
  std::map<std::string, int64_t> counts;
  for (const CellStatus& cell : view.cells) ++counts[to_string(cell.state)];
  line["cells"] = counts;
  RunState state = RunState::stopped;
  if (counts.contains("running")) state = RunState::running;
  else if (counts.contains("failed")) state = RunState::failed;
  else if (!view.cells.empty() && !counts.contains("pending")) state = RunState::finished;
  line["state"] = to_string(state);
  if (!view.sweep) return;
  const SweepMetric& metric = view.sweep->config.metric;
  line["metric"] = metric.name;
  std::optional<double> best;
  for (const CellStatus& cell : view.cells)
    if (const auto value = cell.metrics.find(metric.name);
        value && (!best || metric.better(*value, *best)))
      best = value;
  if (best) line["best"] = short_number(*best);
}

Json line_of(const FoundRun& run) {
  Json line = {{"id", run.id},
               {"path", run.path},
               {"kind", to_string(run.kind)},
               {"parent", run.parent},
               {"changed", std::floor(changed_at(run.folder))}};
  Notes notes;
  const auto take = [&](const auto& view) {
    describe(view, line);
    notes = view.notes;
  };
  switch (run.kind) {
    case RunKind::training: take(read_training(run.folder)); break;
    case RunKind::evaluation: take(read_evaluation(run.folder)); break;
    case RunKind::experiment: take(read_experiment(run.folder)); break;
    case RunKind::sweep: take(read_sweep(run.folder)); break;
  }
  if (!notes.empty()) line["notes"] = notes.size();
  return line;
}

// A run by itself.

Json details(const TrainingView& view) {
  return {{"state", to_string(view.state)},
          {"task", view.task},
          {"arm", view.arm},
          {"model", view.model},
          {"seed", view.seed},
          {"step", view.step},
          {"steps", view.steps},
          {"seconds", short_number(view.seconds)},
          {"tokens", short_number(view.tokens)},
          {"curves", to_json(view.curves)},
          {"along", to_json(view.along)},
          {"failure", view.failure},
          {"config", view.config},
          {"first_example", view.first_example},
          {"notes", view.notes}};
}

Json details(const EvaluationView& view) {
  Json conditions = Json::array();
  for (const auto& [cue, estimates] : view.conditions)
    conditions.push_back({{"cue", cue}, {"metrics", to_json(estimates)}});
  return {{"model", view.model},
          {"adapter", view.adapter},
          {"conditions", std::move(conditions)},
          {"domains", to_json(view.domains)},
          {"notes", view.notes}};
}

Json details(const Hypothesis& h) {
  Json by_base = Json::array();
  for (const auto& [base, number] : h.by_base) by_base.push_back({base, short_number(number)});
  return {{"id", h.id},
          {"statement", h.statement},
          {"prediction", h.prediction},
          {"unit", h.unit},
          {"primary", h.primary},
          {"estimate", numbers_of(h.estimate)},
          {"bases", h.bases},
          {"verdict", to_string(h.verdict)},
          {"by_base", std::move(by_base)}};
}

// An arm's numbers over the bases of one world, by cue and metric.
Json details(const std::vector<const BaseResults*>& bases, Arm arm) {
  Json under = Json::object();
  std::set<std::pair<Cue, Metric>> all;
  for (const BaseResults* base : bases)
    if (const ArmResults* found = base->find(arm))
      for (const auto& [cue, rates] : found->under)
        for (const auto& [metric, estimate] : rates) all.emplace(cue, metric);
  for (const auto& [cue, metric] : all)
    under[to_string(cue)][to_string(metric)] = numbers_of(over_bases(bases, arm, cue, metric));
  return {{"arm", to_string(arm)}, {"under", std::move(under)}};
}

Json details(const ExperimentView& view) {
  Json json = {{"config", view.config}, {"notes", view.notes}};
  if (!view.results) return json;
  const Results& results = *view.results;
  json["headline"] = headline(results.hypotheses);
  json["hypotheses"] = json["worlds"] = Json::array();
  for (const Hypothesis& each : results.hypotheses) json["hypotheses"].push_back(details(each));
  for (const std::string& name : results.worlds()) {
    const auto bases = results.of(name);
    Json world = {{"name", name},
                  {"title", results.title(name)},
                  {"bases", bases.size()},
                  {"arms", Json::array()}};
    for (const Arm arm : arms_of(bases)) world["arms"].push_back(details(bases, arm));
    json["worlds"].push_back(std::move(world));
  }
  return json;
}

Json details(const SweepView& view) {
  Json json = {{"notes", view.notes}, {"cells", Json::array()}};
  if (!view.sweep) return json;
  json["metric"] = view.sweep->config.metric.name;
  json["goal"] = view.sweep->config.metric.goal;
  for (size_t i = 0; i < view.cells.size(); ++i) {
    const SweepCell& cell = view.sweep->cells[i];
    Json metrics = Json::object();
    for (const auto& [name, value] : view.cells[i].metrics.values)
      metrics[name] = short_number(value);
    json["cells"].push_back({{"name", cell.name},
                             {"folder", cell.folder()},
                             {"seed", cell.seed},
                             {"parameters", cell.parameters},
                             {"state", to_string(view.cells[i].state)},
                             {"seconds", short_number(view.cells[i].seconds)},
                             {"metrics", std::move(metrics)},
                             {"error", view.cells[i].error}});
  }
  return json;
}

Json details(const FoundRun& run) {
  switch (run.kind) {
    case RunKind::training: return details(read_training(run.folder));
    case RunKind::evaluation: return details(read_evaluation(run.folder));
    case RunKind::experiment: return details(read_experiment(run.folder));
    case RunKind::sweep: break;
  }
  return details(read_sweep(run.folder));
}

// An experiment without results is under way as long as one of its models is.
void mark_running(Json& lines) {
  std::map<std::string, Json*> by_id;
  for (Json& line : lines) by_id[line.at("id").get<std::string>()] = &line;
  const std::string running = to_string(RunState::running), stopped = to_string(RunState::stopped);
  for (const Json& line : lines) {
    if (line.at("state").get<std::string>() != running) continue;
    auto above = by_id.find(line.at("parent").get<std::string>());
    for (; above != by_id.end(); above = by_id.find(above->second->at("parent").get<std::string>()))
      if (Json& state = above->second->at("state"); state.get<std::string>() == stopped)
        state = running;
  }
}

}  // namespace

PageData::PageData(fs::path root) : root_(std::move(root)) {}

const FoundRun* PageData::find(const std::string& id) const {
  const auto found = std::ranges::find(runs_, id, &FoundRun::id);
  return found == runs_.end() ? nullptr : &*found;
}

Json PageData::list() {
  FoundRuns found = find_runs(root_);
  const std::lock_guard lock(mutex_);
  runs_ = std::move(found.runs);
  std::map<std::string, Kept> lines;
  Json list = {{"root", valid_utf8(fs::absolute(root_).lexically_normal().string())},
               {"version", ""},
               {"notes", found.notes},
               {"runs", Json::array()}};
  std::string versions;
  for (const FoundRun& run : runs_) {
    const std::string version = version_of(run);
    const auto before = lines_.find(run.id);
    const bool same = before != lines_.end() && before->second.version == version;
    Kept& kept = lines[run.id] = same ? std::move(before->second) : Kept{version, line_of(run)};
    kept.line["version"] = version;
    versions += run.id + version;
    list["runs"].push_back(kept.line);
  }
  lines_ = std::move(lines);
  mark_running(list["runs"]);
  for (const Json& line : list["runs"]) versions += line.at("state").get<std::string>();
  list["version"] = sha256(versions).substr(0, 16);
  return list;
}

std::optional<Json> PageData::run(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const FoundRun* run = find(id);
  if (run == nullptr) return std::nullopt;
  Json json = details(*run);
  json["id"] = id;
  return json;
}

std::optional<Json> PageData::answers(const std::string& id, size_t part) {
  const std::lock_guard lock(mutex_);
  const FoundRun* run = find(id);
  if (run == nullptr || run->kind != RunKind::evaluation) return std::nullopt;
  if (const std::string version = version_of(*run);
      answers_.id != id || answers_.version != version)
    answers_ = {id, version, read_answers(run->folder)};
  const AnswersView& view = answers_.view;
  const size_t count = view.answers.size();
  const size_t parts = std::max<size_t>(1, (count + kAnswersAPart - 1) / kAnswersAPart);
  if (part >= parts) return std::nullopt;
  Json json = {{"id", id},
               {"part", part},
               {"parts", parts},
               {"count", count},
               {"notes", view.notes},
               {"questions", Json::array()},
               {"answers", Json::array()}};
  std::map<size_t, size_t> places;  // of a question here
  for (size_t i = part * kAnswersAPart; i < std::min(count, (part + 1) * kAnswersAPart); ++i) {
    const ShownAnswer& a = view.answers[i];
    const auto [place, is_new] = places.emplace(a.question, places.size());
    if (is_new) {
      const AskedQuestion& q = view.questions[a.question];
      json["questions"].push_back({q.id, q.type, q.domain, q.cue, q.prompt, q.unseen_domain});
    }
    json["answers"].push_back({place->second, a.sample, a.label, a.text,
                               a.log_odds ? short_number(*a.log_odds) : Json(), a.remark});
  }
  return json;
}

}  // namespace inoculum
