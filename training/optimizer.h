// AdamW (Loshchilov & Hutter 2019) with its schedule, keeping float32 masters of weights of any type.
#pragma once

#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/config.h"

namespace inoculum {

struct OptimizerConfig {
  double lr = 2e-3;
  std::string schedule = "cosine";
  int64_t warmup_steps = 50;
  double min_lr_ratio = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double max_grad_norm = 1.0;

  void fields(Fields& f);
  // The learning rate of `step` (from 0) of `steps`: linear warm-up to lr, then the schedule to min_lr_ratio · lr.
  double rate(int64_t step, int64_t steps) const;
};

class AdamW {
 public:
  // `parameters` are leaves that require a gradient. Only matrices decay; norms and biases do not.
  AdamW(std::vector<NamedTensor> parameters, OptimizerConfig config);

  void accumulate();                      // adds the parameters' gradients to float32 sums, and clears them
  // One update with gradients divided by `divisor`; returns their norm before clipping. Not finite: nothing changes.
  double step(double lr, double divisor);

  // Everything that continuing needs: "master.NAME", "exp_avg.NAME", "exp_avg_sq.NAME", "step".
  std::vector<NamedTensor> state() const;
  void load(const std::vector<NamedTensor>& state);
  void publish();                         // masters → parameters

 private:
  OptimizerConfig config_;
  std::vector<NamedTensor> parameters_;
  std::vector<Tensor> masters_, gradients_, exp_avgs_, exp_avg_sqs_, steps_;
  int64_t step_ = 0;
};

}  // namespace inoculum
