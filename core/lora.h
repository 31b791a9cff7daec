// Low-rank adapters (Hu et al. 2021) on the linear layers of a transformer, in PEFT's terms.
#pragma once

#include <string>
#include <vector>

#include "core/config.h"
#include "core/transformer.h"

namespace inoculum {

struct LoraConfig {
  int64_t rank = 0;  // 0: no adapter, every parameter is trained
  double alpha = 16;
  bool use_rslora = false;
  std::vector<std::string> target_modules = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

  void fields(Fields& f);
  double scale() const;  // alpha / rank, or alpha / √rank with rsLoRA (Kalajdzievski 2023)
};

// Puts a fresh adapter on every linear layer whose module path is a target or ends in "." + target, as PEFT
// matches a list: A from kaiming_uniform(a = √5), B zero, float32. A target that matches nothing is an Error.
void add_lora(Transformer& model, const LoraConfig& config, Random random);

// Adds every adapter's update to its layer's weight and removes the adapter.
void merge_lora(Transformer& model);

}  // namespace inoculum
