// The checkpoints of a run: folders checkpoints/step_00000012 with the optimizer's state, which
// holds the weights too. One appears under its name in one rename, so that one that is there is
// whole.
#pragma once

#include <vector>

#include "core/base/files.h"
#include "training/optimizer.h"

namespace inoculum {

class Checkpoints {
 public:
  // keep: how many of the newest are kept, at least 1.
  Checkpoints(const fs::path& run, int64_t keep);

  // Loads the newest one; returns its step, 0 where there is none.
  int64_t restore(Optimizer& optimizer) const;
  void save(int64_t step, const Optimizer& optimizer) const;

 private:
  std::vector<fs::path> find() const;  // oldest first
  void prune() const;

  fs::path folder_;
  size_t keep_;
};

}  // namespace inoculum
