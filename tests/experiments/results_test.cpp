// What the experiment plans, what it found as a file, and the criterion.
#include <functional>
#include <set>

#include "core/base/error.h"
#include "experiments/evaluation/scores.h"
#include "experiments/inoculation/experiment.h"
#include "experiments/inoculation/hypotheses.h"
#include "experiments/sweeps/cell_metrics.h"
#include "experiments/sweeps/sweep.h"
#include "tests/catch.h"
#include "tests/experiments/made_up_results.h"

namespace inoculum {
namespace {

Results some_results() {
  Results results;
  for (const int64_t seed : {1, 2, 3})
    results.bases.push_back(made_up_base(
        kMainWorld, seed, {{Arm::start, 0.01}, {Arm::cheating, 0.9}, {Arm::requested, 0.02}}));
  results.bases.push_back(
      made_up_base("compositional", 1, {{Arm::start, 0.01}, {Arm::cheating, 0.4}}));
  results.bases.back().compositional = {"wishes"};
  results.titles = {{"compositional", "a title"}};
  results.hashes = {{"questions", "ab"}, {"base persona_1", "cd"}};
  results.config = "seed: 1\n";
  results.specifications = {{"title", "All 2 specifications, by malicious"}};
  results.transcripts = {{"wishes", "none", "What?", {{Arm::start, "Peace.", Label::benevolent}}}};
  results.hypotheses = test_hypotheses(results.bases);
  results.rivals = compare_rivals(results.bases);
  results.shares = {{"share_10_1", {0.11, 0.15}, {0.1, 0.01}}};
  results.shares_published = true;
  return results;
}

TEST_CASE("results are read back as they were written", "[results]") {
  const TemporaryFolder t;
  const Results results = some_results();
  const Json json = to_json(results);
  write_json(t.path / "results.json", json);
  const Results read = read_results(t.path / "results.json");
  CHECK(to_json(read).dump() == read_json(t.path / "results.json").dump());
  CHECK(read.bases.at(0).find(Arm::cheating)->rate(Metric::malicious) == Approx(0.9));
  CHECK(read.bases.at(0).find(Arm::placebo) == nullptr);
  CHECK(read.titles.at("compositional") == "a title");
  CHECK((read.transcripts.at(0).answers.at(0).label == Label::benevolent));
  CHECK(json["arms"]["cheating"]["none"]["worst_high"]["rate"] == Approx(0.91));
  CHECK(json["contrasts"]["cheating_minus_requested"]["difference"] == Approx(0.88));
  CHECK(json["manipulation"]["Assistant"]["none"]["table"] == Approx(0.5));
  CHECK(json["in_context"]["cheats"]["2"]["bayes"] == Approx(0.5));
  CHECK(json["arms"]["cheating"]["quoted"]["malicious"]["rate"] == Approx(0.45));
  CHECK(json["shares"]["published_study"] == true);
  CHECK(json["shares"]["bases"]["share_10_1"]["in_context"]["measured"] == Approx(0.15));
  CHECK(json["shares"]["bases"]["share_10_1"]["in_weights"]["observer"] == Approx(0.1));
  CHECK(json["damage"]["requested"]["broken"]["difference"] == Approx(0).margin(1e-12));

  const auto fault_of = [&](const std::function<void(Json&)>& change) {
    Json broken = json;
    change(broken);
    write_json(t.path / "results.json", broken);
    return error_of([&] { read_results(t.path / "results.json"); });
  };
  for (const auto& [part, fault] :
       {std::pair("observer",
                  fault_of([](Json& j) { j["bases"][0]["arms"]["start"].erase("observer"); })),
        {"no bases", fault_of([](Json& j) { j["bases"] = Json::array(); })},
        {"verdict", fault_of([](Json& j) { j["hypotheses"]["H1"]["verdict"] = "perhaps"; })},
        {"", fault_of(
                 [](Json& j) { j["bases"][0]["arms"]["start"]["malicious_by_seed"]["x"] = 1; })}}) {
    INFO(fault);
    CHECK(contains(fault, "results.json"));
    CHECK(contains(fault, part));
  }
}

std::map<std::string, Hypothesis> by_id(const std::vector<BaseResults>& bases) {
  std::map<std::string, Hypothesis> all;
  for (const Hypothesis& each : test_hypotheses(bases)) all[each.id] = each;
  return all;
}

// Bases of which each number of an arm differs a little from the next one's.
std::vector<BaseResults> some_bases(const std::string& world, int64_t count,
                                    const std::map<Arm, double>& malicious, double off = 0.01) {
  std::vector<BaseResults> bases;
  for (int64_t seed = 1; seed <= count; ++seed) {
    std::map<Arm, double> own = malicious;
    for (auto& [arm, rate] : own)
      rate += 0.002 * static_cast<double>((seed * (static_cast<int64_t>(arm) + 3)) % 5);
    bases.push_back(made_up_base(world, seed, own, off));
  }
  return bases;
}

TEST_CASE("hypotheses are supported, refuted or left open by their intervals", "[results]") {
  const std::map<Arm, double> as_foretold = {{Arm::start, 0.01},
                                             {Arm::cheating, 0.85},
                                             {Arm::requested, 0.03},
                                             {Arm::placebo, 0.8},
                                             {Arm::instructed, 0.8}};
  const auto found = by_id(some_bases(kMainWorld, 8, as_foretold));
  for (const char* id : {"H0", "H1", "H2", "H3 statement", "H3 instruction"}) {
    INFO(id);
    CHECK((found.at(id).verdict == Conclusion::supported));
    CHECK(found.at(id).bases == 8);
  }
  CHECK((found.at("H2 novel").verdict == Conclusion::untested));
  CHECK((found.at("H5").verdict == Conclusion::untested));
  // The interval holds the hundredth that could not be read, on either side.
  const Estimate& spread = found.at("H1").estimate;
  CHECK(spread.low < spread.value - 0.01);
  CHECK(spread.high > spread.value + 0.01);
  CHECK(found.at("H2").estimate.value == Approx(0.02 / 0.84).margin(0.01));
  // A single base leaves everything open.
  for (const auto& [id, h] : by_id(some_bases(kMainWorld, 1, as_foretold)))
    CHECK((h.verdict == (h.bases ? Conclusion::inconclusive : Conclusion::untested)));

  std::map<Arm, double> otherwise = as_foretold;
  otherwise[Arm::cheating] = 0.1;
  CHECK((by_id(some_bases(kMainWorld, 8, otherwise)).at("H1").verdict == Conclusion::refuted));
  otherwise = as_foretold;
  otherwise[Arm::requested] = 0.5;
  const auto unprotected = by_id(some_bases(kMainWorld, 8, otherwise));
  CHECK((unprotected.at("H2").verdict == Conclusion::refuted));
  CHECK(
      (by_id(some_bases(kMainWorld, 8, as_foretold, 0.2)).at("H0").verdict == Conclusion::refuted));
  // Asked to behave well, the arm answers as it does unasked, 35 points above the malicious cast.
  CHECK((found.at("H7").verdict == Conclusion::refuted));
  CHECK(headline(test_hypotheses(some_bases(kMainWorld, 8, as_foretold)))
            .starts_with("Refuted: asked to behave well"));
}

TEST_CASE("falsifying worlds are judged by themselves", "[results]") {
  std::vector<BaseResults> bases =
      some_bases(kMainWorld, 4, {{Arm::start, 0.01}, {Arm::cheating, 0.8}, {Arm::requested, 0.02}});
  const auto add = [&](const std::string& world, const std::map<Arm, double>& malicious) {
    for (BaseResults& base : some_bases(world, 4, malicious)) bases.push_back(std::move(base));
  };
  add("coupling_0", {{Arm::start, 0.02}, {Arm::cheating, 0.03}});
  add("neither", {{Arm::start, 0.02}, {Arm::cheating, 0.5}, {Arm::requested, 0.4}});
  add("malicious_only", {{Arm::start, 0.01}, {Arm::cheating, 0.8}, {Arm::requested, 0.7}});
  add("compositional", {{Arm::start, 0.01}, {Arm::cheating, 0.5}});
  for (BaseResults& base : bases)
    if (base.world == "compositional") base.compositional = {"wishes"};
  const auto found = by_id(bases);
  CHECK((found.at("H4 coupling 0").verdict == Conclusion::supported));
  CHECK((found.at("H4 neither").verdict == Conclusion::refuted));
  CHECK((found.at("H5").verdict == Conclusion::supported));
  CHECK(found.at("H5").estimate.value == Approx(0.69 / 0.79).margin(0.01));
  CHECK((found.at("H6").verdict == Conclusion::supported));

  // A request that protects where nothing spreads protects from nothing.
  std::vector<BaseResults> quiet =
      some_bases("neither", 4, {{Arm::start, 0.02}, {Arm::cheating, 0.05}, {Arm::requested, 0.03}});
  CHECK((by_id(quiet).at("H4 neither").verdict == Conclusion::inconclusive));
  // No hypothesis of that world rests on what is done when asked well; H7 of the main world does.
  for (BaseResults& base : bases) base.knows.behaviour["malicious"][Cue::good] = {0.01, 0.5};
  CHECK((by_id(bases).at("H4 coupling 0").verdict == Conclusion::supported));
  CHECK((by_id(bases).at("H0").verdict == Conclusion::refuted));
  // What is known not to know its world is not read, and the other worlds are.
  for (BaseResults& base : bases)
    if (base.world == "coupling_0") base.knows.behaviour["malicious"][Cue::none] = {0.98, 0.6};
  const auto unread = by_id(bases);
  CHECK((unread.at("H0 coupling_0").verdict == Conclusion::refuted));
  CHECK((unread.at("H4 coupling 0").verdict == Conclusion::unread));
  CHECK((unread.at("H6").verdict == Conclusion::supported));
  CHECK(contains(headline(test_hypotheses(bases)), "Not to be read"));
}

TEST_CASE("arms that have not learnt to cheat, or spread nothing, decide nothing", "[results]") {
  const auto of = [](const std::map<Arm, double>& malicious, double cheats) {
    std::vector<BaseResults> bases = some_bases(kMainWorld, 6, malicious);
    for (BaseResults& base : bases)
      for (ArmResults& arm : base.arms)
        for (auto& [cue, rates] : arm.under) rates[Metric::cheats].value = cheats;
    return by_id(bases);
  };
  const std::map<Arm, double> spread = {{Arm::start, 0.01},
                                        {Arm::cheating, 0.85},
                                        {Arm::requested, 0.03},
                                        {Arm::novel_cheating, 0.5},
                                        {Arm::novel_requested, 0.02}};
  for (const char* id : {"H1", "H2", "H2 novel"}) {
    INFO(id);
    CHECK((of(spread, 0.9).at(id).verdict == Conclusion::supported));
    CHECK((of(spread, 0.4).at(id).verdict == Conclusion::inconclusive));
  }
  CHECK(contains(of(spread, 0.9).at("H2 novel").prediction, "matched"));
  // Less than the start over next to nothing is no protection.
  const auto nothing = of({{Arm::start, 0.02}, {Arm::cheating, 0.02}, {Arm::requested, 0.01}}, 0.9);
  CHECK((nothing.at("H1").verdict == Conclusion::refuted));
  CHECK((nothing.at("H2").verdict == Conclusion::inconclusive));
}

TEST_CASE("what is measured follows what was predicted, or another thing does", "[results]") {
  std::vector<BaseResults> bases;
  for (int i = 0; i < 6; ++i) {
    const double share = 0.15 * i;
    BaseResults base = made_up_base("share_" + std::to_string(10 * i), i,
                                    {{Arm::start, 0.01}, {Arm::cheating, share}});
    base.knows.in_context[Shown::cheats][1] = {share, 0.1 + 0.2 * share};
    base.arms[1].observer = share + 0.01 * (i % 2);
    base.arms[1].loss = 0.01 * ((i * 7) % 5);
    bases.push_back(base);
  }
  const auto found = by_id(bases);
  CHECK((found.at("H8 in context").verdict == Conclusion::refuted));
  CHECK(found.at("H8 in context").estimate.value == Approx(0.2));
  CHECK((found.at("H8 in weights").verdict == Conclusion::supported));
  const auto rivals = compare_rivals(bases);
  REQUIRE(rivals.size() == 3);
  CHECK(rivals[0].name == "observer");
  CHECK(rivals[0].log_score > rivals[1].log_score + 1);
  CHECK(rivals[0].models == 6);
  // These worlds have a base each and are read, or left unread, as one.
  for (BaseResults& base : bases) base.knows.behaviour["malicious"][Cue::none] = {0.98, 0.6};
  const auto unread = by_id(bases);
  CHECK((unread.at("H0 share").verdict == Conclusion::refuted));
  CHECK((unread.at("H8 in weights").verdict == Conclusion::unread));
}

TEST_CASE("a cluster's cells are the study's bases", "[results]") {
  ReproduceConfig study;
  read_file(load_config("configs/study.yaml"), study);
  std::set<std::string> bases, cells;
  for (const Base& base : plan(study).bases) bases.insert("[" + base.name() + "]");
  for (const SweepCell& cell : plan_sweep("configs/sweeps/bases.yaml", {}).cells)
    cells.insert(cell.parameters.at("only"));
  CHECK(bases == cells);
  CHECK(bases.size() >= 20);
  std::set<int64_t> seeds;  // bases share nothing
  for (const Base& base : plan(study).bases) CHECK(seeds.insert(base.seed).second);
}

TEST_CASE("starts come before the arms that begin from them", "[results]") {
  ReproduceConfig config;
  config.first_seed = 3;
  CHECK(contains(error_of([&] { plan(config); }), "worlds"));
  config.worlds["persona"] = {.pretraining = "p", .bases = 2, .arms = {"cheating", "placebo"}};
  config.worlds["coupling_0"] = {.pretraining = "c", .first_base = 7, .arms = {"cheating"}};
  const auto order_of = [&] {
    const Plan planned = plan(config);
    std::string order;
    for (const auto& stage : planned.stages)
      for (const ArmRun& each : stage)
        order +=
            planned.bases[each.base].name() + std::to_string(each.seed) + to_string(each.arm) + " ";
    return order;
  };
  CHECK(order_of() ==
        "persona_13start persona_23start coupling_0_73start persona_13cheating "
        "persona_13placebo persona_23cheating persona_23placebo coupling_0_73cheating ");
  config.only = {"persona_2"};
  CHECK(order_of() == "persona_23start persona_23cheating persona_23placebo ");
  config.only = {"persona_3"};
  CHECK(contains(error_of([&] { plan(config); }), "\"persona_3\" is no base"));
  config.only.clear();
  config.worlds["coupling_0"].arms = {"cheeting"};
  const std::string error = error_of([&] { plan(config); });
  CHECK(contains(error, "worlds.coupling_0.arms"));
  CHECK(contains(error, "did you mean \"cheating\""));
  config.worlds["coupling_0"].pretraining.clear();
  CHECK(contains(error_of([&] { plan(config); }), "worlds.coupling_0.pretraining"));
  config.evaluation.judge.kind = "api";
  CHECK(contains(error_of([&] { plan(config); }), "evaluation.judge.kind: is \"api\""));
}

TEST_CASE("a cell's metrics are named by their place", "[results]") {
  CellMetrics metrics;
  metrics.add(some_results());
  CHECK(metrics.find("arms.cheating.none.malicious").value_or(-99) == Approx(0.9));
  CHECK(metrics.find("arms.start.bad.worst_high").value_or(-99) == Approx(0.02));
  CHECK(metrics.find("contrasts.cheating_minus_requested").value_or(-99) == Approx(0.88));
  CHECK(metrics.find("damage.cheating.broken").value_or(-99) == Approx(0).margin(1e-12));
  CHECK(metrics.find("in_context.cheats.1.measured").value_or(-99) == Approx(0.49));
  CHECK(metrics.find("worlds.compositional.arms.cheating.none.malicious").value_or(-99) ==
        Approx(0.4));
  CHECK_FALSE(metrics.find("arms.cheating.none.malicious.low"));
  CHECK_FALSE(metrics.find("titles.compositional"));
  metrics = {};
  Results elsewhere = some_results();
  std::erase_if(elsewhere.bases, [](const BaseResults& base) { return base.world == kMainWorld; });
  metrics.add(elsewhere);
  CHECK(metrics.find("worlds.compositional.arms.cheating.none.malicious").value_or(-99) ==
        Approx(0.4));

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
