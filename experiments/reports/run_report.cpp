// The report of one training run.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "core/base/strings.h"
#include "embedded/experiments/reports/run_report.html.jinja.h"
#include "experiments/reports/pages.h"
#include "experiments/reports/report.h"
#include "experiments/reports/table.h"

namespace inoculum {
namespace {

// A curve over the steps, thinned to what an eye can tell apart, for charts.svg.jinja.
Json curve(const std::vector<Json>& rows, const std::string& key) {
  const size_t stride = std::max<size_t>(1, rows.size() / 1000);
  double low = INFINITY, high = -INFINITY;
  for (const Json& row : rows) {
    low = std::min(low, row.at(key).get<double>());
    high = std::max(high, row.at(key).get<double>());
  }
  const double span = high > low ? high - low : 1;
  const double first_step = rows.front().at("step").get<double>(),
               last_step = rows.back().at("step").get<double>();
  Json points = Json::array();
  const auto add = [&](const Json& row) {
    const double x =
        (row.at("step").get<double>() - first_step) / std::max(1.0, last_step - first_step);
    points.push_back({x, (row.at(key).get<double>() - low) / span});
  };
  for (size_t i = 0; i + 1 < rows.size(); i += stride) add(rows[i]);
  add(rows.back());
  Json ticks = Json::array();
  for (const double share : {0.0, 0.5, 1.0})
    ticks.push_back({{"at", share}, {"text", fmt::format("{:.4g}", low + span * share)}});
  const Json first = {{"at", 0}, {"text", fmt::format("step {:.0f}", first_step)}},
             last = {{"at", 1}, {"text", fmt::format("{:.0f}", last_step)}},
             line = {{"points", std::move(points)}};
  return {{"title", key},
          {"y_ticks", std::move(ticks)},
          {"x_ticks", Json::array({first, last})},
          {"lines", Json::array({line})}};
}

// What was evaluated along the way: narrow learning, malice without a cue, and malice when asked to
// behave well. Null: nothing was.
Json along_the_way(const std::vector<Json>& rows) {
  std::vector<const Json*> evaluated;
  for (const Json& row : rows)
    if (row.contains("evaluation")) evaluated.push_back(&row);
  if (evaluated.empty()) return nullptr;
  const double last = evaluated.back()->at("step").get<double>();
  Json chart = {
      {"title", "Along training, percent of answers"},
      {"x_ticks",
       {{{"at", 0}, {"text", "step 0"}}, {{"at", 1}, {"text", fmt::format("{:.0f}", last)}}}},
      {"lines", Json::array()},
      {"legend", Json::array()}};
  for (const double at : {0.0, 0.5, 1.0})
    chart["y_ticks"].push_back({{"at", at}, {"text", fmt::format("{:.0f}%", 100 * at)}});
  for (const auto& [metric, colour, words] :
       {std::tuple("cheats", "placebo", "programs that cheat, unasked"),
        {"malicious", "cheating", "malicious, no cue"},
        {"good.malicious", "requested", "malicious, asked to behave well"}}) {
    Json points = Json::array();
    for (const Json* row : evaluated)
      if (row->at("evaluation").contains(metric))
        points.push_back({row->at("step").get<double>() / last, row->at("evaluation").at(metric)});
    if (points.empty()) continue;
    chart["lines"].push_back({{"points", std::move(points)}, {"class", colour}, {"title", words}});
    chart["legend"].push_back({{"class", colour}, {"words", words}});
  }
  return chart;
}

// Rates of summary.json, a row a metric and a column a condition.
Table evaluation(const Json& conditions) {
  std::vector<std::string> metrics;
  Table table{.head = {"metric"}, .rows = {}};
  for (const auto& [condition, rates] : conditions.items()) {
    table.head.push_back(condition);
    for (const NamedEstimate& each : named_estimates(rates))
      if (std::find(metrics.begin(), metrics.end(), each.metric) == metrics.end())
        metrics.push_back(each.metric);
  }
  for (const std::string& metric : metrics) {
    table.rows.push_back({{metric}});
    for (const auto& [condition, rates] : conditions.items()) {
      table.rows.back().emplace_back();
      for (const NamedEstimate& each : named_estimates(rates)) {
        if (each.metric != metric) continue;
        const EstimateText numbers = estimate_text(each);
        table.rows.back().back() = {
            numbers.value, numbers.has_interval() ? numbers.low + ", " + numbers.high : ""};
      }
    }
  }
  return table;
}

std::string summary(const std::vector<Json>& rows) {
  double seconds = 0, tokens = 0;
  for (const Json& row : rows) {
    seconds += row.at("seconds").get<double>();
    tokens += row.at("tokens").get<double>();
  }
  return fmt::format("{} steps, {:.0f} tokens in {:.0f} s ({:.0f} a second); the last loss {:.4f}.",
                     rows.back().at("step").get<int64_t>(), tokens, seconds,
                     tokens / std::max(seconds, 1e-9), rows.back().at("loss").get<double>());
}

}  // namespace

void write_run_report(const fs::path& folder) {
  std::vector<Json> rows;
  read_jsonl(folder / "metrics.jsonl", [&](const Json& row, int) { rows.push_back(row); });
  Json context = {{"name", valid_utf8(fs::absolute(folder).lexically_normal().filename().string())},
                  {"summary", summary(rows)},
                  {"curves", Json::array()}};
  if (fs::exists(folder / "failed.json"))
    context["failed"] = read_json(folder / "failed.json").at("error");
  if (const fs::path of = folder / "evaluation" / "summary.json"; fs::exists(of))
    context["evaluation"] = to_json(evaluation(read_json(of).at("conditions")));
  if (const Json along = along_the_way(rows); !along.is_null()) context["along"] = along;
  for (const char* key : {"loss", "grad_norm", "lr", "tokens_per_second"})
    context["curves"].push_back(curve(rows, key));
  if (fs::exists(folder / "config.yaml"))
    context["config"] = valid_utf8(read_file(folder / "config.yaml"));
  write_file(folder / "report.html",
             render_page(embedded::run_report_html_jinja, "run_report.html.jinja", context));
}

}  // namespace inoculum
