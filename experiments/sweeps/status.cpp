#include "experiments/sweeps/status.h"

#include <algorithm>
#include <fstream>
#include <map>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "experiments/sweeps/asha.h"

namespace inoculum {
namespace {

std::vector<std::string> last_lines(const fs::path& file, size_t count) {
  std::vector<std::string> lines;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.empty()) continue;
    if (lines.size() == count) lines.erase(lines.begin());
    lines.push_back(valid_utf8(line));
  }
  return lines;
}

}  // namespace

std::string to_string(CellState state) {
  constexpr const char* names[] = {"pending", "running", "done", "stopped early", "failed"};
  return names[static_cast<size_t>(state)];
}

CellStatus status(const Sweep& sweep, size_t index) {
  const fs::path folder = sweep.cell_folder(index);
  if (fs::exists(folder / "result.json")) {
    const Json result = read_json(folder / "result.json");
    return {.state = CellState::done,
            .metrics = read_metrics(result.at("metrics")),
            .seconds = result.at("seconds")};
  }
  if (FileLock::is_held(folder / "lock").value_or(false)) return {.state = CellState::running};
  if (fs::exists(folder / "failed.json"))
    return {.state = CellState::failed, .error = read_json(folder / "failed.json").at("error")};
  if (!sweep.config.asha.halves()) return {};
  CellMetrics metrics = asha_metrics(sweep, index);
  if (metrics.values.empty()) return {};
  return {.state = CellState::stopped_early, .metrics = std::move(metrics)};
}

Json sweep_status(const Sweep& sweep) {
  std::map<CellState, size_t> counts;
  std::vector<std::pair<double, std::string>> ranked;
  Json cells = Json::array();
  const SweepMetric& metric = sweep.config.metric;
  std::vector<std::string> names;  // of metrics that cells have
  for (size_t i = 0; i < sweep.cells.size(); ++i) {
    const CellStatus found = status(sweep, i);
    for (const auto& [name, value] : found.metrics.values) names.push_back(name);
    ++counts[found.state];
    cells.push_back({{"name", sweep.cells[i].name},
                     {"state", to_string(found.state)},
                     {"seed", sweep.cells[i].seed},
                     {"seconds", found.seconds},
                     {"metrics", to_json(found.metrics)}});
    if (const auto value = found.metrics.find(metric.name))
      ranked.emplace_back(*value, sweep.cells[i].name);
    if (found.state != CellState::failed) continue;
    cells.back()["error"] = found.error;
    // A worker of halving writes of many cells.
    const fs::path log = sweep.config.asha.halves() ? sweep.folder / "logs" : sweep.log(i);
    cells.back()["log"] = log.string();
    cells.back()["last_lines"] = last_lines(log, 3);
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [&](const auto& a, const auto& b) { return metric.better(a.first, b.first); });
  ranked.resize(std::min<size_t>(5, ranked.size()));
  Json all = {{"folder", sweep.folder.string()},
              {"metric", {{"name", metric.name}, {"goal", metric.goal}}},
              {"counts", Json::object()},
              {"best", Json::array()}};
  if (ranked.empty() && !names.empty())
    all["metric"]["missing"] = "no cell has \"" + metric.name + "\": " +
                               did_you_mean(metric.name, names, "such as " + names.front());
  for (const auto& [state, count] : counts) all["counts"][to_string(state)] = count;
  for (const auto& [value, name] : ranked)
    all["best"].push_back({{"name", name}, {"value", value}});
  all["cells"] = std::move(cells);
  return all;
}

}  // namespace inoculum
