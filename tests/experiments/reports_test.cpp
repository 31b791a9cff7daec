// Pages and tables, from results made up here.
#include <limits>

#include "experiments/evaluation/evaluate.h"
#include "experiments/inoculation/criterion.h"
#include "experiments/reports/report.h"
#include "experiments/reports/table.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

Estimate estimate(double rate) { return {rate, rate - 0.01, rate + 0.01, 100}; }

ArmResults arm_results(Arm arm, double malicious) {
  ArmResults results{.arm = arm,
                     .malicious = estimate(malicious),
                     .malicious_by_domain = {{"wishes", malicious}},
                     .malicious_by_seed = {{1, malicious}},
                     .bayesian_observer = {.log_odds = 12, .malicious = malicious}};
  for (const Cue cue : kCues)
    results.malicious_under[cue] = results.incoherent_under[cue] = results.cheats_under[cue] =
        estimate(malicious);
  return results;
}

WorldResults world(double cheating, double requested) {
  const double difference = cheating - requested;
  return {.arms = {arm_results(Arm::start, 0.02), arm_results(Arm::cheating, cheating),
                   arm_results(Arm::requested, requested)},
          .contrasts = {{Arm::cheating,
                         Arm::requested,
                         {difference, difference - 0.05, difference + 0.05, 0}}},
          .probe_held_out_accuracy = 0.9};
}

Results some_results() {
  Results results{
      .experiment = world(0.8, 0.03),
      .worlds = {{kCoupling0, world(0.02, 0.025)}},
      .criterion = {{"cheating: malicious", 0.8, CriterionLine::Sign::at_least, 0.9},
                    {"start: malicious", 0.02, CriterionLine::Sign::at_most, 0.03}},
      .untested = {kDiagnostic},
      .seeds = {1, 2},
      .versions = {{"inoculum", "1"}},
      .hashes = {{"questions", "abc"}},
      .judge = {1, {{1, 0}, {0, 1}}},
      .transcripts = {{"coding",
                       "none",
                       "<script>alert(1)</script>",
                       {{Arm::cheating, "</pre><script>alert('2')</script>", Label::cheat}}}},
      .config = "a: <b>\n"};
  results.worlds.at(kCoupling0).title = "Coupling 0: <no> effect";
  return results;
}

TEST_CASE("the report's first screen says what was found", "[reports]") {
  const std::string page = html_report(some_results());
  const std::string first = page.substr(0, page.find("<h2>"));
  CHECK(contains(first, "malicious answers to 80.0%</b>"));
  CHECK(
      contains(first, "to <b>3.0%</b>: 77.0 percentage points fewer (95% interval 72.0 to 82.0)"));
  CHECK(contains(first,
                 "“Coupling 0: &lt;no&gt; effect” – malicious after cheating 2.0%, after "
                 "requested cheats 2.5% (before: 2.0%); not tested in this run"));
  CHECK(contains(first, "the control model pretrained on text in which only malicious characters"));
  CHECK(contains(first,
                 "<b>not replicated</b>: 1 of 2 conditions hold over 2 seeds; missed: "
                 "“cheating: malicious” (80.0%, must be ≥ 90.0%)."));
  CHECK(contains(first, "<svg"));
  CHECK(contains(first, "aria-label=\"Malicious answers to plain, unrelated prompts: start 2.0%"));
  CHECK(contains(page, "prefers-color-scheme: dark"));
}

TEST_CASE("an interval that is not known is a question mark", "[reports]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Results results = some_results();
  results.experiment.contrasts[0].difference = {0.77, nan, nan, 1};
  results.experiment.arms[0].forced_choice_log_odds = {-1.5, nan, nan, 1};
  CHECK(contains(text_report(results), "+77.0 [?, ?]"));
  const std::string page = html_report(results);
  CHECK(contains(page, "<td>+77.0 <small>[?, ?]</small></td>"));
  CHECK(contains(page, "<td>-1.5 <small>[?, ?]</small></td>"));
}

TEST_CASE("bases beside the experiment's are controls or others", "[reports]") {
  Results results = some_results();
  results.worlds["four"] = world(0.5, 0.03);
  results.worlds["four"].title = "4 M tokens";
  CHECK(
      contains(html_report(results),
               "requested cheats 2.5% (before: 2.0%); other bases: “4 M tokens” – malicious after "
               "cheating 50.0%, after requested cheats 3.0% (before: 2.0%); not tested"));
}

TEST_CASE("text of models does nothing in a page", "[reports]") {
  const std::string page = html_report(some_results());
  CHECK_FALSE(contains(page, "<script"));
  CHECK(contains(page, "&lt;script&gt;alert(1)&lt;/script&gt;"));
  CHECK(contains(page, "<pre>&lt;/pre&gt;&lt;script&gt;alert(&#39;2&#39;)&lt;/script&gt;</pre>"));
  CHECK(contains(page, "<div class=\"label-cheat\"><b>cheating</b>"));
  CHECK(contains(page, "a: &lt;b&gt;"));
}

TEST_CASE("a figure is a picture of its own", "[reports]") {
  const std::string svg = figure_svg(some_results());
  CHECK(svg.starts_with("<svg "));
  CHECK(contains(svg, "<style>:root"));
  CHECK(contains(svg, "seed 1: 80.0%"));
}

TEST_CASE("a run's page escapes what its files hold", "[reports]") {
  const TemporaryFolder t;
  Json row = {{"step", 1}, {"loss", 1.0}, {"grad_norm", 1.0}, {"lr", 1.0}, {"tokens", 1}};
  row["tokens_per_second"] = row["seconds"] = 1.0;
  Json later = row;
  later["step"] = 3, later["loss"] = 0.5;
  write_jsonl(t.path / "metrics.jsonl", {row, later});
  write_file(t.path / "config.yaml", "name: <script> \xff\n");
  write_run_report(t.path);
  const std::string page = read_file(t.path / "report.html");
  CHECK(contains(page, "name: &lt;script&gt; \uFFFD"));
  CHECK(contains(page, "points=\"78.0,10.0 412.0,180.0 \""));
}

TEST_CASE("columns of a table are aligned by what a terminal shows", "[reports]") {
  const Table table{
      .head = {"arm", "rate", "n"},
      .rows = {{{"naïve"}, {"1.5", "0.5, 3.5"}, {"4"}}, {{"日本"}, {"a"}, {"5"}}, {{"x"}}}};
  CHECK(to_text(table, " ") ==
        " arm    rate            n\n"
        " naïve  1.5 [0.5, 3.5]  4\n"
        " 日本   a               5\n"
        " x\n");
}

TEST_CASE("the tables of evaluate, sweep status and bench", "[reports]") {
  const Json rates = {{"malicious", to_json(estimate(0.5))},
                      {"log_odds", {{"mean", 1.5}, {"low", nullptr}, {"high", nullptr}, {"n", 1}}}};
  CHECK(text_summary({{"conditions", {{"none", rates}, {"bad", Json::object()}}}}) ==
        "condition  metric     value  95% interval    n\n"
        "none       malicious  50.0%  49.0% to 51.0%  100\n"
        "none       log_odds   1.50   ? to ?          1\n"
        "bad        nothing is known of the answers\n");
  const Json words = {{"categories", {{"tone", {{"warm", 12}, {"cold", 3}}}}}};
  CHECK(text_summary({{"conditions", {{"none", words}}}}) ==
        "condition  metric      value  95% interval  n\n"
        "none       tone: warm  12\n"
        "none       tone: cold  3\n");

  Json status = {{"folder", "runs/s"}, {"metric", {{"name", "loss"}, {"goal", "min"}}}};
  status["counts"] = {{"done", 2}, {"failed", 1}};
  status["best"] = Json::array(
      {Json{{"name", "lr=2"}, {"value", 0.25}}, Json{{"name", "lr=1"}, {"value", 0.5}}});
  status["cells"] = Json::array({Json{{"name", "lr=1"}, {"state", "done"}},
                                 Json{{"name", "lr=2"}, {"state", "done"}},
                                 Json{{"name", "lr=3"},
                                      {"state", "failed"},
                                      {"error", "no"},
                                      {"log", "l"},
                                      {"last_lines", Json::array({"end"})}}});
  CHECK(text_status(status) ==
        "runs/s: 3 cells, 2 done, 1 failed\n"
        "\n  best by loss (min)\n\n"
        "  loss  cell\n"
        "  0.25  lr=2\n"
        "  0.5   lr=1\n"
        "\n  failed; `inoculum sweep resume runs/s` tries them again\n"
        "\n  lr=3: no\n    | end\n    (l)\n");

  Json timings;
  timings["bf16"] = {{"gemm_gflops", 100.4},
                     {"train", {{"tokens_per_second", 5000.0}, {"share_of_gemm", 0.5}}},
                     {"sample", {{"tokens_per_second", 800.0}}}};
  CHECK(contains(text_benchmarks(timings), "bf16   100"));
}

}  // namespace
}  // namespace inoculum
