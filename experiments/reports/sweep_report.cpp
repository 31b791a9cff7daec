// sweep.csv and report.html of a sweep's folder.
#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "core/base/strings.h"
#include "embedded/experiments/reports/sort.js.h"
#include "embedded/experiments/reports/sweep.css.h"
#include "experiments/evaluation/statistics.h"
#include "experiments/reports/html.h"
#include "experiments/sweeps/status.h"
#include "experiments/sweeps/sweep.h"

namespace inoculum {
namespace {

// A sweep with what was found: the values of each parameter in order, and the metric of the cells
// that have one.
struct Found {
  const Sweep& sweep;
  std::vector<CellStatus> states;
  std::map<std::string, std::vector<std::string>> values;  // of the parameters that vary
  std::vector<std::string> parameters;                     // their names
  double low = INFINITY, high = -INFINITY;                 // of the metric

  explicit Found(const Sweep& from) : sweep(from) {
    std::map<std::string, std::set<std::string>> all;
    for (size_t i = 0; i < sweep.cells.size(); ++i) {
      states.push_back(status(sweep, i));
      for (const auto& [key, value] : sweep.cells[i].parameters) all[key].insert(value);
      if (const auto m = metric(i)) low = std::min(low, *m), high = std::max(high, *m);
    }
    for (const auto& [key, set] : all) {
      if (set.size() < 2) continue;
      parameters.push_back(key);
      auto& list = values[key];
      list.assign(set.begin(), set.end());
      std::stable_sort(list.begin(), list.end(), [](const std::string& a, const std::string& b) {
        const auto x = number(a), y = number(b);
        return x && y ? *x < *y : a < b;
      });
    }
    if (low == high) low -= 0.5, high += 0.5;
  }

  std::optional<double> metric(size_t cell) const {
    const auto at = states[cell].metrics.find(sweep.config.metric.name);
    if (at == states[cell].metrics.end() || !at->is_number()) return std::nullopt;
    return at->get<double>();
  }
  // Of the cells that `keep`: the mean, and its interval where there are two or more, each cell by
  // itself.
  template <class Keep>
  std::optional<Estimate> mean_of(Keep keep) const {
    std::vector<Observation> observations;
    for (size_t i = 0; i < states.size(); ++i)
      if (const auto m = metric(i); m && keep(sweep.cells[i]))
        observations.push_back({std::to_string(i), static_cast<int64_t>(i), *m});
    if (observations.empty()) return std::nullopt;
    if (observations.size() == 1)
      return Estimate{observations[0].value, observations[0].value, observations[0].value, 1};
    return mean(observations);
  }
};

std::string shown(double value) { return format("%.4g", value); }

// Red is the better end.
std::string colour(const Found& found, double value) {
  double share = (value - found.low) / (found.high - found.low);
  if (found.sweep.config.metric.goal == "min") share = 1 - share;
  return format("rgba(209,73,91,%.2f)", 0.08 + 0.75 * std::clamp(share, 0.0, 1.0));
}

constexpr double kLeft = 70, kWidth = 500, kTop = 30, kHeight = 200;

double height_of(const Found& found, double value) {
  return kTop + kHeight * (1 - (value - found.low) / (found.high - found.low));
}

std::string axis(const Found& found) {
  std::string svg;
  for (int i = 0; i <= 4; ++i) {
    const double value = found.low + (found.high - found.low) * i / 4, y = height_of(found, value);
    svg += format(
        "<line class=\"grid\" x1=\"%.0f\" y1=\"%.1f\" x2=\"%.0f\" y2=\"%.1f\"/><text class=\"tick "
        "end\" x=\"%.0f\" y=\"%.1f\">%s</text>",
        kLeft, y, kLeft + kWidth, y, kLeft - 8, y + 4, shown(value).c_str());
  }
  return svg;
}

std::string svg_begin(const std::string& title, double height) {
  return format(
      "<svg viewBox=\"0 0 600 %.0f\" role=\"img\" aria-label=\"%s\"><text class=\"title\" x=\"0\" "
      "y=\"16\">%s</text>",
      height, escape_html(title).c_str(), escape_html(title).c_str());
}

// A parameter's values evenly along the x axis, or many numbers where they are: logarithmic if they
// span two decades.
struct Places {
  std::vector<double> x;
  bool many;
  Places(const std::vector<std::string>& values) : many(values.size() > 12) {
    std::vector<double> numbers;
    for (const std::string& value : values)
      if (const auto n = number(value)) numbers.push_back(*n);
    if (!many || numbers.size() != values.size()) {
      for (size_t i = 0; i < values.size(); ++i)
        x.push_back(kLeft +
                    kWidth * (static_cast<double>(i) + 0.5) / static_cast<double>(values.size()));
      return;
    }
    const bool logarithmic = numbers.front() > 0 && numbers.back() / numbers.front() >= 100;
    const auto at = [&](double n) { return logarithmic ? std::log(n) : n; };
    for (const double n : numbers)
      x.push_back(kLeft + 10 +
                  (kWidth - 20) * (at(n) - at(numbers.front())) /
                      (at(numbers.back()) - at(numbers.front())));
  }
};

std::string plot(const Found& found, const std::string& key) {
  const auto& values = found.values.at(key);
  const Places places(values);
  std::string svg =
      svg_begin(found.sweep.config.metric.name + " by " + key, kTop + kHeight + 34) + axis(found);
  for (size_t v = 0; v < values.size(); ++v) {
    const double x = places.x[v];
    if (!places.many || v == 0 || v + 1 == values.size())
      svg += format("<text class=\"tick\" x=\"%.1f\" y=\"%.1f\">%s</text>", x, kTop + kHeight + 18,
                    escape_html(values[v]).c_str());
    const auto here = [&](const SweepCell& cell) { return cell.parameters.at(key) == values[v]; };
    if (const auto estimate = places.many ? std::nullopt : found.mean_of(here)) {
      svg += format("<line class=\"interval\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", x,
                    height_of(found, std::max(estimate->low, found.low)), x,
                    height_of(found, std::min(estimate->high, found.high)));
      svg +=
          format("<line class=\"mean\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", x - 12,
                 height_of(found, estimate->value), x + 12, height_of(found, estimate->value));
    }
    for (size_t i = 0; i < found.states.size(); ++i)
      if (const auto m = found.metric(i); m && here(found.sweep.cells[i]))
        svg += format(
            "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"><title>%s: "
            "%s</title></circle>",
            x, height_of(found, *m), escape_html(found.sweep.cells[i].name).c_str(),
            shown(*m).c_str());
  }
  return svg + "</svg>\n";
}

std::string heat_map(const Found& found, const std::string& down, const std::string& across) {
  std::string table = "<div class=\"scroll\"><table><tr><th>" + escape_html(down) + " ↓ &nbsp; " +
                      escape_html(across) + " →</th>";
  for (const std::string& value : found.values.at(across))
    table += "<th>" + escape_html(value) + "</th>";
  table += "</tr>\n";
  for (const std::string& row : found.values.at(down)) {
    table += "<tr><td>" + escape_html(row) + "</td>";
    for (const std::string& column : found.values.at(across)) {
      const auto estimate = found.mean_of([&](const SweepCell& cell) {
        return cell.parameters.at(down) == row && cell.parameters.at(across) == column;
      });
      table += estimate ? "<td style=\"background: " + colour(found, estimate->value) + "\">" +
                              shown(estimate->value) + "</td>"
                        : "<td></td>";
    }
    table += "</tr>\n";
  }
  return table + "</table></div>\n";
}

std::string parallel_coordinates(const Found& found) {
  std::string svg = svg_begin(
      "Every cell: its values, and its " + found.sweep.config.metric.name + " on the right",
      kTop + kHeight + 34);
  const size_t axes = found.parameters.size() + 1;
  const auto axis_x = [&](size_t a) {
    return 40 + 520 * static_cast<double>(a) / static_cast<double>(axes - 1);
  };
  for (size_t a = 0; a < axes; ++a) {
    const std::string name =
        a < found.parameters.size() ? found.parameters[a] : found.sweep.config.metric.name;
    svg += format(
        "<line class=\"grid\" x1=\"%.1f\" y1=\"%.0f\" x2=\"%.1f\" y2=\"%.0f\"/><text "
        "class=\"tick\" x=\"%.1f\" y=\"%.0f\">%s</text>",
        axis_x(a), kTop, axis_x(a), kTop + kHeight, axis_x(a), kTop + kHeight + 18,
        escape_html(name).c_str());
  }
  for (size_t i = 0; i < found.states.size(); ++i) {
    const auto m = found.metric(i);
    if (!m) continue;
    std::string points;
    for (size_t a = 0; a < found.parameters.size(); ++a) {
      const auto& values = found.values.at(found.parameters[a]);
      const auto at = std::find(values.begin(), values.end(),
                                found.sweep.cells[i].parameters.at(found.parameters[a])) -
                      values.begin();
      points += format(
          "%.1f,%.1f ", axis_x(a),
          kTop + kHeight * (1 - static_cast<double>(at) / static_cast<double>(values.size() - 1)));
    }
    points += format("%.1f,%.1f", axis_x(axes - 1), height_of(found, *m));
    svg += "<polyline fill=\"none\" stroke-width=\"1.5\" stroke=\"" + colour(found, *m) +
           "\" points=\"" + points + "\"><title>" + escape_html(found.sweep.cells[i].name) + ": " +
           shown(*m) + "</title></polyline>";
  }
  return svg + "</svg>\n";
}

// Combinations of parameters, the best first, seeds together.
std::string best(const Found& found) {
  std::map<std::map<std::string, std::string>, Estimate> groups;
  for (const SweepCell& cell : found.sweep.cells)
    if (!groups.contains(cell.parameters))
      if (const auto estimate = found.mean_of(
              [&](const SweepCell& other) { return other.parameters == cell.parameters; }))
        groups[cell.parameters] = *estimate;
  std::vector<std::pair<std::map<std::string, std::string>, Estimate>> ranked(groups.begin(),
                                                                              groups.end());
  std::stable_sort(ranked.begin(), ranked.end(), [&](const auto& a, const auto& b) {
    return found.sweep.config.metric.better(a.second.value, b.second.value);
  });
  std::string table = "<div class=\"scroll\"><table><tr><th>parameters</th><th>" +
                      escape_html(found.sweep.config.metric.name) +
                      "</th><th>95% interval</th><th>seeds</th></tr>\n";
  for (size_t i = 0; i < std::min<size_t>(10, ranked.size()); ++i) {
    const auto& [parameters, estimate] = ranked[i];
    std::string text;
    for (const auto& [key, value] : parameters)
      text += (text.empty() ? "" : ", ") + key + " = " + value;
    table += "<tr><td>" + escape_html(text) + "</td><td>" + shown(estimate.value) + "</td><td>" +
             (estimate.n > 1 ? shown(estimate.low) + " to " + shown(estimate.high) : "") +
             "</td><td>" + std::to_string(estimate.n) + "</td></tr>\n";
  }
  return table + "</table></div>\n";
}

std::string all_cells(const Found& found, const std::vector<std::string>& metrics) {
  std::string table =
      "<div class=\"scroll\"><table class=\"sortable\"><thead><tr><th>cell</th><th>state</th>";
  for (const std::string& key : found.parameters) table += "<th>" + escape_html(key) + "</th>";
  table += "<th>seed</th><th>seconds</th>";
  for (const std::string& name : metrics) table += "<th>" + escape_html(name) + "</th>";
  table += "</tr></thead><tbody>\n";
  for (size_t i = 0; i < found.states.size(); ++i) {
    const SweepCell& cell = found.sweep.cells[i];
    const CellStatus& state = found.states[i];
    const std::string link =
        "cells/" + cell.folder() +
        (fs::exists(found.sweep.cell_folder(i) / "report.html") ? "/report.html" : "/");
    table += "<tr><td><a href=\"" + escape_html(link) + "\">" + escape_html(cell.name) +
             "</a></td><td>" + to_string(state.state) + "</td>";
    for (const std::string& key : found.parameters)
      table += "<td>" + escape_html(cell.parameters.at(key)) + "</td>";
    table += "<td>" + std::to_string(cell.seed) + "</td><td>" +
             (state.seconds > 0 ? format("%.0f", state.seconds) : "") + "</td>";
    for (const std::string& name : metrics)
      table += "<td>" +
               (state.metrics.contains(name) ? shown(state.metrics.at(name).get<double>()) : "") +
               "</td>";
    table += "</tr>\n";
  }
  return table + "</tbody></table></div>\n";
}

// A click on a column's head sorts by it, numbers as numbers; again: the other way.

std::string html(const Found& found) {
  const SweepConfig& config = found.sweep.config;
  std::map<CellState, size_t> counts;
  for (const CellStatus& state : found.states) ++counts[state.state];
  std::string h =
      page_head("Sweep: " + found.sweep.folder.filename().string(), embedded::sweep_css) + "<h1>" +
      escape_html(found.sweep.folder.filename().string()) + "</h1>\n<p class=\"note\">" +
      std::to_string(found.states.size()) + " cells of " + escape_html(config.base);
  for (const auto& [state, count] : counts)
    h += ", " + std::to_string(count) + " " + to_string(state);
  h += "; compared by " + escape_html(config.metric.name) + " (" + config.metric.goal + ").</p>\n";
  std::set<std::string> names;
  for (const CellStatus& state : found.states)
    for (const auto& [name, value] : state.metrics.items()) names.insert(name);
  if (found.low <= found.high) {
    h += "<h2>Best</h2>\n" + best(found);
    if (!found.parameters.empty())
      h += "<h2>By parameter</h2>\n<p class=\"note\">Dots: cells. Lines: the mean over all cells "
           "with this value, and its 95% interval.</p>\n";
    for (const std::string& key : found.parameters) h += plot(found, key);
    if (found.parameters.size() == 2)
      h += "<h2>Both parameters</h2>\n" + heat_map(found, found.parameters[0], found.parameters[1]);
    if (found.parameters.size() > 2) h += "<h2>All parameters</h2>\n" + parallel_coordinates(found);
  } else if (counts[CellState::done] > 0) {
    h += "<p>No cell has the metric \"" + escape_html(config.metric.name) + "\". There are: ";
    for (const std::string& name : names) h += escape_html(name) + " ";
    h += "</p>\n";
  }
  if (counts[CellState::failed] > 0) {
    h += "<h2>Failed</h2>\n";
    for (size_t i = 0; i < found.states.size(); ++i)
      if (found.states[i].state == CellState::failed)
        h += "<p><b>" + escape_html(found.sweep.cells[i].name) + "</b></p><pre class=\"config\">" +
             escape_html(found.states[i].error) + "</pre>\n";
  }
  // The metric first, then the others that a run's own summary leads with; sweep.csv has all.
  std::vector<std::string> metrics;
  for (const std::string& name : {config.metric.name, std::string("loss"), std::string("malicious"),
                                  std::string("incoherent"), std::string("cheats")})
    if (names.contains(name) && std::find(metrics.begin(), metrics.end(), name) == metrics.end())
      metrics.push_back(name);
  h += "<h2>Cells</h2>\n" + all_cells(found, metrics);
  h += "<details><summary>The sweep</summary><pre class=\"config\">" +
       escape_html(read_file(found.sweep.folder / "sweep.yaml")) + "</pre></details>\n" +
       embedded::sort_js + "\n</body></html>\n";
  return h;
}

std::string csv(const Found& found) {
  std::set<std::string> parameters, metrics;
  for (size_t i = 0; i < found.states.size(); ++i) {
    for (const auto& [key, value] : found.sweep.cells[i].parameters) parameters.insert(key);
    for (const auto& [name, value] : found.states[i].metrics.items()) metrics.insert(name);
  }
  std::string text = "cell,hash,seed,state,seconds";
  for (const auto* names : {&parameters, &metrics})
    for (const std::string& name : *names) (text += ',') += csv_field(name);
  text += '\n';
  for (size_t i = 0; i < found.states.size(); ++i) {
    const SweepCell& cell = found.sweep.cells[i];
    const CellStatus& state = found.states[i];
    text +=
        format("%s,%s,%lld,%s,%.3f", csv_field(cell.name).c_str(), cell.hash.c_str(),
               static_cast<long long>(cell.seed), to_string(state.state).c_str(), state.seconds);
    for (const std::string& name : parameters)
      (text += ',') +=
          cell.parameters.contains(name) ? csv_field(cell.parameters.at(name)) : std::string();
    for (const std::string& name : metrics)
      (text += ',') += state.metrics.contains(name) ? state.metrics.at(name).dump() : std::string();
    text += '\n';
  }
  return text;
}

}  // namespace

void write_sweep_report(const Sweep& sweep) {
  const Found found(sweep);
  write_file(sweep.folder / "sweep.csv", csv(found));
  write_file(sweep.folder / "report.html", html(found));
}

}  // namespace inoculum
