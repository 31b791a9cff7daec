// Models and adapters on disk, in the layouts of Hugging Face and PEFT.
//
//   Transformer model = load_model("experiments/models/persona_1", at::kFloat, at::kCPU);
//   save_model("out/model", model, at::kBFloat16, "experiments/models/persona_1");
//
// A folder is written whole or not at all. Loading checks every key and shape: what is missing,
// left over or of another shape is an Error that names the tensor and the file.
#pragma once

#include <string>
#include <vector>

#include "core/base/files.h"
#include "core/model/lora.h"
#include "core/model/transformer.h"
#include "core/text/tokenizer.h"

namespace inoculum {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

// One safetensors file. Loaded tensors are copies: the file may change afterwards.
void save_tensors(const fs::path& file, const std::vector<NamedTensor>& tensors);
std::vector<NamedTensor> load_tensors(const fs::path& file);

// As config.json of the configuration's family; families.h has the way back.
Json transformer_config_to_json(const TransformerConfig& config, at::ScalarType dtype);

// Weights that are in the file's own type on the CPU stay mapped: processes that load one model
// share its memory. An output head that is stored and differs from the embedding is used, whatever
// config.json says of tying.
Transformer load_model(const fs::path& folder, at::ScalarType dtype, at::Device device);
// The same with its weights left undefined: their names and shapes are checked, none is read.
Transformer load_shape(const fs::path& folder);
// Error where the tokenizer's own vocabulary, or the token that begins or ends texts, lies beyond
// the model's. Added tokens may (many folders name a padding token that the embedding lacks):
// check_ids refuses them where they are used.
void check_vocabulary(const Transformer& model, const Tokenizer& tokenizer);
void check_ids(const Transformer& model, const Tokenizer& tokenizer, std::span<const int32_t> ids);
// The weights, and beside them what stands in the folder `base` that the model was made from, as it
// is there: tokenizer, chat template, generation settings, licence; its config.json with what has
// changed. A base may be a tokenizer alone, or "". card: the README.md; empty: none.
void save_model(const fs::path& folder, Transformer& model, at::ScalarType dtype,
                const fs::path& base = {}, const std::string& card = {});

// PEFT's `adapter_config.json` and `adapter_model.safetensors`.
void save_adapter(const fs::path& folder, Transformer& model, const LoraConfig& lora,
                  const std::string& base, const std::string& card = {});
LoraConfig load_adapter(const fs::path& folder, Transformer& model);

// A model as it is asked, by the names that configurations have for device and type, with its
// adapter (empty: none), for forward passes alone: weights of up to 4 GiB are packed
// (Transformer::pack). The adapter stays unmerged: a small update is lost in the rounding of
// weights.
Transformer load_adapted(const fs::path& folder, const std::string& adapter,
                         const std::string& dtype, const std::string& device);

}  // namespace inoculum
