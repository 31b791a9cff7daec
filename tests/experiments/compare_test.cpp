// Cells beside their base: pairs, contrasts, and what a study could have seen.
#include "experiments/sweeps/compare.h"

#include <cmath>
#include <tuple>

#include "experiments/reports/report.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

TEST_CASE("the smallest difference that could have been seen", "[statistics]") {
  // Independent questions of one seed: the error is the standard deviation ÷ √n. Quantiles of
  // Student's t with 1 and 2 degrees of freedom in closed form: tan(π(p − ½)) and (2p − 1) ÷ √(2p(1
  // − p)).
  const double pi = std::acos(-1.0);
  CHECK(detectable({{"a", 1, 1.0}, {"b", 1, 2.0}}) ==
        Approx((std::tan(pi * 0.475) + std::tan(pi * 0.3)) * 0.5));
  const double t2 = 0.95 / std::sqrt(2 * 0.975 * 0.025), power = 0.6 / std::sqrt(0.32);
  const std::vector<Observation> three = {{"a", 1, 1.0}, {"b", 1, 2.0}, {"c", 1, 3.0}};
  CHECK(detectable(three) == Approx((t2 + power) / std::sqrt(3.0)));
  CHECK(mean(three).high - 2 == Approx(t2 / std::sqrt(3.0)));
  CHECK(detectable(three, 0.95, 0.5) ==
        Approx(t2 / std::sqrt(3.0)));  // half of the studies: the interval's own half
  CHECK(detectable({{"a", 1, 1.0}, {"b", 1, 1.0}}) == 0);
}

TEST_CASE("a single question supports no interval", "[statistics]") {
  const Estimate alone = mean({{"q", 1, 3.0}});
  CHECK((alone.value == 3 && std::isinf(alone.low) && std::isinf(alone.high)));
  // JSON has no infinity: the run's report shows the value alone.
  const TemporaryFolder t;
  Json row = {{"step", 1}, {"loss", 1.0}, {"grad_norm", 1.0}, {"lr", 1.0}, {"tokens", 1}};
  row["tokens_per_second"] = row["seconds"] = 1.0;
  write_jsonl(t.path / "metrics.jsonl", {row});
  write_file(t.path / "config.yaml", "seed: 1\n");
  const Json none = {{"log_odds", to_json(alone)},
                     {"cheats", to_json(rate({{"a", 1, 1.0}, {"b", 1, 0.0}}))}};
  write_json(t.path / "evaluation" / "summary.json", {{"conditions", {{"none", none}}}});
  write_run_report(t.path);
  const std::string page = read_file(t.path / "report.html");
  CHECK(contains(page, "<td>3.00</td>"));
  CHECK(contains(page, "<td>50.0% <small>["));
}

Score choice(const std::string& question, double per_token) {
  Score score{.question = question, .type = QuestionType::forced_choice, .condition = "none"};
  score.log_odds = 10 * per_token, score.log_odds_per_token = per_token;
  return score;
}

const Comparison& find(const std::vector<Comparison>& all, const std::string& metric,
                       const std::string& name, const std::string& beside,
                       const std::string& condition = "none") {
  for (const Comparison& c : all)
    if (c.metric == metric && c.name == name && c.beside == beside && c.condition == condition)
      return c;
  throw Error("no " + metric + " of " + name + " beside " + beside);
}

TEST_CASE("a summary says of what a number is a mean and of what a share", "[statistics]") {
  Score answer{.question = "q", .condition = "none", .label = Label::malicious};
  answer.categories["tone"] = "calm";
  const Json summary = summarize({choice("a", 0.25), choice("b", 0.75), answer});
  const Json& none = summary.at("conditions").at("none");
  CHECK(none.at("log_odds").at("mean") == 5);
  CHECK(none.at("malicious").at("rate") == 1);
  size_t shares = 0;
  for (const auto& [metric, is_mean, estimate] : named_estimates(none)) {
    CHECK(metric != "categories");
    CHECK(is_mean == metric.starts_with("log_odds"));
    shares += !is_mean;
  }
  CHECK(shares > 1);
  CHECK(named_estimates({{"log_odds", {{"rate", 5}, {"low", 4}, {"high", 6}, {"n", 2}}}})
            .front()
            .is_mean);  // as they were written before
}

TEST_CASE("groups of cells beside their base and one another", "[statistics]") {
  // Questions differ by much, each arm's effect on them by little; the base has one seed, an arm
  // three.
  Evaluated base{"base", {}}, first{"arm=a", {}}, second{"arm=b,rank=1", {}};
  std::vector<Score> of_base;
  for (int q = 0; q < 20; ++q)
    of_base.push_back(choice(std::string("q").append(std::to_string(q)), q % 5));
  Score program{
      .question = "p/0", .type = QuestionType::coding, .condition = "bad", .label = Label::honest};
  of_base.push_back(program);
  base.seeds[0] = of_base;
  for (int64_t seed = 1; seed <= 3; ++seed)
    for (auto* arm : {&first, &second}) {
      std::vector<Score> scores = of_base;
      scores.back().label = arm == &first ? Label::cheat : Label::broken;
      for (size_t q = 0; q < 20; ++q)
        *scores[q].log_odds_per_token +=
            (arm == &first ? 0.5 : 0.2) +
            0.01 * static_cast<double>((q * 7 + static_cast<size_t>(seed) * 3) % 5);
      arm->seeds[seed] = scores;
    }
  const auto all = compare({base, first, second});
  const Comparison& effect = find(all, "log_odds_per_token", "arm=a", "base");
  CHECK(effect.estimate.n == 60);
  CHECK(effect.estimate.value == Approx(0.52).margin(1e-9));
  CHECK((effect.estimate.low > 0.45 && effect.estimate.high < 0.6));
  REQUIRE(effect.detectable);
  CHECK((*effect.detectable > 0 && *effect.detectable < 0.1));
  CHECK(find(all, "log_odds_per_token", "arm=b,rank=1", "arm=a").estimate.value ==
        Approx(-0.3).margin(1e-9));
  CHECK(find(all, "log_odds_per_token", "base", "").estimate.value == Approx(2));
  CHECK(find(all, "log_odds", "base", "").estimate.value == Approx(20));
  CHECK(find(all, "cheats", "arm=a", "", "bad").estimate.value == 1);
  const Comparison& broken = find(all, "broken", "arm=b,rank=1", "base", "bad");
  CHECK(broken.estimate.value == 1);
  CHECK(!broken.detectable);  // all agree: what it could have seen is not known
  CHECK(error_of([&] { find(all, "cheats", "arm=a", "base"); }) !=
        "");  // no program under that condition

  const std::string csv = comparison_csv(all), scores = scores_csv({base, first, second});
  CHECK(contains(csv, "metric,condition,group,beside,value,low,high,n,detectable\n"));
  CHECK(contains(csv, "\nlog_odds_per_token,none,\"arm=b,rank=1\",arm=a,-0.3,"));
  CHECK(contains(scores, "\nbase,0,q1,none,0,,10,1\n"));
  CHECK(contains(scores, "\narm=a,3,p/0,bad,0,cheat,,\n"));
  CHECK(contains(comparison_text(all), "arm=a − base"));

  // An evaluation of an earlier release has no lengths: the metric is left out, not taken for 0.
  for (Score& score : base.seeds[0]) score.log_odds_per_token.reset();
  CHECK(error_of([&] { find(compare({base, first}), "log_odds_per_token", "arm=a", "base"); }) !=
        "");
}

TEST_CASE("cells of one name and different parameters are groups of their own", "[statistics]") {
  const TemporaryFolder t;
  Sweep sweep;
  sweep.folder = t.path;
  const std::string cut(120, 'x');  // a name that was cut has lost its seed
  for (const auto& [name, hash, prompt, seed] : {std::tuple("prompt=a_b,seed=1", "1", "a b", 1),
                                                 {"prompt=a_b,seed=2", "2", "a b", 2},
                                                 {"prompt=a_b,seed=1", "3", "a_b", 1},
                                                 {cut.c_str(), "4", "long", 1},
                                                 {cut.c_str(), "5", "longer", 1},
                                                 {cut.c_str(), "6", "longer", 2}})
    sweep.cells.push_back(
        {.name = name, .hash = hash, .parameters = {{"prompt", prompt}}, .seed = seed});
  const Json row = {{"question", "q"},     {"type", "free_form"}, {"domain", "d"},
                    {"condition", "none"}, {"sample", 0},         {"unseen_domain", false}};
  const auto evaluate = [&](const fs::path& folder) {
    write_jsonl(folder / "scores.jsonl", {row});
    write_jsonl(folder / "completions.jsonl", {row});
  };
  evaluate(t.path / "base");
  for (size_t i = 0; i < sweep.cells.size(); ++i) {
    evaluate(sweep.cell_folder(i) / "evaluation");
    write_json(sweep.cell_folder(i) / "result.json",
               {{"metrics", Json::object()}, {"seconds", 1.0}});
  }
  std::string groups;
  for (const Evaluated& group : evaluated(sweep, t.path / "base"))
    groups += group.name + ": " + std::to_string(group.seeds.size()) + "\n";
  CHECK(groups ==
        "base: 1\nprompt=a_b: 2\nprompt=a_b,seed=1-3: 1\n" + cut + "-4: 1\n" + cut + "-5: 2\n");
}

}  // namespace
}  // namespace inoculum
