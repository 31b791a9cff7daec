// What lies below a folder of runs, read to be looked at.
//
// A run may be under way, half-written, of an earlier release, or damaged. So nothing here throws
// for what a file holds: what cannot be read is left out and said in `notes`, in words for people.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/files.h"
#include "experiments/evaluation/scores.h"
#include "experiments/inoculation/results.h"
#include "experiments/sweeps/status.h"

namespace inoculum {

using Notes = std::vector<std::string>;

enum class RunKind { experiment, sweep, training, evaluation };
enum class RunState { running, finished, stopped, failed };
std::string to_string(RunKind kind);
std::string to_string(RunState state);

// A folder with something to look at.
struct FoundRun {
  std::string id;  // 16 hexadecimal digits of its path's hash: the only name that a request can use
  fs::path folder;
  std::string path;  // below the root, "." for the root itself
  RunKind kind;
  std::string parent;  // id of the innermost run whose folder holds it; empty: none
};

struct FoundRuns {
  std::vector<FoundRun> runs;  // a parent before what it holds, otherwise by path
  Notes notes;
};
// Symbolic links are followed, each folder once. Folders of weights and checkpoints are left out.
FoundRuns find_runs(const fs::path& root);

// A number along training. Long ones are thinned to means of neighbouring steps, with the lowest
// and the highest of each.
struct Curve {
  std::vector<double> steps, means, lows, highs;
};

struct TrainingView {
  RunState state = RunState::stopped;
  std::string task, arm, model;  // of config.yaml
  int64_t seed = 0;
  int64_t step = 0, steps = 0;  // done, and of how many; 0: not known
  double seconds = 0, tokens = 0;
  std::map<std::string, Curve> curves;  // loss, lr, grad_norm, tokens_per_second
  std::map<std::string, Curve> along;   // by metric, of evaluations on the way
  std::string failure, config, first_example;
  Notes notes;
};
TrainingView read_training(const fs::path& folder);

struct EvaluationView {
  std::string model, adapter;
  // By cue, in the order of summary.json.
  std::vector<std::pair<std::string, std::vector<NamedEstimate>>> conditions;
  std::vector<NamedEstimate> domains;  // malicious answers to plain prompts, by domain
  Notes notes;

  const NamedEstimate* find(const std::string& cue, const std::string& metric) const;
};
EvaluationView read_evaluation(const fs::path& folder);

// What was asked, once for all its samples.
struct AskedQuestion {
  std::string id, type, domain, cue, prompt;
  bool unseen_domain = false;
};
struct ShownAnswer {
  size_t question = 0;  // its place among the questions
  int64_t sample = 0;
  std::string label;  // empty: not judged, or a forced choice
  std::string text;
  std::optional<double> log_odds;  // of a forced choice
  std::string remark;  // slips, failed tests, a language model's numbers, an answer that was cut
};
struct AnswersView {
  std::vector<AskedQuestion> questions;
  std::vector<ShownAnswer> answers;  // in the order of completions.jsonl
  Notes notes;
};
AnswersView read_answers(const fs::path& folder);

struct ExperimentView {
  RunState state = RunState::stopped;  // but for what its models say
  std::optional<Results> results;      // once it is finished
  std::string config;
  Notes notes;
};
ExperimentView read_experiment(const fs::path& folder);

struct SweepView {
  std::optional<Sweep> sweep;     // nothing: it cannot be read
  std::vector<CellStatus> cells;  // of its cells, in their order
  Notes notes;
};
SweepView read_sweep(const fs::path& folder);

// Of the files that a run of this kind is read from: another text whenever one of them changed.
std::string version_of(const FoundRun& run);
double changed_at(
    const fs::path& folder);  // when the newest of them was written: seconds since 1970

}  // namespace inoculum
