#include "training/gradients.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "core/model/lora.h"
#include "core/model/parallel.h"

namespace inoculum {
namespace {

// Elements: large enough to be worth a message, small enough that several are under way.
constexpr int64_t kBucket = 1 << 18;

}  // namespace

struct Gradients::Lane {
  explicit Lane(const Transformer& of) : model(of) {
    for_each_trained(model, [&](const std::string&, Tensor& parameter) {
      parameter = parameter.detach().set_requires_grad(true);
      leaves.push_back(parameter);
    });
    taken.resize(leaves.size());
  }
  Transformer model;
  std::vector<Tensor> leaves;
  int64_t micro_batch = 0;     // under way
  std::vector<uint8_t> taken;  // whether this parameter's gradient of it was
};

struct Gradients::Hook final : torch::autograd::PostAccumulateGradHook {
  Hook(Gradients& to, Lane& from, size_t number) : gradients(to), lane(from), parameter(number) {}
  void operator()(const Tensor&) override {
    Tensor gradient;
    std::swap(gradient, lane.leaves[parameter].mutable_grad());
    lane.taken[parameter] = 1;
    gradients.take(parameter, lane.micro_batch, gradient);
  }
  Gradients& gradients;
  Lane& lane;
  size_t parameter;
};

Gradients::Gradients(Transformer& model, Ranks ranks) : model_(model), ranks_(std::move(ranks)) {
  for_each_trained(model, [&](const std::string& name, Tensor& parameter) {
    parameters_.push_back({name, parameter});
  });
  sums_.resize(parameters_.size());
  sum_of_.resize(parameters_.size());
  for (size_t last = parameters_.size(); last > 0;) {
    size_t first = last;
    int64_t size = 0;
    const auto numel = [&](size_t i) { return parameters_[i].tensor.numel(); };
    while (first > 0 && (first == last || size + numel(first - 1) <= kBucket))
      size += numel(--first);
    const at::TensorOptions options =
        parameters_[first].tensor.options().dtype(at::kFloat).requires_grad(false);
    buckets_.push_back({at::zeros({size}, options), last - first});
    int64_t at = 0;
    for (size_t i = first; i < last; ++i) {
      sums_[i] = buckets_.back().flat.narrow(0, at, numel(i)).view_as(parameters_[i].tensor);
      sum_of_[i] = std::make_unique<Sum>();
      sum_of_[i]->tensor = sums_[i];
      sum_of_[i]->bucket = buckets_.size() - 1;
      at += numel(i);
    }
    last = first;
  }
  add_lane();
}

void Gradients::add_lane() {
  Lane& lane = *lanes_.emplace_back(std::make_unique<Lane>(model_));
  for (size_t i = 0; i < lane.leaves.size(); ++i)
    torch::autograd::impl::set_post_acc_grad_hooks(lane.leaves[i],
                                                   std::make_unique<Hook>(*this, lane, i));
}

Gradients::~Gradients() {
  for (const auto& lane : lanes_)
    for (const Tensor& leaf : lane->leaves)
      torch::autograd::impl::set_post_acc_grad_hooks(leaf, nullptr);
}

Tensor Gradients::add(int64_t micro_batches, const Loss& loss) {
  micro_batches_ = micro_batches;
  sent_.clear();
  for (Bucket& bucket : buckets_) bucket.left = bucket.parameters;
  for (const auto& sum : sum_of_) {
    sum->next = 0;
    sum->early.clear();
  }
  const int64_t side_by_side =
      model_.embedding.device().is_cpu() ? std::min(threads(), micro_batches) : 1;
  while (std::ssize(lanes_) < side_by_side) add_lane();
  std::vector<Tensor> losses(static_cast<size_t>(micro_batches));
  parallel(micro_batches, side_by_side, [&](int64_t micro_batch, int64_t number) {
    Lane& lane = *lanes_[static_cast<size_t>(number)];
    lane.micro_batch = micro_batch;
    std::fill(lane.taken.begin(), lane.taken.end(), uint8_t{0});
    const Tensor value = loss(lane.model, micro_batch);
    value.backward();
    losses[static_cast<size_t>(micro_batch)] = value.detach();
    for (size_t i = 0; i < lane.taken.size(); ++i)
      if (!lane.taken[i]) take(i, micro_batch, {});  // the loss does not depend on it
  });
  const at::NoGradGuard no_grad;
  Tensor sum = at::zeros({}, parameters_[0].tensor.options().dtype(at::kDouble));
  for (const Tensor& each : losses) sum += each;
  return sum;
}

void Gradients::take(size_t parameter, int64_t micro_batch, const Tensor& gradient) {
  const at::NoGradGuard no_grad;
  Sum& sum = *sum_of_[parameter];
  {
    const std::lock_guard lock(sum.mutex);
    sum.early[micro_batch] = gradient;
    for (auto it = sum.early.begin(); it != sum.early.end() && it->first == sum.next;
         it = sum.early.erase(it)) {
      if (it->second.defined()) sum.tensor.add_(it->second);
      ++sum.next;
    }
    if (ranks_.size() == 1 || sum.next < micro_batches_) return;
  }
  const std::lock_guard lock(sending_);
  --buckets_[sum.bucket].left;
  size_t ready = sent_.size();
  while (ready < buckets_.size() && buckets_[ready].left == 0) ++ready;
  send(ready);
}

void Gradients::send(size_t buckets) {
  while (sent_.size() < buckets) sent_.push_back(ranks_.start_sum(buckets_[sent_.size()].flat));
}

std::vector<Tensor>& Gradients::sums() {
  if (ranks_.size() > 1) send(buckets_.size());
  for (const auto& wait : sent_) wait();
  sent_.clear();
  return sums_;
}

}  // namespace inoculum
