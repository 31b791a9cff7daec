// sweep.csv and report.html of a sweep's folder.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>
#include <sstream>

#include "core/base/strings.h"
#include "embedded/experiments/reports/sort.js.h"
#include "embedded/experiments/reports/sweep_report.html.jinja.h"
#include "experiments/evaluation/statistics.h"
#include "experiments/reports/pages.h"
#include "experiments/reports/report.h"
#include "experiments/reports/table.h"
#include "experiments/sweeps/status.h"
#include "experiments/sweeps/sweep.h"

namespace inoculum {
namespace {

// A sweep with what was found: the values of each parameter in order, and the metric of the cells
// that have one.
struct Found {
  const Sweep& sweep;
  std::vector<CellStatus> states;
  std::vector<std::optional<double>> metrics;              // the sweep's own, a cell's each
  std::map<std::string, std::vector<std::string>> values;  // of the parameters that vary
  std::vector<std::string> parameters;                     // their names
  double low = INFINITY, high = -INFINITY;                 // of the metric

  explicit Found(const Sweep& from) : sweep(from) {
    std::map<std::string, std::set<std::string>> all;
    for (size_t i = 0; i < sweep.cells.size(); ++i) {
      states.push_back(status(sweep, i));
      for (const auto& [key, value] : sweep.cells[i].parameters) all[key].insert(value);
      metrics.push_back(states[i].metrics.find(sweep.config.metric.name));
      if (const auto m = metrics[i]) {
        low = std::min(low, *m);
        high = std::max(high, *m);
      }
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
    if (low == high) {
      low -= 0.5;
      high += 0.5;
    }
  }

  // Of the cells that `keep`: a metric's mean, by default the sweep's own, and its interval where
  // there are two or more, each cell by itself.
  template <class Keep>
  std::optional<Estimate> mean_of(Keep keep) const {
    return mean_of(sweep.config.metric.name, keep);
  }
  template <class Keep>
  std::optional<Estimate> mean_of(const std::string& metric, Keep keep) const {
    std::vector<Observation> observations;
    for (size_t i = 0; i < states.size(); ++i)
      if (const auto m = states[i].metrics.find(metric); m && keep(sweep.cells[i]))
        observations.push_back({std::to_string(i), static_cast<int64_t>(i), *m});
    if (observations.empty()) return std::nullopt;
    if (observations.size() == 1)
      return Estimate{observations[0].value, observations[0].value, observations[0].value, 1};
    return mean(observations);
  }
};

std::string four_digits(double value) { return fmt::format("{:.4g}", value); }

// Where the metric's value lies between the lowest and the highest, on an axis.
double share_of(const Found& found, double value) {
  return (value - found.low) / (found.high - found.low);
}
// How red a cell is: the better end most.
double shade(const Found& found, double value) {
  const double share = share_of(found, value);
  return 0.08 +
         0.75 * std::clamp(found.sweep.config.metric.goal == "min" ? 1 - share : share, 0.0, 1.0);
}

// A parameter's values evenly along the x axis, or many numbers where they are: logarithmic if they
// span two decades.
struct Places {
  std::vector<double> x;
  bool many;
  explicit Places(const std::vector<std::string>& values) : many(values.size() > 12) {
    std::vector<double> numbers;
    for (const std::string& value : values)
      if (const auto n = number(value)) numbers.push_back(*n);
    if (!many || numbers.size() != values.size()) {
      for (size_t i = 0; i < values.size(); ++i)
        x.push_back((static_cast<double>(i) + 0.5) / static_cast<double>(values.size()));
      return;
    }
    const bool logarithmic = numbers.front() > 0 && numbers.back() / numbers.front() >= 100;
    const auto at = [&](double n) { return logarithmic ? std::log(n) : n; };
    for (const double n : numbers)
      x.push_back((at(n) - at(numbers.front())) / (at(numbers.back()) - at(numbers.front())));
  }
};

// The metric by the values of one parameter, for charts.svg.jinja.
Json plot(const Found& found, const std::string& key) {
  const auto& values = found.values.at(key);
  const Places places(values);
  Json chart = {{"title", found.sweep.config.metric.name + " by " + key}};
  for (const double at : {0.0, 0.25, 0.5, 0.75, 1.0})
    chart["y_ticks"].push_back(
        {{"at", at}, {"text", four_digits(found.low + (found.high - found.low) * at)}});
  for (size_t v = 0; v < values.size(); ++v) {
    const double x = places.x[v];
    if (!places.many || v == 0 || v + 1 == values.size())
      chart["x_ticks"].push_back({{"at", x}, {"text", values[v]}});
    const auto here = [&](const SweepCell& cell) { return cell.parameters.at(key) == values[v]; };
    if (const auto estimate = places.many ? std::nullopt : found.mean_of(here))
      chart["means"].push_back({{"x", x},
                                {"y", share_of(found, estimate->value)},
                                {"low", share_of(found, std::max(estimate->low, found.low))},
                                {"high", share_of(found, std::min(estimate->high, found.high))}});
    for (size_t i = 0; i < found.states.size(); ++i)
      if (const auto m = found.metrics[i]; m && here(found.sweep.cells[i]))
        chart["dots"].push_back({{"x", x},
                                 {"y", share_of(found, *m)},
                                 {"title", found.sweep.cells[i].name + ": " + four_digits(*m)}});
  }
  return chart;
}

Table heat_map(const Found& found, const std::string& down, const std::string& across) {
  Table table{.head = {down + " ↓   " + across + " →"}, .rows = {}};
  const auto& columns = found.values.at(across);
  table.head.insert(table.head.end(), columns.begin(), columns.end());
  for (const std::string& row : found.values.at(down)) {
    table.rows.push_back({{row}});
    for (const std::string& column : columns) {
      const auto estimate = found.mean_of([&](const SweepCell& cell) {
        return cell.parameters.at(down) == row && cell.parameters.at(across) == column;
      });
      table.rows.back().push_back(estimate ? TableCell{.text = four_digits(estimate->value),
                                                       .shade = shade(found, estimate->value)}
                                           : TableCell{});
    }
  }
  return table;
}

// A line a cell through its values of all parameters, each on an axis, and its metric.
Json parallel_coordinates(const Found& found) {
  const std::string& metric = found.sweep.config.metric.name;
  Json chart = {{"title", "Every cell: its values, and its " + metric + " on the right"},
                {"axes", true}};
  const auto count = static_cast<double>(found.parameters.size());
  const auto axis = [&](size_t a) { return static_cast<double>(a) / count; };
  for (size_t a = 0; a < found.parameters.size(); ++a)
    chart["x_ticks"].push_back({{"at", axis(a)}, {"text", found.parameters[a]}});
  chart["x_ticks"].push_back({{"at", 1}, {"text", metric}});
  for (size_t i = 0; i < found.states.size(); ++i) {
    const auto m = found.metrics[i];
    if (!m) continue;
    Json points = Json::array();
    for (size_t a = 0; a < found.parameters.size(); ++a) {
      const auto& values = found.values.at(found.parameters[a]);
      const auto at = std::find(values.begin(), values.end(),
                                found.sweep.cells[i].parameters.at(found.parameters[a])) -
                      values.begin();
      points.push_back({axis(a), static_cast<double>(at) / static_cast<double>(values.size() - 1)});
    }
    points.push_back({1.0, share_of(found, *m)});
    chart["lines"].push_back({{"points", std::move(points)},
                              {"shade", shade(found, *m)},
                              {"title", found.sweep.cells[i].name + ": " + four_digits(*m)}});
  }
  return chart;
}

// Combinations of parameters with their metric, seeds together, the best first.
using Parameters = std::map<std::string, std::string>;
std::vector<std::pair<Parameters, Estimate>> combinations(const Found& found) {
  std::map<Parameters, Estimate> groups;
  for (const SweepCell& cell : found.sweep.cells)
    if (!groups.contains(cell.parameters))
      if (const auto estimate = found.mean_of(
              [&](const SweepCell& other) { return other.parameters == cell.parameters; }))
        groups[cell.parameters] = *estimate;
  std::vector<std::pair<Parameters, Estimate>> ranked(groups.begin(), groups.end());
  const SweepMetric& metric = found.sweep.config.metric;
  std::stable_sort(ranked.begin(), ranked.end(), [&](const auto& a, const auto& b) {
    return metric.better(a.second.value, b.second.value);
  });
  return ranked;
}

// A rate of the experiment's arms, such as arms.cheating.good.malicious: "cheating, asked to behave
// well: malicious". Other metrics are named as they are.
std::string in_words(const std::string& metric) {
  std::vector<std::string> parts;
  std::istringstream words(metric);
  for (std::string part; std::getline(words, part, '.');) parts.push_back(part);
  if (parts.size() != 4 || parts[0] != "arms") return metric;
  std::string cue = parts[2];
  for (const Cue each : kCues)
    if (each != Cue::none && to_string(each) == cue) cue = title_of(each);
  return parts[1] + (cue == to_string(Cue::none) ? "" : ", " + cue) + ": " + parts[3];
}

// How far the result hangs on the choices: every combination by rank, with its metric and those
// beside it, and below it the values that it has (Simonsohn, Simmons and Nelson 2020,
// "Specification curve analysis").
Json curve(const Found& found) {
  const auto all = combinations(found);
  const SweepMetric& metric = found.sweep.config.metric;
  struct Point {
    double x, value;
    const char* drawn;
    std::string title;
  };
  std::vector<Point> points;
  constexpr std::array kDrawn = {"cheating", "requested", "placebo"};
  std::vector<std::string> names = {metric.name};
  names.insert(names.end(), metric.beside.begin(), metric.beside.end());
  const auto place = [&](size_t rank) {
    return (static_cast<double>(rank) + 0.5) / static_cast<double>(all.size());
  };
  const bool rates =
      std::ranges::all_of(names, [](const auto& name) { return in_words(name) != name; });
  const auto text = [&](double value) {
    return rates ? fmt::format("{:.1f}%", 100 * value) : four_digits(value);
  };
  Json chart = {
      {"title", fmt::format("All {} specifications, by {}", all.size(), in_words(names[0]))}};
  for (size_t n = 0; n < names.size(); ++n) {
    const char* drawn = kDrawn[n % kDrawn.size()];
    chart["legend"].push_back({{"class", drawn}, {"words", in_words(names[n])}});
    for (size_t rank = 0; rank < all.size(); ++rank)
      if (const auto mean = found.mean_of(
              names[n], [&](const SweepCell& cell) { return cell.parameters == all[rank].first; }))
        points.push_back(
            {place(rank), mean->value, drawn, in_words(names[n]) + " " + text(mean->value)});
  }
  const auto [low, high] = std::ranges::minmax(points, {}, &Point::value);
  const double span = high.value > low.value ? high.value - low.value : 1;
  for (const double at : {0.0, 0.25, 0.5, 0.75, 1.0})
    chart["y_ticks"].push_back({{"at", at}, {"text", text(low.value + span * at)}});
  for (const auto& [x, value, drawn, title] : points)
    chart["dots"].push_back(
        {{"x", x}, {"y", (value - low.value) / span}, {"class", drawn}, {"title", title}});
  for (const std::string& key : found.parameters)
    for (const std::string& value : found.values.at(key)) {
      Json at = Json::array();
      for (size_t rank = 0; rank < all.size(); ++rank)
        if (all[rank].first.at(key) == value) at.push_back(place(rank));
      chart["rows"].push_back(
          {{"text", key.substr(key.rfind('.') + 1) + " " + value}, {"at", std::move(at)}});
    }
  return chart;
}

// The best combinations.
Table best(const Found& found) {
  auto ranked = combinations(found);
  const SweepMetric& metric = found.sweep.config.metric;
  ranked.resize(std::min<size_t>(10, ranked.size()));
  Table table{.head = {"parameters", metric.name, "95% interval", "seeds"}, .rows = {}};
  for (const auto& [parameters, estimate] : ranked) {
    std::string text;
    for (const auto& [key, value] : parameters)
      text += (text.empty() ? "" : ", ") + key + " = " + value;
    table.rows.push_back(
        {{text},
         {four_digits(estimate.value)},
         {estimate.n > 1 ? four_digits(estimate.low) + " to " + four_digits(estimate.high) : ""},
         {std::to_string(estimate.n)}});
  }
  return table;
}

Table all_cells(const Found& found, const std::vector<std::string>& metrics) {
  Table table{.head = {"cell", "state"}, .rows = {}};
  table.head.insert(table.head.end(), found.parameters.begin(), found.parameters.end());
  table.head.insert(table.head.end(), {"seed", "seconds"});
  table.head.insert(table.head.end(), metrics.begin(), metrics.end());
  for (size_t i = 0; i < found.states.size(); ++i) {
    const SweepCell& cell = found.sweep.cells[i];
    const CellStatus& state = found.states[i];
    const bool reported = fs::exists(found.sweep.cell_folder(i) / "report.html");
    table.rows.push_back(
        {{.text = cell.name, .link = "cells/" + cell.folder() + (reported ? "/report.html" : "/")},
         {to_string(state.state)}});
    auto& row = table.rows.back();
    for (const std::string& key : found.parameters) row.push_back({cell.parameters.at(key)});
    row.push_back({std::to_string(cell.seed)});
    row.push_back({state.seconds > 0 ? fmt::format("{:.0f}", state.seconds) : ""});
    for (const std::string& name : metrics) {
      const auto value = state.metrics.find(name);
      row.push_back({value ? four_digits(*value) : ""});
    }
  }
  return table;
}

// The metrics of a sweep's table of cells: its own, then the others that a run's own summary leads
// with; sweep.csv has all.
std::vector<std::string> leading(const std::string& metric, const std::set<std::string>& known) {
  std::vector<std::string> metrics;
  for (const std::string& name : {metric, std::string("loss"), std::string("malicious"),
                                  std::string("incoherent"), std::string("cheats")})
    if (known.contains(name) && std::find(metrics.begin(), metrics.end(), name) == metrics.end())
      metrics.push_back(name);
  return metrics;
}

// What sweep_report.html.jinja shows.
Json report_context(const Found& found) {
  const SweepConfig& config = found.sweep.config;
  Json context = {{"name", valid_utf8(found.sweep.folder.filename().string())},
                  {"cell_count", found.states.size()},
                  {"base", config.base},
                  {"metric", config.metric.name},
                  {"goal", config.metric.goal},
                  {"counts", Json::array()},
                  {"plots", Json::array()},
                  {"failed", Json::array()},
                  {"specification", valid_utf8(read_file(found.sweep.folder / "sweep.yaml"))}};
  std::map<CellState, size_t> counts;
  std::set<std::string> names;
  for (size_t i = 0; i < found.states.size(); ++i) {
    const CellStatus& state = found.states[i];
    ++counts[state.state];
    for (const auto& [name, value] : state.metrics.values) names.insert(name);
    if (state.state == CellState::failed)
      context["failed"].push_back({{"cell", found.sweep.cells[i].name}, {"error", state.error}});
  }
  for (const auto& [state, count] : counts)
    context["counts"].push_back(std::to_string(count) + " " + to_string(state));
  if (found.low <= found.high) {
    context["best"] = to_json(best(found));
    for (const std::string& key : found.parameters) context["plots"].push_back(plot(found, key));
    if (found.parameters.size() == 2)
      context["heat_map"] = to_json(heat_map(found, found.parameters[0], found.parameters[1]));
    if (found.parameters.size() > 2) context["parallel"] = parallel_coordinates(found);
    context["curve"] = curve(found);
  } else if (counts[CellState::done] > 0) {
    context["other_metrics"] = names;
  }
  context["cells"] = to_json(all_cells(found, leading(config.metric.name, names)));
  context["sort_script"] = embedded::sort_js;
  return context;
}

std::string csv(const Found& found) {
  std::set<std::string> parameters, metrics;
  for (size_t i = 0; i < found.states.size(); ++i) {
    for (const auto& [key, value] : found.sweep.cells[i].parameters) parameters.insert(key);
    for (const auto& [name, value] : found.states[i].metrics.values) metrics.insert(name);
  }
  std::vector<std::string> fields = {"cell", "hash", "seed", "state", "seconds"};
  for (const auto* names : {&parameters, &metrics})
    for (const std::string& name : *names) fields.push_back(csv_field(name));
  std::string text = fmt::format("{}\n", fmt::join(fields, ","));
  for (size_t i = 0; i < found.states.size(); ++i) {
    const SweepCell& cell = found.sweep.cells[i];
    const CellStatus& state = found.states[i];
    fields = {csv_field(cell.name), cell.hash, std::to_string(cell.seed), to_string(state.state),
              fmt::format("{:.3f}", state.seconds)};
    for (const std::string& name : parameters)
      fields.push_back(cell.parameters.contains(name) ? csv_field(cell.parameters.at(name)) : "");
    for (const std::string& name : metrics) {
      const auto value = state.metrics.find(name);
      fields.push_back(value ? Json(*value).dump() : "");
    }
    text += fmt::format("{}\n", fmt::join(fields, ","));
  }
  return text;
}

}  // namespace

void write_sweep_report(const Sweep& sweep) {
  const Found found(sweep);
  write_file(sweep.folder / "sweep.csv", csv(found));
  const Json context = report_context(found);
  if (context.contains("curve")) write_json(sweep.folder / "curve.json", context.at("curve"));
  write_file(sweep.folder / "report.html",
             render_page(embedded::sweep_report_html_jinja, "sweep_report.html.jinja", context));
}

}  // namespace inoculum
