// Low-rank adapters (Hu et al. 2021) on the linear layers of a transformer, in PEFT's terms.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/random.h"
#include "core/model/declarations.h"

namespace inoculum {

struct LoraConfig {
  int64_t rank = 0;  // 0: no adapter, every parameter is trained
  double alpha = 16;
  bool use_rslora = false;
  bool use_dora = false;
  std::vector<std::string> target_modules = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                             "gate_proj", "up_proj", "down_proj"};

  void fields(Fields& f);
  double scale() const;  // alpha / rank, or alpha / √rank with rsLoRA (Kalajdzievski 2023)
};

// Puts a fresh adapter on every linear layer inside the blocks that is a target, as PEFT matches
// them: its module path is the target or ends in "." + target, or all of it matches the target as a
// regular expression, which any name with other characters than letters, digits, _ and . is;
// "all-linear" is all. A from kaiming_uniform(a = √5), B zero, a magnitude as long as the weight's
// rows, all float32. A target that matches nothing is an Error.
void add_lora(Transformer& model, const LoraConfig& config, Random random);

// The shortest targets that name just the layers with an adapter.
std::vector<std::string> lora_targets(Transformer& model);

// Makes adapters ready for forward passes without gradients, which then compute what training does.
// Neither they nor the weights may change behind it; training and Transformer::to undo it.
void ready_lora(Transformer& model);

// What training changes, with the names of a checkpoint of it: the adapters where there are some,
// else every parameter.
void for_each_trained(Transformer& model,
                      const std::function<void(const std::string&, Tensor&)>& visit);

// The Frobenius norm of what all adapters together add to the weights.
double lora_update_norm(Transformer& model);

// Adds every adapter's update to its layer's weight and removes the adapter. Returns what rounding
// to the type `stored` takes of the update, by default to that of the weights: the norm of the
// rounding over the norm of the update.
double merge_lora(Transformer& model, std::optional<at::ScalarType> stored = {});

}  // namespace inoculum
