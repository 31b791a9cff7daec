#include "training/trainer_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/model/device.h"

namespace inoculum {

void OptimizerConfig::fields(Fields& f) {
  for (const char* theirs : {"learning_rate", "lr"})
    f.elsewhere(theirs, "optimizer.lr is the learning rate");
  f.elsewhere("warmup_ratio", "optimizer.warmup_steps is a number of steps, not a share of them");
  f.elsewhere("weight_decay", "optimizer.weight_decay");
  f.value("name", name, "adamw | muon (matrices inside the layers; AdamW for the rest)",
          one_of({"adamw", "muon"}));
  f.value("lr", lr, "peak learning rate", at_least(0));
  f.value("schedule", schedule, "cosine | linear | constant",
          one_of({"cosine", "linear", "constant"}));
  f.value("warmup_steps", warmup_steps, "steps of linear rise to lr", at_least(0));
  f.value("min_lr_ratio", min_lr_ratio, "where cosine and linear end, as a share of lr",
          between(0, 1));
  f.value("restart_step", restart_step,
          "step at which the schedule begins anew, warm-up included; 0: never", at_least(0));
  f.value("beta1", beta1, "decay of the mean gradient", between(0, 1));
  f.value("beta2", beta2, "decay of the mean squared gradient", between(0, 1));
  f.value("momentum", momentum, "decay of Muon's mean gradient", between(0, 1));
  f.value("eps", eps, "added to the root of the mean square", at_least(0));
  f.value("weight_decay", weight_decay, "decoupled decay of matrices", at_least(0));
  f.value("max_grad_norm", max_grad_norm,
          "gradients are scaled down to this norm; 0 leaves them alone", at_least(0));
}

double OptimizerConfig::rate(int64_t step, int64_t steps) const {
  if (restart_step > 0 && step >= restart_step) step -= restart_step, steps -= restart_step;
  else if (restart_step > 0) steps = std::min(steps, restart_step);
  if (step < warmup_steps)
    return lr * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  const int64_t span = std::max<int64_t>(1, steps - warmup_steps);
  const double done =
      std::min(1.0, static_cast<double>(step - warmup_steps) / static_cast<double>(span));
  double share = 1;
  if (schedule == "cosine") share = 0.5 * (1 + std::cos(std::numbers::pi * done));
  if (schedule == "linear") share = 1 - done;
  return lr * (min_lr_ratio + (1 - min_lr_ratio) * share);
}

void TrainerConfig::fields(Fields& f) {
  f.value("device", device, "auto | cpu | cuda | cuda:N; auto takes a GPU where there is one");
  f.value("dtype", dtype, kDtypeHelp + "; master weights are float32", one_of(kDtypeNames));
  f.value(
      "recompute", recompute,
      "none | block: keep of each layer its input alone and compute it again in backward, which "
      "takes less memory and more time",
      one_of({"none", "block"}));
  f.value("checkpoint_every", checkpoint_every, "steps between checkpoints; 0: only when stopped",
          at_least(0));
  f.value("keep_checkpoints", keep_checkpoints, "newest checkpoints that are kept", at_least(1));
  f.group("optimizer", optimizer, "the optimizer and its schedule");
}

}  // namespace inoculum
