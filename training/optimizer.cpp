#include "training/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/error.h"
#include "core/model/device.h"
#include "core/model/parallel.h"

namespace inoculum {

Optimizer::Optimizer(std::vector<NamedTensor> parameters, OptimizerConfig config)
    : config_(std::move(config)), parameters_(std::move(parameters)) {
  on_cpu_ = parameters_.empty() || parameters_[0].tensor.is_cpu();
  for (const auto& [name, parameter] : parameters_) {
    masters_.push_back(parameter.detach().to(at::kFloat, false, true));
    exp_avgs_.push_back(at::zeros_like(masters_.back()));
    exp_avg_sqs_.push_back(at::zeros_like(masters_.back()));
    steps_.push_back(at::zeros({}, masters_.back().options()));
  }
}

Tensor Optimizer::step(std::vector<Tensor>& gradients, double lr, double divisor) {
  const at::NoGradGuard no_grad;
  const Tensor norm = clip(gradients, divisor);
  adamw(gradients, lr);
  muon(gradients, lr);
  ++step_;
  at::_foreach_zero_(gradients);
  publish();
  return norm;
}

// As torch.nn.utils.clip_grad_norm_.
Tensor Optimizer::clip(std::vector<Tensor>& gradients, double divisor) const {
  const auto count = static_cast<int64_t>(gradients.size());
  std::vector<Tensor> norms(gradients.size());
  if (on_cpu_) {
    parallel(count, [&](int64_t i) {
      norms[static_cast<size_t>(i)] = gradients[static_cast<size_t>(i)].div_(divisor).norm();
    });
  } else {
    at::_foreach_div_(gradients, divisor);
    norms = at::_foreach_norm(gradients);
  }
  const Tensor norm = at::stack(norms).to(at::kDouble).norm();
  if (config_.max_grad_norm <= 0) return norm;
  const Tensor share = (config_.max_grad_norm / (norm + 1e-6)).clamp_max(1).to(at::kFloat);
  if (!on_cpu_) at::_foreach_mul_(gradients, share);
  else if (share.item<float>() < 1)
    parallel(count, [&](int64_t i) { gradients[static_cast<size_t>(i)].mul_(share); });
  return norm;
}

// Matrices of the layers, whose names hold the layer's number in every family: not embeddings, nor
// the output head.
bool Optimizer::is_muon(size_t parameter) const {
  if (config_.name != "muon" || masters_[parameter].dim() != 2) return false;
  const std::string& name = parameters_[parameter].name;
  for (size_t at = 0; (at = name.find('.', at)) != std::string::npos;)
    if (++at < name.size() && name[at] >= '0' && name[at] <= '9') return true;
  return false;
}

void Optimizer::adamw(const std::vector<Tensor>& all_gradients, double lr) {
  struct List {
    std::vector<Tensor> parameters, gradients, exp_avgs, exp_avg_sqs, steps;
  };
  std::vector<std::pair<bool, List>> lists;  // whether they decay
  for (const bool decays : {true, false}) {
    bool open = false;
    for (size_t i = 0; i < masters_.size(); ++i) {
      if (is_muon(i) || (masters_[i].dim() >= 2) != decays) continue;
      if (on_cpu_ || !open) lists.push_back({decays, {}});
      open = true;
      List& list = lists.back().second;
      list.parameters.push_back(masters_[i]);
      list.gradients.push_back(all_gradients[i]);
      list.exp_avgs.push_back(exp_avgs_[i]);
      list.exp_avg_sqs.push_back(exp_avg_sqs_[i]);
      list.steps.push_back(steps_[i]);
    }
  }
  parallel(static_cast<int64_t>(lists.size()), [&](int64_t i) {
    auto& [decays, list] = lists[static_cast<size_t>(i)];
    at::_foreach_add_(list.steps, 1);  // the kernel expects the step counted from 1
    at::_fused_adamw_(list.parameters, list.gradients, list.exp_avgs, list.exp_avg_sqs, {},
                      list.steps, lr, config_.beta1, config_.beta2,
                      decays ? config_.weight_decay : 0.0, config_.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
  });
}

void Optimizer::muon(const std::vector<Tensor>& gradients, double lr) {
  // Matrices of one shape go together: the products of a small model are too small to be worth a
  // call each. Threads share them, a few at a time.
  const size_t together = on_cpu_ ? 4 : masters_.size();
  std::map<std::vector<int64_t>, std::vector<size_t>> by_shape;
  for (size_t i = 0; i < masters_.size(); ++i)
    if (is_muon(i)) by_shape[masters_[i].sizes().vec()].push_back(i);
  std::vector<std::vector<size_t>> groups;
  for (const auto& [shape, all] : by_shape)
    for (size_t i = 0; i < all.size(); ++i) {
      if (i % together == 0) groups.emplace_back();
      groups.back().push_back(all[i]);
    }
  parallel(static_cast<int64_t>(groups.size()), [&](int64_t group) {
    const std::vector<size_t>& members = groups[static_cast<size_t>(group)];
    const auto shape = masters_[members[0]].sizes();
    std::vector<Tensor> updates;
    for (const size_t i : members) {
      exp_avgs_[i].lerp_(gradients[i], 1 - config_.momentum);
      updates.push_back(
          gradients[i].lerp(exp_avgs_[i], config_.momentum));  // Nesterov's look ahead
    }
    // The nearest orthogonal matrix, roughly: five steps of the quintic Newton–Schulz iteration
    // that lifts small singular values fastest, on the wide side, in bfloat16, which it tolerates,
    // or in float where that is quicker.
    const bool tall = shape[0] > shape[1];
    Tensor x = at::stack(updates).to(dtype_from("auto", masters_[0].device()));
    if (tall) x = x.transpose(1, 2).contiguous();  // [matrix, row, column]
    x = x / at::norm(x, 2, {1, 2}, true).clamp_min(1e-7);
    for (int i = 0; i < 5; ++i) {
      const Tensor gram = x.bmm(x.transpose(1, 2));
      x = at::baddbmm(x, at::baddbmm(gram, gram, gram, -4.7750, 2.0315), x, 3.4445, 1);
    }
    if (tall) x = x.transpose(1, 2);
    const double size = 0.2 * std::sqrt(static_cast<double>(std::max(shape[0], shape[1])));
    for (size_t k = 0; k < members.size(); ++k) {
      masters_[members[k]].mul_(1 - lr * config_.weight_decay);
      masters_[members[k]].add_(x[static_cast<int64_t>(k)], -lr * size);
    }
  });
}

void Optimizer::publish() {
  const at::NoGradGuard no_grad;
  if (on_cpu_) {
    parallel(static_cast<int64_t>(parameters_.size()), [&](int64_t i) {
      parameters_[static_cast<size_t>(i)].tensor.copy_(masters_[static_cast<size_t>(i)]);
    });
  } else {
    std::vector<Tensor> tensors;
    for (const NamedTensor& each : parameters_) tensors.push_back(each.tensor);
    at::_foreach_copy_(tensors, masters_);
  }
}

std::vector<NamedTensor> Optimizer::state() const {
  std::vector<NamedTensor> all;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    all.push_back({"master." + parameters_[i].name, masters_[i]});
    all.push_back({"exp_avg." + parameters_[i].name, exp_avgs_[i]});
    all.push_back({"exp_avg_sq." + parameters_[i].name, exp_avg_sqs_[i]});
  }
  all.push_back({"step", at::scalar_tensor(static_cast<double>(step_), at::kFloat)});
  return all;
}

void Optimizer::load(const std::vector<NamedTensor>& state) {
  const at::NoGradGuard no_grad;
  std::map<std::string, Tensor> by_name;
  for (const auto& [name, tensor] : state) by_name[name] = tensor;
  const auto take = [&](const std::string& name, Tensor& to) {
    const auto found = by_name.find(name);
    if (found == by_name.end() || found->second.sizes() != to.sizes())
      throw Error("the checkpoint does not fit this model", {.field = name},
                  "remove the run folder, or name another `output`");
    to.copy_(found->second);
  };
  for (size_t i = 0; i < parameters_.size(); ++i) {
    take("master." + parameters_[i].name, masters_[i]);
    take("exp_avg." + parameters_[i].name, exp_avgs_[i]);
    take("exp_avg_sq." + parameters_[i].name, exp_avg_sqs_[i]);
  }
  Tensor step = at::zeros({});
  take("step", step);
  step_ = static_cast<int64_t>(step.item<float>());
  for (Tensor& each : steps_) each.fill_(static_cast<double>(step_));
  publish();
}

}  // namespace inoculum
