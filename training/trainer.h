// The training loop, its configuration and its checkpoints.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "core/model/lora.h"
#include "core/model/transformer.h"
#include "training/batches.h"
#include "training/distributed.h"
#include "training/optimizer.h"

namespace inoculum {

// Its fields stand at the top level of a run's configuration.
struct TrainerConfig {
  std::string device = "auto";
  std::string dtype = "bf16";
  int64_t checkpoint_every = 0;
  int64_t keep_checkpoints = 1;
  OptimizerConfig optimizer;

  void fields(Fields& f);
};

// The micro-batches of one step. A pure function of the step: resuming relies on it.
using StepSource = std::function<std::vector<Batch>(int64_t step)>;

struct TrainingResult {
  int64_t steps = 0;      // done, of those asked for
  bool finished = false;  // false: stopped by a signal or paused, with a checkpoint
  double last_loss = 0;
};

// Trains `model` for `steps` steps: all parameters, or the adapters alone where it has some. Writes
// metrics.jsonl (and the same for TensorBoard) and checkpoints/ into `folder`, and continues from
// the newest whole checkpoint there. The loss of a step is the sum over its supervised tokens
// divided by their number, over all micro-batches. A loss that is not finite is an Error, and so is
// too little memory, with what it would take; the last checkpoint stays. On a stop signal the step
// is finished and a checkpoint written; so it is at the step `until`, if that is neither 0 nor
// beyond. With several ranks `source` gives each its own share of the step; the first rank writes.
TrainingResult train(Transformer& model, const StepSource& source, int64_t steps,
                     const TrainerConfig& config, const fs::path& folder, const std::string& title,
                     int64_t until = 0, const Ranks& ranks = {});

}  // namespace inoculum
