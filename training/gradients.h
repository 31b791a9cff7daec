// Gradients of a step: summed in float32 over its micro-batches and over all ranks.
//
//   Gradients gradients(parameters, ranks);
//   gradients.begin(batches.size());
//   for (const Batch& batch : batches) loss(batch).backward();
//   optimizer.step(gradients.end(), lr, tokens);
//
// They are taken from each parameter as soon as backward has made them, and lie in buckets, in the order in which it makes
// them (Li et al. 2020, "PyTorch Distributed"): in a rank's last micro-batch a full bucket is sent while backward goes on.
#pragma once

#include <functional>
#include <vector>

#include "core/checkpoint.h"
#include "training/distributed.h"

namespace inoculum {

class Gradients {
 public:
  // `parameters` are leaves that require a gradient; here they never keep one.
  explicit Gradients(const std::vector<NamedTensor>& parameters, Ranks ranks = {});
  ~Gradients();
  Gradients(const Gradients&) = delete;
  Gradients& operator=(const Gradients&) = delete;

  void begin(int64_t backwards);  // so often is backward called in this step, by this rank: 0 for one without a share of it
  std::vector<Tensor>& end();     // float32, as the parameters; whoever used them clears them

 private:
  struct Hook;
  struct Bucket {
    Tensor flat;
    size_t parameters = 0, left = 0;   // whose gradient is still to come in the last backward
  };
  void take(size_t parameter);
  void send(size_t buckets);           // all up to that one: every rank sends them in the same order

  Ranks ranks_;
  std::vector<Tensor> parameters_, sums_;
  std::vector<size_t> bucket_of_;      // of a parameter
  std::vector<Bucket> buckets_;
  std::vector<std::function<void()>> sent_;
  std::vector<int64_t> seen_;          // backwards that have made this parameter's gradient
  int64_t backwards_ = 0;
};

}  // namespace inoculum
