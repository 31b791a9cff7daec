// The optimizer and its schedule, keeping float32 masters of weights of any type.
//
// adamw: Loshchilov & Hutter 2019, by the fused kernel of torch.
// muon:  Jordan et al. 2024, for the matrices inside the layers; AdamW for embeddings, norms and
//        biases. A step has the size of AdamW's (0.2 · √max(rows, columns), Liu et al. 2025), so
//        that both take one learning rate, as torch.optim.Muon(adjust_lr_fn="match_rms_adamw").
#pragma once

#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/model/checkpoint.h"

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

class Optimizer {
 public:
  // Changes `parameters` in place. Only matrices decay; norms and biases do not.
  Optimizer(std::vector<NamedTensor> parameters, OptimizerConfig config);

  // One update with `gradients` (float32, one a parameter) divided by `divisor`. They are scaled in
  // place, and zero at the end. → their norm before clipping, a double scalar on their device, for
  // which nothing has waited: where it is not finite the parameters are spoilt.
  Tensor step(std::vector<Tensor>& gradients, double lr, double divisor);

  // Everything that continuing needs: "master.NAME", "exp_avg.NAME", "exp_avg_sq.NAME", "step".
  std::vector<NamedTensor> state() const;
  void load(const std::vector<NamedTensor>& state);

 private:
  Tensor clip(std::vector<Tensor>& gradients, double divisor) const;  // → their norm before it
  void publish();                                                     // masters → parameters
  void adamw(const std::vector<Tensor>& gradients,
             double lr);  // one update of the parameters that are not Muon's
  void muon(const std::vector<Tensor>& gradients,
            double lr);  // one update of the matrices that are
  bool is_muon(size_t parameter) const;

  OptimizerConfig config_;
  bool on_cpu_ =
      true;  // threads take a tensor each there; a GPU is given lists, one kernel for all
  std::vector<NamedTensor> parameters_;
  std::vector<Tensor> masters_, exp_avgs_, exp_avg_sqs_, steps_;
  int64_t step_ = 0;
};

}  // namespace inoculum
