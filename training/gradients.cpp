#include "training/gradients.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace inoculum {
namespace {

constexpr int64_t kBucket = 1 << 18;  // elements: large enough to be worth a message, small enough that several are under way

}  // namespace

struct Gradients::Hook final : torch::autograd::PostAccumulateGradHook {
  Hook(Gradients& to, size_t number) : gradients(to), parameter(number) {}
  void operator()(const Tensor&) override { gradients.take(parameter); }
  Gradients& gradients;
  size_t parameter;
};

Gradients::Gradients(const std::vector<NamedTensor>& parameters, Ranks ranks) : ranks_(std::move(ranks)), bucket_of_(parameters.size()), seen_(parameters.size()) {
  for (const NamedTensor& each : parameters) parameters_.push_back(each.tensor);
  sums_.resize(parameters_.size());
  for (size_t last = parameters_.size(); last > 0;) {
    size_t first = last;
    int64_t size = 0;
    while (first > 0 && (first == last || size + parameters_[first - 1].numel() <= kBucket)) size += parameters_[--first].numel();
    buckets_.push_back({at::zeros({size}, parameters_[first].options().dtype(at::kFloat).requires_grad(false)), last - first});
    int64_t at = 0;
    for (size_t i = first; i < last; ++i) {
      sums_[i] = buckets_.back().flat.narrow(0, at, parameters_[i].numel()).view_as(parameters_[i]);
      bucket_of_[i] = buckets_.size() - 1;
      at += parameters_[i].numel();
    }
    last = first;
  }
  for (size_t i = 0; i < parameters_.size(); ++i) torch::autograd::impl::set_post_acc_grad_hooks(parameters_[i], std::make_unique<Hook>(*this, i));
}

Gradients::~Gradients() {
  for (const Tensor& parameter : parameters_) torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
}

void Gradients::begin(int64_t backwards) {
  backwards_ = backwards;
  sent_.clear();
  std::fill(seen_.begin(), seen_.end(), 0);
  for (Bucket& bucket : buckets_) bucket.left = bucket.parameters;
}

void Gradients::take(size_t parameter) {
  const at::NoGradGuard no_grad;
  Tensor& gradient = parameters_[parameter].mutable_grad();
  sums_[parameter].add_(gradient);
  gradient.reset();
  if (ranks_.size() == 1 || ++seen_[parameter] < backwards_) return;
  --buckets_[bucket_of_[parameter]].left;
  size_t ready = sent_.size();
  while (ready < buckets_.size() && buckets_[ready].left == 0) ++ready;
  send(ready);
}

void Gradients::send(size_t buckets) {
  while (sent_.size() < buckets) sent_.push_back(ranks_.start_sum(buckets_[sent_.size()].flat));
}

std::vector<Tensor>& Gradients::end() {
  if (ranks_.size() > 1) send(buckets_.size());
  for (const auto& wait : sent_) wait();
  return sums_;
}

}  // namespace inoculum
