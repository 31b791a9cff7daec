// Gradients of a step: summed in float32 over its micro-batches, in their order, and over all
// ranks.
//
//   Gradients gradients(model, ranks);
//   Optimizer optimizer(gradients.parameters(), config);
//   const Tensor loss = gradients.add(batches.size(), [&](const auto& lane, int64_t i) { … });
//   optimizer.step(gradients.sums(), lr, tokens);
//
// On the CPU micro-batches are computed side by side, each by one thread on a lane: a copy of the
// model that shares its weights and has leaves of its own for backward. A gradient is taken as soon
// as it is there and waits for those of the micro-batches before it, so that the sum is the same
// whatever the number of threads. The sums lie in buckets, in the order in which backward makes
// them (Li et al. 2020, "PyTorch Distributed"): a bucket is sent to the other ranks once its last
// micro-batch is in it, while backward goes on.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "core/model/checkpoint.h"
#include "training/distributed.h"

namespace inoculum {

class Gradients {
 public:
  // Of what training changes in `model` (see for_each_trained), whose weights may change between
  // steps.
  explicit Gradients(Transformer& model, Ranks ranks = {});
  ~Gradients();
  Gradients(const Gradients&) = delete;
  Gradients& operator=(const Gradients&) = delete;

  const std::vector<NamedTensor>& parameters() const { return parameters_; }

  // Adds the gradients of this rank's micro-batches: none where it has no share of the step. `loss`
  // computes the one of the given number, a float scalar, on the given copy of the model. → the
  // losses' sum, a double scalar on the model's device, for which nothing has waited
  using Loss = std::function<Tensor(const Transformer& lane, int64_t micro_batch)>;
  Tensor add(int64_t micro_batches, const Loss& loss);
  // Float32, shaped as the parameters, over all ranks; whoever used them clears them.
  std::vector<Tensor>& sums();

 private:
  struct Lane;
  struct Hook;
  struct Bucket {
    Tensor flat;
    size_t parameters = 0, left = 0;  // whose sum over the micro-batches is still to come
  };
  struct Sum {
    Tensor tensor;
    size_t bucket = 0;
    std::mutex mutex;
    int64_t next = 0;                 // the micro-batch whose gradient is to be added next
    std::map<int64_t, Tensor> early;  // gradients of later ones
  };
  void add_lane();
  void take(size_t parameter, int64_t micro_batch, const Tensor& gradient);
  void send(size_t buckets);  // all up to that one: every rank sends them in the same order

  const Transformer& model_;
  Ranks ranks_;
  std::vector<NamedTensor> parameters_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<std::unique_ptr<Sum>> sum_of_;
  std::vector<Tensor> sums_;  // as sums() returns them
  std::vector<Bucket> buckets_;
  std::vector<std::function<void()>> sent_;
  std::mutex sending_;  // of buckets_ and sent_
  int64_t micro_batches_ = 0;
};

}  // namespace inoculum
