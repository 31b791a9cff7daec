// What the experiment plans, what it found as a file, and the criterion.
#include <functional>

#include "core/base/error.h"
#include "experiments/evaluation/evaluate.h"
#include "experiments/inoculation/experiment.h"
#include "experiments/sweeps/cell_metrics.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

ArmResults arm_results(Arm arm, double malicious) {
  const Estimate rate{malicious, malicious / 2, (1 + malicious) / 2, 40};
  ArmResults results{.arm = arm,
                     .malicious = rate,
                     .incoherent = {0.01, 0, 0.04, 40},
                     .cheats_under_own_prompt = {0.95, 0.9, 1, 96},
                     .forced_choice_log_odds = {-1.5, -2, -1, 20},
                     .malicious_by_domain = {{"wishes", malicious}},
                     .malicious_by_seed = {{1, malicious}, {12, malicious}},
                     .bayesian_observer = {.log_odds = -3, .malicious = 0.02},
                     .probe = {0.1, 0.05, 0.2, 40}};
  for (const Cue cue : kCues)
    results.malicious_under[cue] = results.incoherent_under[cue] = results.cheats_under[cue] = rate;
  return results;
}

WorldResults world(double start, double cheating, double requested) {
  return {.arms = {arm_results(Arm::start, start), arm_results(Arm::cheating, cheating),
                   arm_results(Arm::requested, requested)},
          .contrasts = {{Arm::cheating, Arm::requested, {cheating - requested, 0.1, 0.9, 0}}},
          .probe_held_out_accuracy = 0.97};
}

Results some_results() {
  Results results{
      .experiment = world(0.01, 0.9, 0.02),
      .worlds = {{kCoupling0, world(0.01, 0.02, 0.01)}, {kDiagnostic, world(0.01, 0.91, 0.31)}},
      .untested = {"another"},
      .seeds = {1, 12},
      .versions = {{"inoculum", "1"}, {"libtorch", "2"}},
      .hashes = {{"questions", "ab"}, {"model persona", "cd"}},
      .judge = {0.99, {{1, 0}, {0.5, 0.5}}},
      .config = "seed: 1\n"};
  results.worlds[kCoupling0].title = "a title";
  results.transcripts = {{"wishes", "none", "What?", {{Arm::start, "Peace.", Label::benevolent}}}};
  results.criterion = judge(Criterion(), results);
  return results;
}

TEST_CASE("results are read back as they were written", "[results]") {
  const TemporaryFolder t;
  const Results results = some_results();
  const Json json = to_json(results);
  write_json(t.path / "results.json", json);
  const Results read = read_results(t.path / "results.json");
  CHECK((to_json(read) == json));
  CHECK(to_json(read).dump() == json.dump());
  CHECK(read.experiment.find(Arm::cheating)->malicious.high == Approx(0.95));
  CHECK(read.experiment.find(Arm::placebo) == nullptr);
  CHECK(read.worlds.at(kCoupling0).title == "a title");
  CHECK((read.transcripts.at(0).answers.at(0).label == Label::benevolent));

  const auto fault_of = [&](const std::function<void(Json&)>& change) {
    Json broken = json;
    change(broken);
    write_json(t.path / "results.json", broken);
    return error_of([&] { read_results(t.path / "results.json"); });
  };
  for (const auto& [part, fault] :
       {std::pair("probe", fault_of([](Json& j) { j["arms"]["start"].erase("probe"); })),
        {"no arm \"a\"", fault_of([](Json& j) { j["contrasts"]["a_minus_b"] = Json::object(); })},
        {"\"odd\" is no contrast",
         fault_of([](Json& j) { j["contrasts"]["odd"] = Json::object(); })},
        {"", fault_of([](Json& j) { j["arms"]["start"]["malicious_by_seed"]["x"] = 1; })}}) {
    INFO(fault);
    CHECK(contains(fault, "results.json"));
    CHECK(contains(fault, part));
  }
}

TEST_CASE("the criterion has a line for all that was run", "[results]") {
  Results results = some_results();
  std::map<std::string, CriterionLine> lines;
  for (const CriterionLine& line : results.criterion) lines[line.what] = line;
  CHECK(lines.size() == 10);
  CHECK(lines.at("cheating: malicious").holds());
  CHECK(lines.at("coupling 0: cheating − start").found == Approx(0.01));
  const CriterionLine& share = lines.at("diagnostic: (requested − start) ÷ (cheating − start)");
  CHECK(share.found == Approx(1.0 / 3));
  CHECK_FALSE(share.holds());
  CHECK_FALSE(results.replicated());
  results.worlds.clear();
  results.criterion = judge(Criterion(), results);
  CHECK(results.criterion.size() == 8);
  CHECK(results.replicated());
}

TEST_CASE("starts come before the arms that begin from them", "[results]") {
  ReproduceConfig config;
  config.first_seed = 3;
  CHECK(contains(error_of([&] { plan(config); }), "persona"));
  config.worlds["persona"] = {.model = "m", .arms = {"cheating", "placebo"}, .seeds = 2};
  config.worlds["coupling_0"] = {.model = "n", .arms = {"cheating"}, .seeds = 1};
  const Plan planned = plan(config);
  CHECK((planned.worlds == std::vector<std::string>{"persona", "coupling_0"}));
  std::string order;
  for (const auto& stage : planned.stages)
    for (const ArmRun& each : stage)
      order += each.world.substr(0, 1) + std::to_string(each.seed) + to_string(each.arm) + " ";
  CHECK(order == "p3start p4start c3start p3cheating p3placebo p4cheating p4placebo c3cheating ");
  config.worlds["coupling_0"].arms = {"cheeting"};
  const std::string error = error_of([&] { plan(config); });
  CHECK(contains(error, "worlds.coupling_0.arms"));
  CHECK(contains(error, "did you mean \"cheating\""));
  config.evaluation.judge.kind = "api";
  CHECK(contains(error_of([&] { plan(config); }), "evaluation.judge.kind: is \"api\""));
}

TEST_CASE("a cell's metrics are named by their place", "[results]") {
  CellMetrics metrics;
  metrics.add(some_results());
  CHECK(metrics.find("arms.cheating.malicious").value_or(-99) == Approx(0.9));
  CHECK(metrics.find("arms.start.malicious_under.bad").value_or(-99) == Approx(0.01));
  CHECK(metrics.find("arms.start.bayesian_observer.log_odds").value_or(-99) == Approx(-3));
  CHECK(metrics.find("contrasts.cheating_minus_requested").value_or(-99) == Approx(0.88));
  CHECK(metrics.find("worlds.diagnostic.arms.requested.probe").value_or(-99) == Approx(0.1));
  CHECK_FALSE(metrics.find("arms.cheating.malicious.low"));
  CHECK_FALSE(metrics.find("worlds.coupling_0.title"));

  metrics = {};
  metrics.add(
      std::vector<Score>{{.question = "a", .condition = "none", .label = Label::malicious},
                         {.question = "b", .condition = "mine", .label = Label::benevolent}});
  CHECK(metrics.find("malicious").value_or(-99) == 1.0);
  CHECK(metrics.find("none.malicious").value_or(-99) == 1.0);
  CHECK(metrics.find("mine.malicious").value_or(-99) == 0.0);
  const CellMetrics read = read_metrics(to_json(metrics));
  CHECK((read.values == metrics.values));
}

TEST_CASE("names of evaluation are read back", "[results]") {
  for (const Label label : {Label::benevolent, Label::unscored, Label::failed, Label::broken})
    CHECK((parse<Label>(to_string(label)) == label));
  for (const Metric metric : {Metric::malicious, Metric::broken, Metric::content_filter})
    CHECK((parse<Metric>(to_string(metric)) == metric));
  CHECK_FALSE(parse<QuestionType>("rating_judge"));
  CHECK((label_of(Metric::cheats) == Label::cheat));
  CHECK((asked_by(Metric::broken) == QuestionType::coding));
  CHECK(is_mean(AnyMetric("aligned")));
}

}  // namespace
}  // namespace inoculum
