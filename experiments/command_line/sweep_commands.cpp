#include <iostream>
#include <numeric>
#include <thread>

#include "core/base/error.h"
#include "experiments/command_line/commands.h"
#include "experiments/reports/report.h"
#include "experiments/sweeps/asha.h"
#include "experiments/sweeps/compare.h"
#include "experiments/sweeps/launcher.h"
#include "experiments/sweeps/status.h"

namespace inoculum {
namespace {

// One launch at a time.
FileLock take_launch(const Sweep& sweep) {
  auto lock = FileLock::try_take(sweep.folder / "lock", !sweep.config.asha.halves());
  if (!lock)
    throw Error("another `inoculum sweep` is at work there", {.file = sweep.folder.string()},
                "`inoculum sweep status` shows how far it is");
  return std::move(*lock);
}

std::string script_of(const Sweep& sweep, const std::string& file) {
  std::vector<size_t> all(sweep.cells.size());
  std::iota(all.begin(), all.end(), size_t{0});
  try {
    return make_launcher(sweep.config.launcher)->script(sweep, all);
  } catch (const Error& error) {
    throw error.in_file(file);
  }
}

// A cell's own report, where something was added since the last one.
void report_cell(const Sweep& sweep, size_t cell) {
  const fs::path folder = sweep.cell_folder(cell), report = folder / "report.html";
  // Empty until the first step is done.
  if (!fs::exists(folder / "metrics.jsonl") || fs::is_empty(folder / "metrics.jsonl")) return;
  const auto newer = [&](const char* name) {
    return fs::exists(folder / name) &&
           fs::last_write_time(report) < fs::last_write_time(folder / name);
  };
  if (!fs::exists(report) || newer("metrics.jsonl") || newer("result.json"))
    write_run_report(folder);
}

// What is pending or failed.
int launch_rest(Sweep& sweep) {
  std::vector<size_t> rest;
  for (size_t i = 0; i < sweep.cells.size(); ++i) {
    const CellState state = status(sweep, i).state;
    if (state == CellState::pending || state == CellState::failed) rest.push_back(i);
  }
  if (sweep.config.asha.halves()) {  // workers rather than cells
    const int64_t workers =
        sweep.config.launcher.array_parallelism > 0
            ? sweep.config.launcher.array_parallelism
            : static_cast<int64_t>(std::max(2u, std::thread::hardware_concurrency()));
    for (const size_t cell : rest)  // workers leave alone what failed
      fs::remove(sweep.cell_folder(cell) / "failed.json");
    rest.resize(std::min(sweep.cells.size(), static_cast<size_t>(workers)));
    std::iota(rest.begin(), rest.end(), size_t{0});
  }
  const Outcome outcome = make_launcher(sweep.config.launcher)->launch(sweep, rest);
  for (size_t i = 0; i < sweep.cells.size(); ++i) report_cell(sweep, i);
  write_sweep_report(sweep);
  std::cout << text_status(sweep_status(sweep));
  if (outcome == Outcome::stopped) return finish(outcome, sweep.folder.string());
  if (sweep.config.asha.halves()) check_metric(sweep);
  for (size_t i = 0; i < sweep.cells.size(); ++i)
    if (status(sweep, i).state == CellState::failed) return 1;
  return 0;
}

}  // namespace

int launch_sweep(const std::string& file, const std::vector<std::string>& overrides,
                 bool however_many, bool dry_run) {
  Sweep sweep = plan_sweep(file, overrides, however_many);
  // What can't be submitted is refused before anything is written.
  const std::string script = script_of(sweep, file);
  if (dry_run) {
    std::cout << plan_text(sweep) << "\n" << script;
    return 0;
  }
  // Taken first: jobs of a launch under way read the files that are written here.
  const FileLock lock = take_launch(sweep);
  check_judged_alike(sweep);
  write_sweep(sweep);
  return launch_rest(sweep);
}

// A list: each command with its options, and what it does.
SweepCommands::SweepCommands(CommandLine& line) : Commands(line) {
  auto* sweep_app = app.add_subcommand(
      "sweep", "run a configuration with many values of its keys, and compare them");
  takes_input(sweep_app, "SWEEP", config,
              "sweep file, such as configs/sweeps/learning_rate_rank.yaml");
  takes_overrides(sweep_app, "of the sweep's own keys, such as seeds=5");
  sweep_app->add_option("--launcher", launcher, "local | slurm")
      ->check(CLI::IsMember({"local", "slurm"}));
  sweep_app->add_option("--max-parallel", parallel, "cells at a time")->check(CLI::PositiveNumber);
  sweep_app->add_flag("--dry-run", dry_run,
                      "show the cells and what would be run, and run nothing");
  sweep_app->add_flag("--yes", yes, "however many cells there are");
  sweep_app->callback([=, this] {
    line_.stops_well = true;  // so do its own commands
    if (!sweep_app->get_subcommands().empty()) return;
    action = [=, this] {
      if (sweep_app->count("SWEEP") == 0)
        throw Error("name a sweep file, or one of: status, resume, cancel, report, compare", {},
                    "inoculum sweep configs/sweeps/learning_rate_rank.yaml");
      std::vector<std::string> all_overrides = overrides;
      if (!launcher.empty()) all_overrides.push_back("launcher.name=" + launcher);
      if (parallel > 0)
        all_overrides.push_back("launcher.array_parallelism=" + std::to_string(parallel));
      return launch_sweep(config, all_overrides, yes, dry_run);
    };
  });
  const auto on_folder = [=, this](const char* name, const char* help, auto use) {
    auto* command = sweep_app->add_subcommand(name, help);
    command->add_option("FOLDER", output, "the sweep's folder")->required();
    command->callback([=, this] { action = [=] { return use(); }; });
    return command;
  };
  auto* status_command = on_folder(
      "status", "how far the cells are; the failed ones with their errors; the best", [this] {
        const Sweep sweep = open_sweep(output);
        Json found = sweep_status(sweep);
        if (!json) std::cout << text_status(found);  // what the folder tells, before Slurm is asked
        const std::string queue = make_launcher(sweep.config.launcher)->queue(sweep);
        if (!queue.empty()) found["queue"] = queue;
        if (json) return print(found);
        if (!queue.empty()) std::cout << "\n  " << queue << "\n";
        return 0;
      });
  takes_json(status_command);
  on_folder("resume", "run what is pending or failed", [this] {
    const FileLock lock = take_launch(open_sweep(output));
    Sweep sweep = open_sweep(output);
    return launch_rest(sweep);
  });
  on_folder("cancel", "stop what is under way; it saves, and `resume` goes on from there", [this] {
    const Sweep sweep = open_sweep(output);
    make_launcher(sweep.config.launcher)->cancel(sweep);
    return 0;
  });
  on_folder("report", "write report.html and sweep.csv anew", [this] {
    write_sweep_report(open_sweep(output));
    return 0;
  });
  auto* compare_command = on_folder(
      "compare",
      "set the cells beside their base, on the questions of the sweep: differences with intervals",
      [this] {
        const Sweep sweep = open_sweep(output);
        const fs::path to = fs::absolute(results.empty() ? output : results);
        enter_directory(sweep);
        const auto groups = evaluated(sweep, evaluate_base(sweep));
        const auto all = compare(groups);
        write_file(to / "comparison.csv", comparison_csv(all));
        write_file(to / "scores.csv", scores_csv(groups));
        std::cout << comparison_text(all);
        return 0;
      });
  compare_command->add_option("--output", results,
                              "folder for comparison.csv and scores.csv; by default the sweep's");
  on_folder("work",
            "run cells of a halving sweep here until there is nothing to run; launchers call this",
            [this] {
              const Sweep sweep = open_sweep(output);
              enter_directory(sweep);
              const Outcome outcome = run_asha(sweep);
              return outcome == Outcome::stopped ? finish(outcome, sweep.folder.string()) : 0;
            });
  auto* cell_command = on_folder("cell", "run one cell here; launchers call this", [=, this] {
    const Sweep sweep = open_sweep(output);
    const size_t index = find_cell(sweep, cell);
    return as_ranks(sweep.cell_folder(index).string(), [&](const Ranks& ranks) {
      enter_directory(sweep);
      const Outcome outcome = run_cell(sweep, index, ranks);
      if (ranks.first()) report_cell(sweep, index);
      return outcome;
    });
  });
  cell_command
      ->add_option("CELL", cell, "its folder's name, its hash, or its number, counted from 0")
      ->required();
  takes_ranks(cell_command);
}

}  // namespace inoculum
