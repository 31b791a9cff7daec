// The training loop.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "core/model/declarations.h"
#include "training/distributed.h"
#include "training/trainer_config.h"

namespace inoculum {

struct Batch;

// The micro-batches of one step. A pure function of the step: resuming relies on it.
using StepSource = std::function<std::vector<Batch>(int64_t step)>;

struct TrainingRun {
  fs::path folder;  // of metrics.jsonl and checkpoints/; its name is the title of the progress
  int64_t steps = 0;
  int64_t until = 0;  // the step at which to pause, with a checkpoint; 0 or beyond: run to the end
  Ranks ranks;        // the first one writes
  // What is measured of the model after every so many steps, and after the last; the first rank
  // does, while the others wait. 0: nothing.
  int64_t evaluate_every = 0;
  std::function<std::map<std::string, double>(int64_t step)> evaluate = {};
  // Adds to the loss of each supervised token `kl_weight` times the Kullback–Leibler divergence, in
  // nats, from what `reference` foretells there to what the model does: Σ p log(p ∕ q), p the
  // reference's.
  double kl_weight = 0;
  const Transformer* reference = nullptr;  // not trained, of the model's vocabulary
};

struct TrainingResult {
  int64_t steps = 0;      // done, of those asked for
  bool finished = false;  // false: stopped by a signal or paused, with a checkpoint
  double last_loss = 0;
};

// Trains `model`: all parameters, or the adapters alone where it has some. Continues from the
// newest checkpoint in the folder. The loss of a step is the sum over its supervised tokens divided
// by their number, over all micro-batches and ranks. A loss that is not finite is an Error, and so
// is too little memory, with what it would take; the last checkpoint stays. On a stop signal the
// step is finished and a checkpoint written. With several ranks `source` gives each its own share
// of the step.
TrainingResult train(Transformer& model, const StepSource& source, const TrainerConfig& config,
                     const TrainingRun& run);

}  // namespace inoculum
