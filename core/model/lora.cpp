#include "core/model/lora.h"

#include <algorithm>
#include <cmath>
#include <regex>
#include <set>

#include "core/base/error.h"
#include "core/model/transformer.h"

namespace inoculum {

void LoraConfig::fields(Fields& f) {
  f.value("rank", rank, "rank of the update; 0 trains every parameter instead", at_least(0));
  f.value("alpha", alpha, "the update is scaled by alpha / rank", at_least(0));
  f.value("use_rslora", use_rslora, "scale by alpha / sqrt(rank)");
  f.value("use_dora", use_dora, "train the length of each row of the weight by itself (DoRA)");
  f.value("target_modules", target_modules,
          "linear layers that get an adapter: ends of their paths, a regular expression, or "
          "all-linear");
  for (const char* name : {"r", "lora_r"}) f.elsewhere(name, "lora.rank is PEFT's r");
  f.elsewhere("lora_alpha", "lora.alpha is PEFT's lora_alpha");
  f.elsewhere("lora_dropout", "there is none: adapters are trained without dropout");
}

double LoraConfig::scale() const {
  const auto r = static_cast<double>(rank);
  return alpha / (use_rslora ? std::sqrt(r) : r);
}

namespace {

double square(const Tensor& x) { return x.square().sum(at::kDouble).item<double>(); }

// In float32.
Tensor merged_weight(const Linear& linear) {
  Tensor merged =
      linear.weight.to(at::kFloat) + at::mm(linear.lora->b, linear.lora->a) * linear.lora->scale;
  if (!linear.lora->magnitude.defined()) return merged;
  return merged * (linear.lora->magnitude / merged.norm(2, {1})).unsqueeze(1);
}

bool is_pattern(const std::string& target) {
  return target.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") !=
         std::string::npos;
}

bool matches(const std::string& path, const std::string& target) {
  if (target == "all-linear" || path == target || path.ends_with("." + target)) return true;
  if (!is_pattern(target)) return false;
  try {
    return std::regex_match(path, std::regex(target));
  } catch (const std::regex_error& failure) {
    throw Error("\"" + target + "\" is not a regular expression: " + failure.what(),
                {.field = "lora.target_modules"});
  }
}

}  // namespace

void add_lora(Transformer& model, const LoraConfig& config, Random random) {
  if (config.target_modules.empty())
    throw Error("names no layer to put an adapter on", {.field = "lora.target_modules"},
                "all-linear, or lora.rank 0 to train every parameter");
  std::set<std::string> matched;
  std::vector<std::string> known;
  model.for_each_linear([&](const std::string& path, Linear& linear) {
    known.push_back(path.substr(path.rfind('.') + 1));
    bool wanted = false;
    for (const std::string& target : config.target_modules)
      if (matches(path, target)) wanted = true, matched.insert(target);
    if (!wanted) return;
    const int64_t out = linear.weight.size(0), in = linear.weight.size(1);
    Tensor a = at::empty({config.rank, in}, at::kFloat);
    Random stream = random.fork(path);
    const double bound = 1 / std::sqrt(static_cast<double>(in));  // kaiming_uniform with a = √5
    for (int64_t i = 0; i < a.numel(); ++i)
      a.data_ptr<float>()[i] = static_cast<float>(bound * (2 * stream.uniform() - 1));
    linear.lora =
        LoraWeights{a.to(linear.weight.device()),
                    at::zeros({out, config.rank},
                              linear.weight.options().dtype(at::kFloat).requires_grad(false)),
                    config.scale()};
    if (config.use_dora) linear.lora->magnitude = linear.lora->row_lengths(linear.weight);
  });
  for (const std::string& target : config.target_modules)
    if (!matched.contains(target))
      throw Error("\"" + target + "\" is no linear layer of this model",
                  {.field = "lora.target_modules"},
                  is_pattern(target) ? "a regular expression must match a whole path, such as "
                                       "model.layers.0.self_attn.q_proj"
                                     : did_you_mean(target, known));
}

std::vector<std::string> lora_targets(Transformer& model) {
  std::vector<std::string> with, without, targets;
  model.for_each_linear([&](const std::string& path, Linear& linear) {
    (linear.lora ? with : without).push_back(path);
  });
  for (const std::string& path : with) {
    std::string target = path;
    for (size_t dot = path.rfind('.'); dot != std::string::npos;
         dot = dot > 0 ? path.rfind('.', dot - 1) : std::string::npos) {
      const std::string end = path.substr(dot + 1);
      if (std::any_of(without.begin(), without.end(),
                      [&](const std::string& other) { return other.ends_with("." + end); }))
        continue;
      target = end;
      break;
    }
    if (std::find(targets.begin(), targets.end(), target) == targets.end())
      targets.push_back(target);
  }
  return targets;
}

void ready_lora(Transformer& model) {
  const at::NoGradGuard no_grad;
  model.for_each_linear([](const std::string&, Linear& linear) {
    if (!linear.lora) return;
    LoraWeights& lora = *linear.lora;
    lora.ready = {low_rank(lora.a, lora.b, lora.scale, linear.weight), lora.gain(linear.weight)};
  });
}

void for_each_trained(Transformer& model,
                      const std::function<void(const std::string&, Tensor&)>& visit) {
  bool adapted = false;
  model.for_each_linear([&](const std::string& path, Linear& linear) {
    if (!linear.lora) return;
    adapted = true;
    linear.lora->ready.reset();
    visit(path + ".lora_A", linear.lora->a);
    visit(path + ".lora_B", linear.lora->b);
    if (linear.lora->magnitude.defined())
      visit(path + ".lora_magnitude_vector", linear.lora->magnitude);
  });
  if (!adapted) model.for_each_parameter(visit);
}

double lora_update_norm(Transformer& model) {
  const at::NoGradGuard no_grad;
  double squares = 0;
  model.for_each_linear([&](const std::string&, Linear& linear) {
    if (linear.lora) squares += square(merged_weight(linear) - linear.weight.to(at::kFloat));
  });
  return std::sqrt(squares);
}

double merge_lora(Transformer& model, std::optional<at::ScalarType> stored) {
  const at::NoGradGuard no_grad;
  double rounded = 0, whole = 0;  // sums of squares
  model.for_each_linear([&](const std::string&, Linear& linear) {
    if (!linear.lora) return;
    const at::ScalarType type = linear.weight.scalar_type();
    const Tensor base = linear.weight.to(at::kFloat), merged = merged_weight(linear);
    linear.weight = merged.to(type);
    linear.pack = {};
    rounded += square(linear.weight.to(stored.value_or(type)).to(at::kFloat) - merged);
    whole += square(merged - base);
    linear.lora.reset();
  });
  return whole > 0 ? std::sqrt(rounded / whole) : 0;
}

}  // namespace inoculum
