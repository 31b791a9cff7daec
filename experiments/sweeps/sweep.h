// Sweeps: one file names a configuration and the values to try; each combination is a cell, a run
// of its own.
//
//   task: sweep
//   base: ../train/cheating.yaml   # a train, pretrain or reproduce configuration: what a cell is,
//   seeds: 3                       # but for the parameters
//   grid:
//     optimizer.lr: [1e-3, 3e-3]
//     lora.rank: [1, 4]
//   exclude: [{lora.rank: 1, optimizer.lr: 3e-3}]
//   metric: {name: malicious, goal: max}
//
// A sweep's folder is all that there is of it; whoever comes later, from whatever machine, reads on
// from there:
//
//   sweep.yaml            the resolved sweep, and the directory at which relative paths of models
//                         and data start
//   base.yaml             the resolved base, so that a later change of its file changes no cell
//   cells.jsonl           the cells: name, hash, overrides
//   cells/<name>-<hash>/  a run folder each, and result.json (it is done) or failed.json
//   base/                 the evaluation of their base, for `sweep compare`
//   logs/                 what each cell wrote
//
// A cell's hash is that of its whole resolved configuration: an equal cell is never run again, a
// changed one is. No file says where the folder lies: it may be moved or copied, and its cells be
// run from anywhere.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/signals.h"
#include "experiments/evaluation/evaluate.h"
#include "experiments/inoculation/task.h"
#include "experiments/sweeps/cell_metrics.h"
#include "training/distributed.h"

namespace inoculum {

// One of these; a draw is written as YAML with six digits.
struct Distribution {
  std::vector<double> uniform;      // [low, high]
  std::vector<double> log_uniform;  // [low, high]
  std::vector<double> integer;      // [first, last]
  std::vector<std::string> choice;

  void fields(Fields& f);
};

struct RandomSearch {
  int64_t samples = 0;
  int64_t seed = 1;
  std::map<std::string, Distribution> parameters;

  void fields(Fields& f);
};

// Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter
// Tuning", algorithm 2). Rung k of bracket s holds the cells after min_steps · reduction^(s + k)
// steps; of those there the best 1/reduction go on.
struct AshaConfig {
  int64_t min_steps = 0;  // 0: every cell runs to its end
  double reduction = 3;   // η
  int64_t brackets = 1;   // cells are dealt to brackets 0 to brackets − 1 in turn

  void fields(Fields& f);
  bool halves() const { return min_steps > 0; }
};

struct SweepMetric {
  std::string name = "loss";
  std::string goal = "min";
  std::vector<std::string> beside;

  void fields(Fields& f);
  bool better(double a, double b) const { return goal == "max" ? a > b : a < b; }
};

// Names as submitit's users know them. Those of Slurm alone are ignored elsewhere.
struct LauncherConfig {
  std::string name = "local";
  int64_t array_parallelism = 0;  // cells at a time; 0: one a core, or one alone on a GPU
  int64_t tasks_per_node = 1;     // ranks of a cell
  int64_t cpus_per_task = 1;
  int64_t timeout_min = 60;
  int64_t gpus_per_node = 0;
  double mem_gb = 4;
  int64_t max_requeues = 10;
  std::string partition, qos, account, constraint;
  std::vector<std::string> setup;                            // lines of shell before the run
  std::map<std::string, std::string> additional_parameters;  // of sbatch: name → value

  void fields(Fields& f);
};

struct SweepConfig {
  std::string base;
  std::string output;     // by default runs/<name of the file>
  std::string directory;  // that relative paths start at; by default where it is launched
  int64_t seeds = 1;
  int64_t first_seed = 1;
  std::map<std::string, std::vector<std::string>> grid;
  RandomSearch random;
  AshaConfig asha;
  std::vector<std::map<std::string, std::string>> exclude;
  std::map<std::string, std::string> derive;  // key → expression of other keys
  std::vector<std::string> require;           // expressions that must hold
  std::string questions;                      // bank that train cells are evaluated on; empty: none
  EvaluationConfig evaluation;                // how it is asked and judged
  SweepMetric metric;
  LauncherConfig launcher;

  void fields(Fields& f);
};

struct SweepCell {
  std::string name, hash;
  std::map<std::string, std::string> parameters;  // seed left out
  int64_t seed = 1;
  std::vector<std::string> overrides;  // over base.yaml; where it writes is `Sweep::cell_folder`
  int64_t tokens = 0;                  // that are trained on, about
  std::string folder() const { return name + "-" + hash; }
};

std::optional<double> number(const std::string& text);  // a parameter's value, if it is one

// The combinations × seeds, before any is left out.
double cell_count(const SweepConfig& config);

// Every cell, each checked: a key or value that the base does not take is an Error naming the line
// of the sweep's file.
std::vector<SweepCell> expand(const SweepConfig& config, const Source& file, const Source& base);

struct Sweep {
  fs::path folder;  // absolute
  SweepConfig config;
  std::vector<SweepCell> cells;

  fs::path cell_folder(size_t cell) const { return folder / "cells" / cells[cell].folder(); }
  fs::path log(size_t cell) const { return folder / "logs" / (cells[cell].folder() + ".log"); }
};

// Expands; writes nothing. More than 10,000 cells are an Error unless `however_many`.
Sweep plan_sweep(const fs::path& file, const std::vector<std::string>& overrides,
                 bool however_many = false);
std::string plan_text(const Sweep& sweep);  // the cells, their number, their tokens
void write_sweep(const Sweep& sweep);       // makes or renews the folder
Sweep open_sweep(const fs::path& folder);
// An Error where results lie in the sweep's folder that were come by otherwise: by another bank of
// questions, another judge or other rungs. New results would stand beside them as if they were
// alike.
void check_judged_alike(const Sweep& sweep);
void enter_directory(const Sweep& sweep);  // makes it this process's own; before a cell is run
// By its folder's name, its hash or its number.
size_t find_cell(const Sweep& sweep, const std::string& which);

// Runs one cell in this process: what its base is, then the evaluation. Ends with result.json,
// {"metrics": {name: number}, "seconds"}, or failed.json, {"error"}, and the Error is thrown on. A
// cell that is done, or that another process is at, is left alone. ranks: train it together; the
// first one evaluates and writes.
Outcome run_cell(const Sweep& sweep, size_t cell, const Ranks& ranks = {});
// The part of it for whoever holds the lock of the cell's folder: up to the step `until`, or 0 to
// its end. → its metrics there, or nothing if a signal stopped it before.
std::optional<CellMetrics> train_cell(const Sweep& sweep, size_t cell, int64_t until = 0,
                                      const Ranks& ranks = {});
int64_t steps_of(const Sweep& sweep);  // that a cell trains for
// Evaluates the model that all cells were trained from as they are, unless it was; → the folder of
// its evaluation.
fs::path evaluate_base(const Sweep& sweep);

}  // namespace inoculum
