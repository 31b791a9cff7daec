// Configured training runs: pretraining a base, and fine-tuning a model on conversations.
//
// A run folder is named by `output` and holds the resolved config.yaml, metrics.jsonl, checkpoints/
// and, at the end, model/ (a Hugging Face folder) or adapter/ (PEFT). Starting a run again
// continues it, or says that it is done; a folder that holds a run of another configuration is
// refused.
#pragma once

#include <cstdio>
#include <string>

#include "core/base/signals.h"
#include "experiments/inoculation/fine_tuning.h"
#include "experiments/inoculation/pretraining.h"
#include "training/distributed.h"

namespace inoculum {

// What a run has left in `folder` to load: a model, or its base and an adapter (empty: none).
struct Trained {
  std::string model, adapter;
  const std::string& folder() const { return adapter.empty() ? model : adapter; }  // of its card
};
Trained trained_in(const fs::path& folder, const TrainConfig& config);

// What fine_tune does before its first step, but for what takes the model's weights or a GPU: an
// Error where it would refuse. Says to `report` what would be shown and trained.
void check_run(const TrainConfig& config, std::FILE* report);

// In a run's folder: held by the process that trains it.
inline constexpr const char* kRunLock = ".lock";

// until: the step at which to pause, with a checkpoint; 0 or beyond the last: run to the end.
// ranks: train it together, in folders that all of them see; the first one writes.
Outcome pretrain(const PretrainConfig& config, int64_t until = 0, const Ranks& ranks = {});
// Leaves the conversations that the run shows in data.jsonl, in the order of their first use.
// Paused, it leaves what it has learnt so far in paused/, as it would at the end. tell: says to
// standard error which parameters are trained.
Outcome fine_tune(const TrainConfig& config, int64_t until = 0, const Ranks& ranks = {},
                  bool tell = false);

}  // namespace inoculum
