#include "experiments/sweeps/asha.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>

#include "core/base/descriptor.h"
#include "core/base/error.h"

namespace inoculum {
namespace {

int64_t bracket_of(const Sweep& sweep, size_t cell) {
  return static_cast<int64_t>(cell) % sweep.config.asha.brackets;
}

fs::path place(const Sweep& sweep, size_t cell, size_t rung, const char* kind) {
  return sweep.folder / "asha" /
         (std::to_string(bracket_of(sweep, cell)) + "_" + std::to_string(rung)) /
         (sweep.cells[cell].folder() + kind);
}

// False: another was first.
bool claim(const fs::path& file) {
  fs::create_directories(file.parent_path());
  const Descriptor made(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!made && errno == EEXIST) return false;
  if (!made) throw Error("cannot write", {.file = file.string()});
  return true;
}

// Every bracket's rungs, as the files have them.
std::vector<std::vector<Rung>> read_rungs(const Sweep& sweep, int64_t steps) {
  std::map<std::string, size_t> cells;
  for (size_t i = 0; i < sweep.cells.size(); ++i) cells[sweep.cells[i].folder()] = i;
  std::vector<std::vector<Rung>> all;
  for (int64_t b = 0; b < sweep.config.asha.brackets; ++b) {
    auto& rungs = all.emplace_back(rung_steps(sweep.config.asha, b, steps).size());
    for (size_t k = 0; k < rungs.size(); ++k) {
      const fs::path folder = sweep.folder / "asha" / (std::to_string(b) + "_" + std::to_string(k));
      if (!fs::is_directory(folder)) continue;
      Rung& rung = rungs[k];
      for (const auto& entry : fs::directory_iterator(folder)) {
        const auto found = cells.find(entry.path().stem().string());
        if (found == cells.end()) continue;
        if (entry.path().extension() == ".claim") rung.claimed.insert(found->second);
        if (entry.path().extension() != ".json") continue;
        const CellMetrics metrics = read_metrics(read_json(entry.path()));
        if (const auto value = metrics.find(sweep.config.metric.name))
          rung.done[found->second] = *value;
      }
    }
  }
  return all;
}

struct Job {
  size_t cell, rung;
  FileLock lock;
};

std::optional<Job> take_job(const Sweep& sweep, int64_t steps) {
  const auto brackets = read_rungs(sweep, steps);
  const auto sound = [&](size_t cell) {
    return !fs::exists(sweep.cell_folder(cell) / "failed.json");
  };
  // A claim without a lock is one that nobody is at: without locks each worker would take over the
  // others' cells.
  const auto hold = [&](size_t cell) {
    return FileLock::try_take(sweep.cell_folder(cell) / "lock", false);
  };
  for (size_t b = 0; b < brackets.size(); ++b) {
    const auto& rungs = brackets[b];
    // Begun by somebody who is gone.
    for (size_t k = rungs.size(); k-- > 0;)
      for (const size_t cell : rungs[k].claimed)
        if (!rungs[k].done.contains(cell) && sound(cell) &&
            !fs::exists(place(sweep, cell, k, ".json")))
          if (auto held = hold(cell); held && !fs::exists(place(sweep, cell, k, ".json")))
            return Job{cell, k, std::move(*held)};
    if (const auto promotion =
            promotable(rungs, sweep.config.asha.reduction, sweep.config.metric)) {
      if (!claim(place(sweep, promotion->cell, promotion->rung, ".claim")))
        return take_job(sweep, steps);  // another was first: what was read is old
      if (auto held = hold(promotion->cell))
        return Job{promotion->cell, promotion->rung, std::move(*held)};
    }
  }
  for (size_t cell = 0; cell < sweep.cells.size(); ++cell) {
    if (!sound(cell) || fs::exists(place(sweep, cell, 0, ".claim")) ||
        !claim(place(sweep, cell, 0, ".claim")))
      continue;
    if (auto held = hold(cell)) return Job{cell, 0, std::move(*held)};
  }
  return std::nullopt;
}

}  // namespace

std::vector<int64_t> rung_steps(const AshaConfig& config, int64_t bracket, int64_t steps) {
  std::vector<int64_t> all;
  double rung = static_cast<double>(config.min_steps) * std::pow(config.reduction, bracket);
  while (rung < static_cast<double>(steps)) {
    all.push_back(std::llround(rung));
    rung *= config.reduction;
  }
  if (!all.empty() && all.back() >= steps) all.pop_back();
  all.push_back(steps);
  return all;
}

std::optional<Promotion> promotable(const std::vector<Rung>& rungs, double reduction,
                                    const SweepMetric& metric) {
  for (size_t k = rungs.size() - 1; k-- > 0;) {
    std::vector<std::pair<size_t, double>> ranked(rungs[k].done.begin(), rungs[k].done.end());
    std::stable_sort(ranked.begin(), ranked.end(), [&](const auto& a, const auto& b) {
      return metric.better(a.second, b.second);
    });
    const auto best = static_cast<size_t>(static_cast<double>(ranked.size()) / reduction);
    for (size_t i = 0; i < best; ++i)
      if (!rungs[k + 1].claimed.contains(ranked[i].first)) return Promotion{ranked[i].first, k + 1};
  }
  return std::nullopt;
}

Outcome run_asha(const Sweep& sweep) {
  const int64_t steps = steps_of(sweep);
  while (!stop_requested()) {
    const auto job = take_job(sweep, steps);
    if (!job) return Outcome::finished;
    std::fprintf(stderr, "%s, rung %zu\n", sweep.cells[job->cell].name.c_str(), job->rung);
    try {
      const auto metrics =
          train_cell(sweep, job->cell,
                     rung_steps(sweep.config.asha, bracket_of(sweep, job->cell), steps)[job->rung]);
      if (!metrics) return Outcome::stopped;
      write_json(place(sweep, job->cell, job->rung, ".json"), to_json(*metrics));
    } catch (const std::exception& error) {
      // The cell's folder has it too; the other cells go on.
      std::fprintf(stderr, "inoculum: %s\n", error.what());
    }
    check_metric(sweep);
  }
  return Outcome::stopped;
}

CellMetrics asha_metrics(const Sweep& sweep, size_t cell) {
  CellMetrics metrics;
  for (size_t k = 0; fs::exists(place(sweep, cell, k, ".json")); ++k)
    metrics = read_metrics(read_json(place(sweep, cell, k, ".json")));
  return metrics;
}

void check_metric(const Sweep& sweep) {
  const std::string& wanted = sweep.config.metric.name;
  std::vector<std::string> names;
  for (size_t cell = 0; cell < sweep.cells.size(); ++cell) {
    const CellMetrics metrics = asha_metrics(sweep, cell);
    if (metrics.find(wanted)) return;
    for (const auto& [name, value] : metrics.values) names.push_back(name);
  }
  if (!names.empty())
    throw Error("no cell has \"" + wanted + "\", so that none would ever go on",
                {.file = (sweep.folder / "sweep.yaml").string(), .field = "metric.name"},
                did_you_mean(wanted, names, "such as " + names.front()));
}

}  // namespace inoculum
