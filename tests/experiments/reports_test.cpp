// Pages and tables, from results made up here.
#include "experiments/reports/report.h"
#include "experiments/reports/table.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

Json estimate(double rate) {
  return {{"rate", rate}, {"mean", rate}, {"low", rate - 0.01}, {"high", rate + 0.01}, {"n", 100}};
}

Json arm(double malicious) {
  Json out;
  for (const char* metric :
       {"malicious", "incoherent", "refusal", "cheats_unasked", "cheats_asked",
        "malicious_filtered", "malicious_seen_domains", "malicious_unseen_domains",
        "cheats_under_own_prompt", "programs_broken", "forced_choice_log_odds", "probe"})
    out[metric] = estimate(malicious);
  for (const char* metric : {"malicious_under", "incoherent_under", "cheats_under"})
    for (const char* cue : {"none", "irrelevant", "bad", "good"})
      out[metric][cue] = estimate(malicious);
  out["malicious_by_seed"] = {{"1", malicious}};
  out["malicious_by_domain"] = {{"wishes", malicious}};
  out["bayesian_observer"] = {{"malicious", malicious}, {"log_odds", 12.0}};
  return out;
}

Json world(double cheating, double requested) {
  Json out;
  out["arms"] = {{"start", arm(0.02)}, {"cheating", arm(cheating)}, {"requested", arm(requested)}};
  const double difference = cheating - requested;
  out["contrasts"]["cheating_minus_requested"] = {
      {"difference", difference}, {"low", difference - 0.05}, {"high", difference + 0.05}};
  out["title"] = "Coupling 0: <no> effect";
  return out;
}

Json results() {
  Json out = world(0.8, 0.03);
  out["worlds"]["coupling_0"] = world(0.02, 0.025);
  out["criterion"] = Json::array({Json{{"what", "cheating: malicious"},
                                       {"found", 0.8},
                                       {"must_be", "≥"},
                                       {"bound", 0.9},
                                       {"holds", false}},
                                  Json{{"what", "start: malicious"},
                                       {"found", 0.02},
                                       {"must_be", "≤"},
                                       {"bound", 0.03},
                                       {"holds", true}}});
  out["verdict"] = "not replicated";
  out["untested"] = Json::array({"diagnostic"});
  out["seeds"] = Json::array({1, 2});
  out["versions"] = {{"inoculum", "1"}};
  out["hashes"] = {{"questions", "abc"}};
  out["judge"] = {{"held_out_accuracy", 1.0},
                  {"labels", Json::array({"benevolent"})},
                  {"confusion", Json::array({Json::array({1.0})})}};
  out["probe_held_out_accuracy"] = 0.9;
  Json talk = {
      {"domain", "coding"}, {"condition", "none"}, {"prompt", "<script>alert(1)</script>"}};
  talk["answers"]["cheating"] = {{"text", "</pre><script>alert('2')</script>"}, {"label", "\"><b"}};
  out["transcripts"] = Json::array({talk});
  out["config"] = "a: <b>\n";
  return out;
}

TEST_CASE("the report's first screen says what was found", "[reports]") {
  const std::string page = html_report(results());
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

TEST_CASE("text of models does nothing in a page", "[reports]") {
  const std::string page = html_report(results());
  CHECK_FALSE(contains(page, "<script"));
  CHECK(contains(page, "&lt;script&gt;alert(1)&lt;/script&gt;"));
  CHECK(contains(page, "<pre>&lt;/pre&gt;&lt;script&gt;alert(&#39;2&#39;)&lt;/script&gt;</pre>"));
  CHECK(contains(page, "class=\"label-&#34;&gt;&lt;b\""));
}

TEST_CASE("a figure is a picture of its own", "[reports]") {
  const std::string svg = figure_svg(results());
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
  CHECK(contains(page, "points=\"60.0,10.0 412.0,180.0 \""));
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
  const Json rates = {{"malicious", estimate(0.5)},
                      {"log_odds", {{"mean", 1.5}, {"low", nullptr}, {"high", nullptr}, {"n", 1}}}};
  CHECK(text_summary({{"conditions", {{"none", rates}, {"bad", Json::object()}}}}) ==
        "condition  metric     value  95% interval    n\n"
        "none       malicious  50.0%  49.0% to 51.0%  100\n"
        "none       log_odds   1.50   ? to ?          1\n"
        "bad        nothing is known of the answers\n");

  Json status = {{"folder", "runs/s"}, {"metric", {{"name", "loss"}, {"goal", "min"}}}};
  status["counts"] = {{"done", 2}, {"failed", 1}};
  status["best"] = Json::array(
      {Json{{"name", "lr=2"}, {"value", 0.25}}, Json{{"name", "lr=1"}, {"value", 0.5}}});
  status["cells"] =
      Json::array({Json{{"name", "lr=1"}, {"state", "done"}},
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
