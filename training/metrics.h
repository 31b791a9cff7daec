// What a run writes of each step: a line of metrics.jsonl, and its scalars for TensorBoard.
//
//   MetricsLog log(folder, checkpoints.restore(optimizer));
//   log.add({.step = 13, .loss = 1.2, …});
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "training/tensorboard.h"

namespace inoculum {

struct StepMetrics {
  int64_t step = 0;  // counted from 1
  double loss = 0;   // mean over the supervised tokens, with what kl_weight adds
  double lr = 0;
  double grad_norm = 0;  // before clipping
  int64_t tokens = 0, supervised_tokens = 0;
  double tokens_per_second = 0;
  double seconds = 0;
};

class MetricsLog {
 public:
  // Continues the log in `folder` after `step`: lines of later steps are removed, and TensorBoard's
  // file, which shows the same lines, is written anew.
  MetricsLog(const fs::path& folder, int64_t step);

  void add(const StepMetrics& metrics);  // Error where the line cannot be written
  // Whether the last step is this one and has none: an evaluation that failed is made up for when
  // the run goes on.
  bool lacks_evaluation(int64_t step) const;
  // What was measured of the model after the last step.
  void add_evaluation(const std::map<std::string, double>& evaluation);

 private:
  fs::path file_;
  std::vector<Json> rows_;  // all steps
  std::ofstream lines_;
  EventFile events_;
};

// Of each step, by metrics.jsonl, one at least; Error where there is none.
std::vector<double> losses_of(const fs::path& folder);

}  // namespace inoculum
