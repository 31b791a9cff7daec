#include "core/checkpoint.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"
#include "core/families.h"
#include "core/kernels.h"
#include "core/safetensors.h"

namespace inoculum {
namespace {

const std::vector<std::pair<std::string, at::ScalarType>> kTypes = {
    {"F32", at::kFloat}, {"BF16", at::kBFloat16}, {"F16", at::kHalf}, {"F64", at::kDouble}, {"I64", at::kLong}};

std::string type_name(at::ScalarType type) {
  for (const auto& [name, known] : kTypes)
    if (known == type) return name;
  throw Error("tensors of type " + std::string(c10::toString(type)) + " cannot be saved");
}

// A view of the mapped file, which stays mapped as long as it is there.
Tensor view(const std::shared_ptr<const Safetensors>& file, const std::string& name) {
  const TensorView& source = file->tensors().at(name);
  for (const auto& [type, scalar] : kTypes)
    if (type == source.dtype)
      return at::from_blob(const_cast<std::byte*>(source.data.data()), source.shape, [file](void*) {}, at::TensorOptions(scalar));
  throw Error("tensor \"" + name + "\" has the unsupported type " + source.dtype, {.file = file->path().string()},
              "weights may be F32, BF16 or F16; quantised weights are not supported");
}

// The rows of a fused projection from [head, (q, k, v), head_dim] to [(q, k, v), head, head_dim], or back.
Tensor reorder_qkv(const Tensor& rows, int64_t heads, bool to_ours) {
  std::vector<int64_t> shape = {to_ours ? heads : 3, to_ours ? 3 : heads, rows.size(0) / (3 * heads)};
  if (rows.dim() > 1) shape.push_back(rows.size(1));
  return rows.reshape(shape).transpose(0, 1).reshape(rows.sizes());
}

template <class T>
T get(const Json& json, const std::string& key, const fs::path& file) {
  if (!json.contains(key)) throw Error("is missing", {.file = file.string(), .field = key});
  try {
    return json.at(key).get<T>();
  } catch (const Json::exception&) {
    throw Error("has the wrong type: " + json.at(key).dump(), {.file = file.string(), .field = key});
  }
}

template <class T>
T get_or(const Json& json, const std::string& key, T fallback, const fs::path& file) {
  return json.contains(key) && !json.at(key).is_null() ? get<T>(json, key, file) : fallback;
}

// Between the layout of a family's checkpoints and ours, for a parameter of the given name.
class Layout {
 public:
  explicit Layout(Transformer& model) : config_(model.config()), family_(family(config_.family)) {
    if (family_.transposed || family_.interleaved_qkv)
      model.for_each_linear([&](const std::string& path, Linear&) { linears_.insert(path); });
  }
  Tensor convert(const std::string& name, Tensor x, bool to_ours) const {
    const std::string path = name.substr(0, name.rfind('.'));
    if (!linears_.contains(path)) return x;
    if (family_.interleaved_qkv && path.ends_with(family_.names.qkv)) x = reorder_qkv(x, config_.num_attention_heads, to_ours);
    return family_.transposed && x.dim() == 2 ? x.t() : x;
  }
  // What has a row for each output of the layer: an adapter's lora_B, its magnitudes.
  Tensor convert_rows(const std::string& path, const Tensor& x, bool to_ours) const {
    return family_.interleaved_qkv && path.ends_with(family_.names.qkv) ? reorder_qkv(x, config_.num_attention_heads, to_ours) : x;
  }
  const Family& kin() const { return family_; }

 private:
  const TransformerConfig& config_;
  const Family& family_;
  std::set<std::string> linears_;
};

std::string shape_text(at::IntArrayRef sizes) {
  std::string text = "[";
  for (const int64_t size : sizes) (text += text.size() > 1 ? ", " : "") += std::to_string(size);
  return text += "]";
}

}  // namespace

void save_tensors(const fs::path& file, const std::vector<NamedTensor>& tensors) {
  std::vector<Tensor> kept;
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    const Tensor& plain = kept.emplace_back(tensor.detach().to(at::kCPU).contiguous());
    views[name] = {type_name(plain.scalar_type()), plain.sizes().vec(), {static_cast<const std::byte*>(plain.const_data_ptr()), plain.nbytes()}};
  }
  write_safetensors(file, views);
}

std::vector<NamedTensor> load_tensors(const fs::path& file) {
  const auto source = std::make_shared<const Safetensors>(file);
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : source->tensors()) tensors.push_back({name, view(source, name).clone()});
  return tensors;
}

Json transformer_config_to_json(const TransformerConfig& c, at::ScalarType dtype, const Tokenizer* tokenizer) {
  const Family& kin = family(c.family);
  Json json = {{"architectures", {kin.architecture}}, {"model_type", kin.model_type}, {"vocab_size", c.vocab_size}};
  kin.write(c, json);
  json.update({{"tie_word_embeddings", c.tie_word_embeddings},
               {"initializer_range", c.initializer_range},
               {"torch_dtype", dtype == at::kBFloat16 ? "bfloat16" : dtype == at::kHalf ? "float16" : "float32"}});
  if (tokenizer) {
    json["bos_token_id"] = tokenizer->bos_id();
    json["eos_token_id"] = tokenizer->eos_id();
  }
  if (show(transformer_config_from_json(json, "config.json")) != show(c))
    throw Error("this configuration is not one of the family " + c.family + ", so it cannot be written as one", {.field = "model"}, "choose the switches as that family has them");
  return json;
}

Transformer load_model(const fs::path& folder, at::ScalarType dtype, at::Device device) {
  if (!fs::is_directory(folder))
    throw Error("there is no model folder here", {.file = folder.string()}, "a model is a folder with config.json and model.safetensors");
  const fs::path config_file = folder / "config.json";
  Transformer model(transformer_config_from_json(read_json(config_file), config_file));
  const Layout layout(model);
  const Family& kin = layout.kin();
  struct Stored {
    std::shared_ptr<const Safetensors> file;
    std::string name;
  };
  std::map<std::string, Stored> found;  // by the name in full
  for (const auto& shard : load_sharded(folder))
    for (const auto& [name, tensor] : shard->tensors()) {
      const bool whole = name.starts_with(kin.optional_prefix) || name.starts_with(kin.names.head + ".");
      found[whole ? name : kin.optional_prefix + name] = {shard, name};
    }
  model.for_each_parameter([&](const std::string& name, Tensor& parameter) {
    const auto it = found.find(name);
    if (it == found.end())
      throw Error("the tensor \"" + name + "\" is missing", {.file = folder.string()}, "config.json and the weights do not belong together");
    const auto& [file, stored] = it->second;
    Tensor tensor = layout.convert(name, view(file, stored), true);
    if (tensor.sizes() != parameter.sizes())
      throw Error("the tensor \"" + stored + "\" has the shape " + shape_text(tensor.sizes()) + " where config.json calls for " +
                      shape_text(parameter.sizes()), {.file = file->path().string()});
    // As it lies in the file, if it can stay there: then processes that load one model share its memory.
    const auto address = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
    const bool aligned = address % static_cast<uintptr_t>(tensor.element_size()) == 0;
    if (!aligned) tensor = tensor.clone();
    parameter = tensor.to(at::TensorOptions(device).dtype(dtype)).contiguous();
    if (!all_finite(parameter)) throw Error("the tensor \"" + stored + "\" holds values that are not finite", {.file = file->path().string()});
    found.erase(it);
  });
  // A tied head may be stored a second time; a leftover of any other name means another model.
  if (model.config().tie_word_embeddings) found.erase(kin.names.head + ".weight");
  for (const auto& [name, source] : found)
    if (std::none_of(kin.buffers.begin(), kin.buffers.end(),
                     [&stored = name](const std::string& end) { return stored.ends_with(end); }))
      throw Error("the tensor \"" + source.name + "\" has no place in this model", {.file = source.file->path().string()});
  model.to(device, dtype);
  return model;
}

void check_vocabulary(const Transformer& model, const Tokenizer& tokenizer) {
  if (tokenizer.vocab_size() > model.config().vocab_size)
    throw Error("the tokenizer has " + std::to_string(tokenizer.vocab_size()) + " pieces but the model only " + std::to_string(model.config().vocab_size), {},
                "the tokenizer and the model do not belong together");
}

void save_model(const fs::path& folder, Transformer& model, const Tokenizer* tokenizer, at::ScalarType dtype) {
  replace_atomically(folder, [&](const fs::path& temporary) {
    fs::create_directories(temporary);
    const Layout layout(model);
    std::vector<NamedTensor> tensors;
    model.for_each_parameter([&](const std::string& name, Tensor& parameter) {
      tensors.push_back({name, layout.convert(name, parameter.detach().to(at::kCPU).to(dtype), false)});
    });
    save_tensors(temporary / "model.safetensors", tensors);
    write_json(temporary / "config.json", transformer_config_to_json(model.config(), dtype, tokenizer));
    Json generation = {{"do_sample", true}, {"temperature", 1.0}};
    if (tokenizer) {
      generation["bos_token_id"] = tokenizer->bos_id();
      generation["eos_token_id"] = tokenizer->eos_id();
      tokenizer->save(temporary);
    }
    write_json(temporary / "generation_config.json", generation);
  });
}

void save_adapter(const fs::path& folder, Transformer& model, const LoraConfig& lora, const std::string& base) {
  replace_atomically(folder, [&](const fs::path& temporary) {
    fs::create_directories(temporary);
    const Layout layout(model);
    std::vector<NamedTensor> tensors;
    model.for_each_linear([&](const std::string& path, Linear& linear) {
      if (!linear.lora) return;
      const std::string prefix = "base_model.model." + path + ".lora_";
      tensors.push_back({prefix + "A.weight", linear.lora->a});
      tensors.push_back({prefix + "B.weight", layout.convert_rows(path, linear.lora->b, false)});
      if (linear.lora->magnitude.defined()) tensors.push_back({prefix + "magnitude_vector", layout.convert_rows(path, linear.lora->magnitude, false)});
    });
    save_tensors(temporary / "adapter_model.safetensors", tensors);
    write_json(temporary / "adapter_config.json", {{"peft_type", "LORA"},
                                                   {"task_type", "CAUSAL_LM"},
                                                   {"base_model_name_or_path", base},
                                                   {"r", lora.rank},
                                                   {"lora_alpha", lora.alpha},
                                                   {"lora_dropout", 0.0},
                                                   {"use_rslora", lora.use_rslora},
                                                   {"use_dora", lora.use_dora},
                                                   {"target_modules", lora_targets(model)},
                                                   {"bias", "none"},
                                                   {"fan_in_fan_out", layout.kin().transposed},
                                                   {"inference_mode", true}});
  });
}

LoraConfig load_adapter(const fs::path& folder, Transformer& model) {
  const fs::path config_file = folder / "adapter_config.json", weights = folder / "adapter_model.safetensors";
  const Json json = read_json(config_file);
  const auto refuse = [&](const std::string& field, const std::string& what, const std::string& hint = "") {
    throw Error(what, {.file = config_file.string(), .field = field}, hint);
  };
  if (get<std::string>(json, "peft_type", config_file) != "LORA") refuse("peft_type", "only LORA adapters are supported");
  if (get_or<std::string>(json, "bias", "none", config_file) != "none") refuse("bias", "trained biases are not supported");
  for (const std::string key : {"modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters", "rank_pattern", "alpha_pattern", "megatron_config",
                                "corda_config", "eva_config", "arrow_config", "alora_invocation_tokens", "lora_bias", "use_qalora"})
    if (json.contains(key) && !json[key].is_null() && !json[key].empty() && json[key] != false) refuse(key, "is not supported", "merge the adapter with PEFT, and load the merged model");
  LoraConfig lora;
  lora.rank = get<int64_t>(json, "r", config_file);
  if (lora.rank < 1) refuse("r", "must be at least 1");
  lora.alpha = get<double>(json, "lora_alpha", config_file);
  lora.use_rslora = get_or(json, "use_rslora", false, config_file);
  lora.use_dora = get_or(json, "use_dora", false, config_file);
  std::map<std::string, Tensor> found;
  for (const auto& [name, tensor] : load_tensors(weights)) found[name] = tensor;
  if (found.empty()) throw Error("the adapter holds no tensors", {.file = weights.string()});
  const Layout layout(model);
  model.for_each_linear([&](const std::string& path, Linear& linear) {
    const std::string prefix = "base_model.model." + path + ".lora_";
    if (!found.contains(prefix + "A.weight") && !found.contains(prefix + "B.weight")) return;
    const auto take = [&](const std::string& end, const std::vector<int64_t>& shape) {
      const auto it = found.find(prefix + end);
      if (it == found.end()) throw Error("the tensor \"" + prefix + end + "\" is missing", {.file = weights.string()});
      if (it->second.sizes() != shape)
        throw Error("the tensor \"" + prefix + end + "\" has the shape " + shape_text(it->second.sizes()) + ", and the base model's layer calls for " + shape_text(shape),
                    {.file = weights.string()}, "was the adapter trained on another base?");
      Tensor tensor = it->second.to(at::TensorOptions(linear.weight.device()).dtype(at::kFloat));
      if (!all_finite(tensor)) throw Error("the tensor \"" + prefix + end + "\" holds values that are not finite", {.file = weights.string()});
      found.erase(it);
      return tensor;
    };
    const int64_t out = linear.weight.size(0);
    linear.lora = LoraWeights{take("A.weight", {lora.rank, linear.weight.size(1)}), layout.convert_rows(path, take("B.weight", {out, lora.rank}), true), lora.scale()};
    if (lora.use_dora) linear.lora->magnitude = layout.convert_rows(path, take("magnitude_vector", {out}), true);
  });
  if (!found.empty())
    throw Error("the tensor \"" + found.begin()->first + "\" has no place in the base model", {.file = weights.string()},
                "was the adapter trained on another base?");
  lora.target_modules = lora_targets(model);
  ready_lora(model);
  return lora;
}

}  // namespace inoculum
