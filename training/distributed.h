// Data-parallel training: ranks, each a process with a copy of the model, take shares of every step
// and sum their gradients.
//
//   const Ranks ranks = Ranks::join();  // by torchrun's or Slurm's variables, or alone
//   const auto wait = ranks.start_sum(bucket);  // in place, over all ranks, while we go on
//   wait();
//   if (ranks.first()) save();
//
// Through c10d: TCPStore to meet, Gloo on the CPU, NCCL on GPUs where LibTorch has it. Of torchrun:
// RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; of Slurm's steps: SLURM_PROCID,
// SLURM_STEP_NUM_TASKS, SLURM_STEP_NODELIST, SLURM_STEP_NUM_NODES, SLURM_LOCALID.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/model/declarations.h"

namespace inoculum {

class Ranks {
 public:
  static Ranks join();  // waits for the others; Error where they don't come within a minute, or
                        // variables are missing
  Ranks() = default;    // alone

  int64_t rank() const { return rank_; }
  int64_t size() const { return size_; }
  bool first() const { return rank_ == 0; }

  // Each waits for all, a day at most; a rank that is gone is an Error on the others.
  std::function<void()> start_sum(
      const Tensor& tensor) const;  // in place; call what it returns before the sum is used
  std::vector<double> sum_numbers(const std::vector<double>& values) const;
  bool any(bool mine) const { return sum_numbers({mine ? 1.0 : 0.0})[0] > 0; }

 private:
  struct Group;
  int64_t rank_ = 0, size_ = 1;
  std::shared_ptr<Group> group_;
};

}  // namespace inoculum
