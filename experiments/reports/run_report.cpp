// The report of one training run.
#include <algorithm>
#include <cmath>

#include "core/base/strings.h"
#include "embedded/experiments/reports/curves.css.h"
#include "experiments/reports/html.h"
#include "experiments/reports/report.h"

namespace inoculum {
namespace {

// A curve over the steps, thinned to what an eye can tell apart.
std::string plot(const std::vector<Json>& rows, const std::string& key) {
  const double left = 70, width = 510, top = 30, height = 140;
  const size_t stride = std::max<size_t>(1, rows.size() / 1000);
  double low = INFINITY, high = -INFINITY;
  for (const Json& row : rows)
    low = std::min(low, row.at(key).get<double>()),
    high = std::max(high, row.at(key).get<double>());
  const double span = high > low ? high - low : 1;
  const auto y = [&](double value) { return top + height * (1 - (value - low) / span); };
  const auto last_step = rows.back().at("step").get<double>(),
             first_step = rows.front().at("step").get<double>();
  std::string svg = format(
      "<svg viewBox=\"0 0 600 %.0f\" role=\"img\" aria-label=\"%s\"><text class=\"title\" x=\"0\" "
      "y=\"16\">%s</text>",
      top + height + 26, key.c_str(), key.c_str());
  for (const double value : {low, low + span / 2, low + span})
    svg += format(
        "<line class=\"grid\" x1=\"%.0f\" y1=\"%.1f\" x2=\"%.0f\" y2=\"%.1f\"/><text "
        "class=\"tick\" text-anchor=\"end\" x=\"%.0f\" y=\"%.1f\">%.4g</text>",
        left, y(value), left + width, y(value), left - 8, y(value) + 4, value);
  std::string points;
  for (size_t i = 0; i < rows.size();
       i += i + 1 == rows.size() ? 1 : std::min(stride, rows.size() - 1 - i))
    points += format("%.1f,%.1f ",
                     left + width * (rows[i].at("step").get<double>() - first_step) /
                                std::max(1.0, last_step - first_step),
                     y(rows[i].at(key)));
  return svg + "<polyline class=\"curve\" points=\"" + points + "\"/>" +
         format(
             "<text class=\"tick\" x=\"%.0f\" y=\"%.0f\">step %.0f</text><text class=\"tick\" "
             "text-anchor=\"end\" x=\"%.0f\" y=\"%.0f\">%.0f</text></svg>\n",
             left, top + height + 18, first_step, left + width, top + height + 18, last_step);
}

// A rate or a mean of summary.json; its interval is null where a single question supports none.
std::string shown(const std::string& name, const Json& rate) {
  const char* const key = rate.contains("mean") ? "mean" : "rate";
  if (!rate.contains(key) || rate.at(key).is_null()) return "";
  const bool percent = std::string_view(key) == "rate" && !name.starts_with("log_odds");
  const auto number = [&](const char* of) {
    return rate.at(of).get<double>() * (percent ? 100 : 1);
  };
  const std::string text = format(percent ? "%.1f%%" : "%.2f", number(key));
  for (const char* bound : {"low", "high"})
    if (!rate.contains(bound) || rate.at(bound).is_null()) return text;
  return text + format(percent ? " <small>[%.1f, %.1f]</small>" : " <small>[%.2f, %.2f]</small>",
                       number("low"), number("high"));
}

// Rates of summary.json, a row a condition.
std::string evaluation(const Json& conditions) {
  std::vector<std::string> names;
  for (const auto& [condition, rates] : conditions.items())
    for (const auto& [name, rate] : rates.items())
      if (rate.is_object() && (rate.contains("rate") || rate.contains("mean")) &&
          std::find(names.begin(), names.end(), name) == names.end())
        names.push_back(name);
  std::string table = "<div class=\"scroll\"><table><tr><th>condition</th>";
  for (const std::string& name : names) table += "<th>" + escape_html(name) + "</th>";
  table += "</tr>\n";
  for (const auto& [condition, rates] : conditions.items()) {
    table += "<tr><td>" + escape_html(condition) + "</td>";
    for (const std::string& name : names) {
      const Json rate = rates.value(name, Json());
      table += "<td>" + (rate.is_object() ? shown(name, rate) : "") + "</td>";
    }
    table += "</tr>\n";
  }
  return table + "</table></div>\n";
}

}  // namespace

void write_run_report(const fs::path& folder) {
  std::vector<Json> rows;
  read_jsonl(folder / "metrics.jsonl", [&](const Json& row, int) { rows.push_back(row); });
  double seconds = 0, tokens = 0;
  for (const Json& row : rows)
    seconds += row.at("seconds").get<double>(), tokens += row.at("tokens").get<double>();
  const std::string name = fs::absolute(folder).lexically_normal().filename().string();
  std::string h = page_head("Run: " + name, embedded::curves_css) + "<h1>" + escape_html(name) +
                  "</h1>\n<p class=\"note\">" +
                  format("%lld steps, %.0f tokens in %.0f s (%.0f a second); the last loss %.4f.",
                         rows.back().at("step").get<long long>(), tokens, seconds,
                         tokens / std::max(seconds, 1e-9), rows.back().at("loss").get<double>()) +
                  "</p>\n";
  if (fs::exists(folder / "failed.json"))
    h += "<h2>Failed</h2>\n<pre class=\"config\">" +
         escape_html(read_json(folder / "failed.json").at("error")) + "</pre>\n";
  if (const fs::path summary = folder / "evaluation" / "summary.json"; fs::exists(summary))
    h += "<h2>Evaluation</h2>\n" + evaluation(read_json(summary).at("conditions"));
  h += "<h2>Training</h2>\n";
  for (const char* key : {"loss", "grad_norm", "lr", "tokens_per_second"}) h += plot(rows, key);
  if (fs::exists(folder / "config.yaml"))
    h += "<h2>Configuration</h2>\n<pre class=\"config\">" +
         escape_html(read_file(folder / "config.yaml")) + "</pre>\n";
  write_file(folder / "report.html", h + "</body></html>\n");
}

}  // namespace inoculum
