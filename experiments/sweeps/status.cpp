#include "experiments/sweeps/status.h"

#include <algorithm>
#include <fstream>
#include <map>

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
    lines.push_back(line);
  }
  return lines;
}

}  // namespace

std::string to_string(CellState state) {
  constexpr const char* names[] = {"pending", "running", "done", "stopped early", "failed"};
  return names[static_cast<size_t>(state)];
}

std::optional<double> CellStatus::find(const SweepMetric& metric) const {
  return read_metrics(metrics).find(metric.name);
}

CellStatus status(const Sweep& sweep, size_t index) {
  const fs::path folder = sweep.cell_folder(index);
  CellStatus found;
  if (fs::exists(folder / "result.json")) {
    const Json result = read_json(folder / "result.json");
    return {CellState::done, result.at("metrics"), result.at("seconds"), ""};
  }
  if (FileLock::is_held(folder / "lock").value_or(false)) return {.state = CellState::running};
  if (fs::exists(folder / "failed.json"))
    return {.state = CellState::failed, .error = read_json(folder / "failed.json").at("error")};
  if (sweep.config.asha.halves()) {
    found.metrics = to_json(asha_metrics(sweep, index));
    if (!found.metrics.empty()) found.state = CellState::stopped_early;
  }
  return found;
}

std::string status_text(const Sweep& sweep) {
  std::map<CellState, size_t> counts;
  std::vector<std::pair<double, size_t>> ranked;
  std::string failures;
  for (size_t i = 0; i < sweep.cells.size(); ++i) {
    const CellStatus found = status(sweep, i);
    ++counts[found.state];
    if (const auto value = found.find(sweep.config.metric)) ranked.emplace_back(*value, i);
    if (found.state != CellState::failed) continue;
    failures += "\n  " + sweep.cells[i].name + ": " + found.error + "\n";
    for (const std::string& line : last_lines(sweep.log(i), 3)) failures += "    | " + line + "\n";
    failures += "    (" + sweep.log(i).string() + ")\n";
  }
  std::string text = sweep.folder.string() + ": " + std::to_string(sweep.cells.size()) + " cells";
  for (const auto& [state, count] : counts)
    text += ", " + std::to_string(count) + " " + to_string(state);
  text += "\n";
  const SweepMetric& metric = sweep.config.metric;
  std::stable_sort(ranked.begin(), ranked.end(),
                   [&](const auto& a, const auto& b) { return metric.better(a.first, b.first); });
  if (!ranked.empty()) text += "\n  best by " + metric.name + " (" + metric.goal + ")\n";
  for (size_t i = 0; i < std::min<size_t>(5, ranked.size()); ++i)
    text += "  " + six_digits(ranked[i].first) + "  " + sweep.cells[ranked[i].second].name + "\n";
  if (!failures.empty())
    text += "\n  failed; `inoculum sweep resume " + sweep.folder.string() + "` tries them again\n" +
            failures;
  return text;
}

}  // namespace inoculum
