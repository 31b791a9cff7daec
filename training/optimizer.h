// The optimizer and its schedule, keeping float32 masters of weights of any type.
//
// adamw: Loshchilov & Hutter 2019, by the fused kernel of torch.
// muon:  Jordan et al. 2024, for the matrices inside the layers; AdamW for embeddings, norms and
//        biases. A step has the size of AdamW's (0.2 · √max(rows, columns), Liu et al. 2025), so
//        that both take one learning rate, as torch.optim.Muon(adjust_lr_fn="match_rms_adamw").
#pragma once

#include <string>
#include <vector>

#include "core/model/checkpoint.h"
#include "training/trainer_config.h"

namespace inoculum {

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
