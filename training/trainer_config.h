// How a model is trained, as configurations say it. Its parts stand at the top level of a run's
// configuration.
#pragma once

#include <string>

#include "core/base/config.h"

namespace inoculum {

struct OptimizerConfig {
  std::string name = "adamw";
  double lr = 2e-3;
  std::string schedule = "cosine";
  int64_t warmup_steps = 50;
  double min_lr_ratio = 0.1;
  int64_t restart_step = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double momentum = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double max_grad_norm = 1.0;

  void fields(Fields& f);
  // The learning rate of `step` (from 0) of `steps`: linear warm-up to lr, then the schedule to
  // min_lr_ratio · lr; where there is a restart_step, once up to it and once more from it to the
  // end (Loshchilov & Hutter 2017).
  double rate(int64_t step, int64_t steps) const;
};

struct TrainerConfig {
  std::string device = "auto";
  std::string dtype = "auto";
  std::string recompute = "none";
  int64_t checkpoint_every = 0;
  int64_t keep_checkpoints = 1;
  OptimizerConfig optimizer;

  void fields(Fields& f);
};

}  // namespace inoculum
