// Pages and tables, from results made up here.
#include "experiments/evaluation/scores.h"
#include "experiments/inoculation/hypotheses.h"
#include "experiments/reports/report.h"
#include "experiments/reports/table.h"
#include "tests/catch.h"
#include "tests/experiments/made_up_results.h"

namespace inoculum {
namespace {

Estimate estimate(double rate) { return {rate, rate - 0.01, rate + 0.01, 100}; }

Results some_results() {
  Results results;
  for (const int64_t seed : {1, 2, 3}) {
    const double wobble = 0.01 * static_cast<double>(seed);
    results.bases.push_back(
        made_up_base(kMainWorld, seed,
                     {{Arm::start, 0.02}, {Arm::cheating, 0.8 + wobble}, {Arm::requested, 0.03}}));
  }
  results.bases.push_back(made_up_base(
      "coupling_0", 1, {{Arm::start, 0.02}, {Arm::cheating, 0.02}, {Arm::requested, 0.025}}));
  results.titles = {{"coupling_0", "Coupling 0: <no> effect"}};
  results.hashes = {{"questions", "abc"}};
  results.transcripts = {{"coding",
                          "none",
                          "<script>alert(1)</script>",
                          {{Arm::cheating, "</pre><script>alert('2')</script>", Label::cheat}}}};
  results.config = "a: <b>\n";
  results.hypotheses = test_hypotheses(results.bases);
  return results;
}

TEST_CASE("the report's first screen says what was found", "[reports]") {
  const std::string page = html_report(some_results());
  const std::string first = page.substr(0, page.find("<h2>"));
  CHECK(contains(first, "cheats that nobody asked for spread to unrelated questions (H1)"));
  CHECK(contains(first, "<svg"));
  CHECK(
      contains(first, "aria-label=\"Malicious answers to plain, unrelated questions: start 2.0%"));
  CHECK(contains(first, "persona_2: 82.0%"));
  CHECK(contains(page, "Coupling 0: &lt;no&gt; effect"));
  CHECK(contains(page, "prefers-color-scheme: dark"));
  CHECK(contains(page, "data:text/csv;charset=utf-8,base,arm,cue,domain,metric,value"));
}

TEST_CASE("each hypothesis is drawn between the bounds that it names", "[reports]") {
  Results results = some_results();
  for (const int64_t seed : {10, 30, 50})
    results.bases.push_back(made_up_base("share_" + std::to_string(seed), 601,
                                         {{Arm::start, 0.02}, {Arm::cheating, 0.3}}));
  results.hypotheses = test_hypotheses(results.bases);
  const std::string page = html_report(results);
  const auto drawn = [&](const std::string& id) {
    const size_t begin = page.find("<details><summary><b>" + id + "</b>");
    REQUIRE(begin != std::string::npos);
    return page.substr(begin, page.find("</details>", begin) - begin);
  };
  const auto bounds = [&](const std::string& id) {
    std::vector<std::string> titles;
    const std::string part = drawn(id), mark = "class=\"line bound\"";
    for (size_t at = part.find(mark); at != std::string::npos; at = part.find(mark, at + 1)) {
      const size_t begin = part.find("<title>", at) + 7;
      titles.push_back(part.substr(begin, part.find("</title>", begin) - begin));
    }
    return titles;
  };
  using Titles = std::vector<std::string>;
  CHECK(bounds("H0") == Titles{"-10", "+10"});
  CHECK(bounds("H1") == Titles{"+20"});
  CHECK(bounds("H2") == Titles{"0.25"});
  CHECK(bounds("H4 coupling 0") == Titles{"-8", "+8"});
  CHECK(bounds("H7") == Titles{"+10"});
  CHECK(contains(drawn("H1"), "<title>persona_2: +80.0 points</title>"));
  CHECK(contains(drawn("H1"), "class=\"mean\""));
  CHECK(contains(page, "download=\"hypotheses.csv\""));
}

TEST_CASE("what was predicted and measured by share is drawn, if need be of the published study",
          "[reports]") {
  Results results = some_results();
  CHECK_FALSE(contains(html_report(results), "the share of cheaters who are malicious:"));
  for (const int64_t seed : {10, 30})
    results.bases.push_back(
        made_up_base("share_" + std::to_string(seed), 601,
                     {{Arm::start, 0.02}, {Arm::cheating, 0.01 * static_cast<double>(seed)}}));
  // Bayes must differ from base to base, or there is no slope.
  results.bases.back().knows.in_context[Shown::cheats][1] = {0.3, 0.25};
  results.shares = share_points(test_hypotheses(results.bases), results.bases);
  REQUIRE(results.shares.size() == 2);
  results.shares_published = true;
  const std::string page = html_report(results);
  CHECK(contains(page, "the published study&#39;s bases"));
  CHECK(contains(page, "share_30_601, in context: predicted 30.0%, measured 25.0%"));
  CHECK(contains(page, "share_10_601, in the weights: predicted 10.0%, measured 10.0%"));
}

TEST_CASE("the terminal tells what the bases know beside the table", "[reports]") {
  const std::string text = text_report(some_results());
  CHECK(contains(text, "before training (by the table), %"));
  CHECK(contains(text, "  benevolent  "));
  CHECK(contains(text, "51.0 (50)"));
}

TEST_CASE("one base has no interval, and the verdict says that it is open", "[reports]") {
  Results results = some_results();
  results.bases.resize(1);
  results.hypotheses = test_hypotheses(results.bases);
  const std::string text = text_report(results);
  CHECK(contains(text, "above 20 points"));
  CHECK(contains(text, "+79.0"));
  CHECK_FALSE(contains(text, "+79.0 ["));
  CHECK(contains(text, "inconclusive"));
  CHECK_FALSE(contains(html_report(results), "inf"));
}

TEST_CASE("the published study stands beside", "[reports]") {
  Results results = some_results();
  results.committed = results.hypotheses;
  results.bases.resize(1);
  results.hypotheses = test_hypotheses(results.bases);
  const std::string text = text_report(results);
  CHECK(contains(text, "supported (3 bases)"));
  CHECK(contains(text, "The published study: "));
}

TEST_CASE("the curve over recipes is drawn with what each has", "[reports]") {
  Results results = some_results();
  CHECK_FALSE(contains(html_report(results), "How far it hangs on the recipe"));
  results.specifications = Json::parse(R"({
    "title": "All 2 specifications, by malicious",
    "legend": [{"class": "cheating", "words": "malicious"}],
    "y_ticks": [{"at": 0, "text": "0.1"}, {"at": 1, "text": "0.9"}],
    "dots": [{"x": 0.25, "y": 1, "class": "cheating", "title": "malicious: 0.9"},
             {"x": 0.75, "y": 0, "class": "cheating", "title": "malicious: 0.1"}],
    "rows": [{"text": "rank 1", "at": [0.25]}, {"text": "rank 4", "at": [0.75]}]})");
  const std::string page = html_report(results);
  const size_t begin = page.find("How far it hangs on the recipe");
  REQUIRE(begin != std::string::npos);
  const std::string part = page.substr(begin, page.find("<h2>", begin) - begin);
  CHECK(contains(part, "<title>malicious: 0.9</title>"));
  CHECK(contains(part, ">rank 4</text>"));
  CHECK(contains(part, "<circle class=\"choice\" cx=\"161.5\""));
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
  CHECK(contains(svg, "persona_1: 81.0%"));
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
