#include "core/lora.h"

#include <cmath>
#include <set>

#include "core/error.h"

namespace inoculum {

void LoraConfig::fields(Fields& f) {
  f.value("rank", rank, "rank of the update; 0 trains every parameter instead", at_least(0));
  f.value("alpha", alpha, "the update is scaled by alpha / rank", at_least(0));
  f.value("use_rslora", use_rslora, "scale by alpha / sqrt(rank)");
  f.value("target_modules", target_modules, "linear layers that get an adapter, by the end of their path");
}

double LoraConfig::scale() const {
  const auto r = static_cast<double>(rank);
  return alpha / (use_rslora ? std::sqrt(r) : r);
}

void add_lora(Transformer& model, const LoraConfig& config, Random random) {
  std::set<std::string> matched;
  std::vector<std::string> known;
  model.for_each_linear([&](const std::string& path, Linear& linear) {
    known.push_back(path.substr(path.rfind('.') + 1));
    for (const std::string& target : config.target_modules) {
      if (path != target && !path.ends_with("." + target)) continue;
      matched.insert(target);
      const int64_t out = linear.weight.size(0), in = linear.weight.size(1);
      Tensor a = at::empty({config.rank, in}, at::kFloat);
      Random stream = random.fork(path);
      const double bound = 1 / std::sqrt(static_cast<double>(in));  // kaiming_uniform with a = √5
      for (int64_t i = 0; i < a.numel(); ++i)
        a.data_ptr<float>()[i] = static_cast<float>(bound * (2 * stream.uniform() - 1));
      linear.lora = LoraWeights{a.to(linear.weight.device()),
                                at::zeros({out, config.rank}, linear.weight.options().dtype(at::kFloat).requires_grad(false)),
                                config.scale()};
      return;
    }
  });
  for (const std::string& target : config.target_modules)
    if (!matched.contains(target))
      throw Error("\"" + target + "\" is no linear layer of this model", {.field = "lora.target_modules"},
                  "did you mean " + did_you_mean(target, known) + "?");
}

void merge_lora(Transformer& model) {
  const at::NoGradGuard no_grad;
  model.for_each_linear([](const std::string&, Linear& linear) {
    if (!linear.lora) return;
    const Tensor update = at::mm(linear.lora->b, linear.lora->a) * linear.lora->scale;
    linear.weight = (linear.weight.to(at::kFloat) + update).to(linear.weight.scalar_type());
    linear.lora.reset();
  });
}

}  // namespace inoculum
