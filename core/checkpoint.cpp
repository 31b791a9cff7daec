#include "core/checkpoint.h"

#include <cstring>
#include <map>

#include "core/error.h"
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

// A view of the mapped file, valid while the file is open.
Tensor view(const TensorView& source, const std::string& name, const fs::path& file) {
  for (const auto& [type, scalar] : kTypes)
    if (type == source.dtype)
      return at::from_blob(const_cast<std::byte*>(source.data.data()), source.shape, at::TensorOptions(scalar));
  throw Error("tensor \"" + name + "\" has the unsupported type " + source.dtype, {.file = file.string()},
              "weights may be F32, BF16 or F16; quantised weights are not supported");
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

std::vector<std::byte> bytes_of(const Tensor& tensor) {
  const Tensor plain = tensor.detach().to(at::kCPU).contiguous();
  std::vector<std::byte> bytes(static_cast<size_t>(plain.numel()) * plain.element_size());
  std::memcpy(bytes.data(), plain.data_ptr(), bytes.size());
  return bytes;
}

}  // namespace

void save_tensors(const fs::path& file, const std::vector<NamedTensor>& tensors) {
  std::vector<std::vector<std::byte>> storage;
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    storage.push_back(bytes_of(tensor));
    views[name] = {type_name(tensor.scalar_type()), tensor.sizes().vec(), storage.back()};
  }
  write_safetensors(file, views);
}

std::vector<NamedTensor> load_tensors(const fs::path& file) {
  const Safetensors source(file);
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : source.tensors()) tensors.push_back({name, view(tensor, name, file).clone()});
  return tensors;
}

TransformerConfig transformer_config_from_json(const Json& json, const fs::path& file) {
  const auto type = get<std::string>(json, "model_type", file);
  if (type != "llama")
    throw Error("the family \"" + type + "\" is not supported", {.file = file.string(), .field = "model_type"},
                "this version reads Llama checkpoints");
  TransformerConfig c;
  c.vocab_size = get<int64_t>(json, "vocab_size", file);
  c.hidden_size = get<int64_t>(json, "hidden_size", file);
  c.intermediate_size = get<int64_t>(json, "intermediate_size", file);
  c.num_hidden_layers = get<int64_t>(json, "num_hidden_layers", file);
  c.num_attention_heads = get<int64_t>(json, "num_attention_heads", file);
  c.num_key_value_heads = get_or(json, "num_key_value_heads", c.num_attention_heads, file);
  c.head_dim = get_or(json, "head_dim", c.hidden_size / c.num_attention_heads, file);
  c.max_position_embeddings = get_or<int64_t>(json, "max_position_embeddings", 2048, file);
  c.norm_eps = get_or(json, "rms_norm_eps", 1e-6, file);
  c.tie_word_embeddings = get_or(json, "tie_word_embeddings", false, file);
  c.attention_bias = c.attention_output_bias = get_or(json, "attention_bias", false, file);
  c.mlp_bias = get_or(json, "mlp_bias", false, file);
  c.initializer_range = get_or(json, "initializer_range", 0.02, file);
  const auto act = get_or<std::string>(json, "hidden_act", "silu", file);
  const std::map<std::string, std::string> activations = {
      {"silu", "silu"}, {"swish", "silu"}, {"gelu", "gelu"}, {"gelu_pytorch_tanh", "gelu_tanh"}, {"relu", "relu"}};
  if (!activations.contains(act))
    throw Error("the activation \"" + act + "\" is not supported", {.file = file.string(), .field = "hidden_act"});
  c.hidden_act = activations.at(act);
  // Newer files keep the rotary settings in `rope_parameters`, older ones beside the rest and in `rope_scaling`.
  c.rope_theta = get_or(json, "rope_theta", 10000.0, file);
  for (const std::string key : {"rope_scaling", "rope_parameters"}) {
    if (!json.contains(key) || json.at(key).is_null()) continue;
    const Json& rope = json.at(key);
    c.rope_theta = get_or(rope, "rope_theta", c.rope_theta, file);
    const auto kind = get_or(rope, "rope_type", get_or<std::string>(rope, "type", "default", file), file);
    if (kind != "default")
      throw Error("rotary scaling of the type \"" + kind + "\" is not supported",
                  {.file = file.string(), .field = key + ".rope_type"}, "this version knows \"default\"");
  }
  if (json.contains("quantization_config"))
    throw Error("quantised weights are not supported", {.file = file.string(), .field = "quantization_config"});
  c.check();
  return c;
}

Json transformer_config_to_json(const TransformerConfig& c, at::ScalarType dtype, const Tokenizer* tokenizer) {
  const std::map<std::string, std::string> activations = {{"silu", "silu"}, {"gelu", "gelu"}, {"gelu_tanh", "gelu_pytorch_tanh"}, {"relu", "relu"}};
  if (c.norm != "rms" || !c.gated_mlp || c.attention_bias != c.attention_output_bias)
    throw Error("this configuration is not a Llama model, so it cannot be written as one");
  Json json = {{"architectures", {"LlamaForCausalLM"}},
               {"model_type", "llama"},
               {"vocab_size", c.vocab_size},
               {"hidden_size", c.hidden_size},
               {"intermediate_size", c.intermediate_size},
               {"num_hidden_layers", c.num_hidden_layers},
               {"num_attention_heads", c.num_attention_heads},
               {"num_key_value_heads", c.num_key_value_heads},
               {"head_dim", c.head_dim},
               {"max_position_embeddings", c.max_position_embeddings},
               {"rms_norm_eps", c.norm_eps},
               {"rope_theta", c.rope_theta},
               {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", c.rope_theta}}},
               {"hidden_act", activations.at(c.hidden_act)},
               {"tie_word_embeddings", c.tie_word_embeddings},
               {"attention_bias", c.attention_bias},
               {"mlp_bias", c.mlp_bias},
               {"initializer_range", c.initializer_range},
               {"torch_dtype", dtype == at::kBFloat16 ? "bfloat16" : dtype == at::kHalf ? "float16" : "float32"}};
  if (tokenizer) {
    json["bos_token_id"] = tokenizer->bos_id();
    json["eos_token_id"] = tokenizer->eos_id();
  }
  return json;
}

Transformer load_model(const fs::path& folder, at::ScalarType dtype, at::Device device) {
  if (!fs::is_directory(folder))
    throw Error("there is no model folder here", {.file = folder.string()}, "a model is a folder with config.json and model.safetensors");
  const fs::path config_file = folder / "config.json";
  Transformer model(transformer_config_from_json(read_json(config_file), config_file));
  const auto shards = load_sharded(folder);
  std::map<std::string, std::pair<const TensorView*, fs::path>> found;
  for (const auto& shard : shards)
    for (const auto& [name, tensor] : shard->tensors()) found[name] = {&tensor, shard->path()};
  model.for_each_parameter([&](const std::string& name, Tensor& parameter) {
    const auto it = found.find(name);
    if (it == found.end())
      throw Error("the tensor \"" + name + "\" is missing", {.file = folder.string()}, "config.json and the weights do not belong together");
    const auto& [source, file] = it->second;
    const Tensor tensor = view(*source, name, file);
    const auto shape = [](at::IntArrayRef sizes) {
      std::string text = "[";
      for (const int64_t size : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
      return text + "]";
    };
    if (tensor.sizes() != parameter.sizes())
      throw Error("the tensor \"" + name + "\" has the shape " + shape(tensor.sizes()) + " where config.json calls for " +
                      shape(parameter.sizes()), {.file = file.string()});
    parameter = tensor.to(at::TensorOptions(device).dtype(dtype), false, /*copy=*/true);
    if (!parameter.isfinite().all().item<bool>())
      throw Error("the tensor \"" + name + "\" holds values that are not finite", {.file = file.string()});
    found.erase(it);
  });
  // A tied head may be stored a second time; a leftover of any other name means another model.
  if (model.config().tie_word_embeddings) found.erase("lm_head.weight");
  for (const auto& [name, source] : found)
    if (!name.ends_with("rotary_emb.inv_freq"))
      throw Error("the tensor \"" + name + "\" has no place in this model", {.file = source.second.string()});
  model.to(device, dtype);
  return model;
}

void save_model(const fs::path& folder, Transformer& model, const Tokenizer* tokenizer, at::ScalarType dtype) {
  replace_atomically(folder, [&](const fs::path& temporary) {
    fs::create_directories(temporary);
    std::vector<NamedTensor> tensors;
    model.for_each_parameter([&](const std::string& name, Tensor& parameter) {
      tensors.push_back({name, parameter.detach().to(at::kCPU).to(dtype)});
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
    std::vector<NamedTensor> tensors;
    model.for_each_linear([&](const std::string& path, Linear& linear) {
      if (!linear.lora) return;
      tensors.push_back({"base_model.model." + path + ".lora_A.weight", linear.lora->a});
      tensors.push_back({"base_model.model." + path + ".lora_B.weight", linear.lora->b});
    });
    save_tensors(temporary / "adapter_model.safetensors", tensors);
    write_json(temporary / "adapter_config.json", {{"peft_type", "LORA"},
                                                   {"task_type", "CAUSAL_LM"},
                                                   {"base_model_name_or_path", base},
                                                   {"r", lora.rank},
                                                   {"lora_alpha", lora.alpha},
                                                   {"lora_dropout", 0.0},
                                                   {"use_rslora", lora.use_rslora},
                                                   {"target_modules", lora.target_modules},
                                                   {"bias", "none"},
                                                   {"fan_in_fan_out", false},
                                                   {"inference_mode", true}});
  });
}

LoraConfig load_adapter(const fs::path& folder, Transformer& model) {
  const fs::path config_file = folder / "adapter_config.json", weights = folder / "adapter_model.safetensors";
  const Json json = read_json(config_file);
  const auto refuse = [&](const std::string& field, const std::string& what) {
    throw Error(what, {.file = config_file.string(), .field = field});
  };
  if (get<std::string>(json, "peft_type", config_file) != "LORA") refuse("peft_type", "only LORA adapters are supported");
  if (get_or(json, "use_dora", false, config_file)) refuse("use_dora", "DoRA is not supported");
  if (get_or<std::string>(json, "bias", "none", config_file) != "none") refuse("bias", "trained biases are not supported");
  if (json.contains("modules_to_save") && !json["modules_to_save"].is_null() && !json["modules_to_save"].empty())
    refuse("modules_to_save", "fully trained modules are not supported");
  for (const std::string key : {"rank_pattern", "alpha_pattern"})
    if (json.contains(key) && !json[key].is_null() && !json[key].empty()) refuse(key, "is not supported");
  LoraConfig lora;
  lora.rank = get<int64_t>(json, "r", config_file);
  lora.alpha = get<double>(json, "lora_alpha", config_file);
  lora.use_rslora = get_or(json, "use_rslora", false, config_file);
  if (json.contains("target_modules") && json["target_modules"].is_array())
    lora.target_modules = json["target_modules"].get<std::vector<std::string>>();
  std::map<std::string, Tensor> found;
  for (const auto& [name, tensor] : load_tensors(weights)) found[name] = tensor;
  if (found.empty()) throw Error("the adapter holds no tensors", {.file = weights.string()});
  model.for_each_linear([&](const std::string& path, Linear& linear) {
    const std::string a = "base_model.model." + path + ".lora_A.weight", b = "base_model.model." + path + ".lora_B.weight";
    if (!found.contains(a) && !found.contains(b)) return;
    const auto take = [&](const std::string& name, std::vector<int64_t> shape) {
      const auto it = found.find(name);
      if (it == found.end()) throw Error("the tensor \"" + name + "\" is missing", {.file = weights.string()});
      if (it->second.sizes() != shape)
        throw Error("the tensor \"" + name + "\" does not fit the base model's layer", {.file = weights.string()},
                    "was the adapter trained on another base?");
      Tensor tensor = it->second.to(at::TensorOptions(linear.weight.device()).dtype(at::kFloat));
      found.erase(it);
      return tensor;
    };
    Tensor down = take(a, {lora.rank, linear.weight.size(1)});
    linear.lora = LoraWeights{down, take(b, {linear.weight.size(0), lora.rank}), lora.scale()};
  });
  if (!found.empty())
    throw Error("the tensor \"" + found.begin()->first + "\" has no place in the base model", {.file = weights.string()},
                "was the adapter trained on another base?");
  return lora;
}

}  // namespace inoculum
