// Models and adapters on disk, in the layouts of Hugging Face and PEFT.
//
//   Transformer model = load_model("experiments/models/persona", at::kFloat, at::kCPU);
//   save_model("out/model", model, *tokenizer, at::kBFloat16);
//
// A folder is written whole or not at all. Loading checks every key and shape: what is missing, left over
// or of another shape is an Error that names the tensor and the file.
#pragma once

#include <string>
#include <vector>

#include "core/files.h"
#include "core/lora.h"
#include "core/tokenizer.h"
#include "core/transformer.h"

namespace inoculum {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

// One safetensors file. Loaded tensors are copies: the file may change afterwards.
void save_tensors(const fs::path& file, const std::vector<NamedTensor>& tensors);
std::vector<NamedTensor> load_tensors(const fs::path& file);

// As config.json of the configuration's family; families.h has the way back.
Json transformer_config_to_json(const TransformerConfig& config, at::ScalarType dtype, const Tokenizer* tokenizer);

// Weights that are in the file's own type on the CPU stay mapped: processes that load one model share its memory.
Transformer load_model(const fs::path& folder, at::ScalarType dtype, at::Device device);
void check_vocabulary(const Transformer& model, const Tokenizer& tokenizer);  // Error where the tokenizer has ids that the model lacks
void save_model(const fs::path& folder, Transformer& model, const Tokenizer* tokenizer, at::ScalarType dtype);

// PEFT's `adapter_config.json` and `adapter_model.safetensors`.
void save_adapter(const fs::path& folder, Transformer& model, const LoraConfig& lora, const std::string& base);
LoraConfig load_adapter(const fs::path& folder, Transformer& model);

}  // namespace inoculum
