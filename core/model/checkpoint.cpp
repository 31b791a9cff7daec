#include "core/model/checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/model/adapter_config.h"
#include "core/model/device.h"
#include "core/model/families.h"
#include "core/model/kernels.h"
#include "core/model/safetensors.h"
#include "core/text/load_tokenizer.h"

namespace inoculum {
namespace {

const std::vector<std::pair<std::string, at::ScalarType>> kTypes = {{"F32", at::kFloat},
                                                                    {"BF16", at::kBFloat16},
                                                                    {"F16", at::kHalf},
                                                                    {"F64", at::kDouble},
                                                                    {"I64", at::kLong}};

const std::string kNotQuantised =
    "weights may be F32, BF16 or F16; quantised weights are not supported";

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
      return at::from_blob(
          const_cast<std::byte*>(source.data.data()), source.shape, [file](void*) {},
          at::TensorOptions(scalar));
  throw Error("tensor \"" + name + "\" has the unsupported type " + source.dtype,
              {.file = file->path().string()}, kNotQuantised);
}

// The rows of a fused projection from [head, (q, k, v), head_dim] to [(q, k, v), head, head_dim],
// or back.
Tensor reorder_qkv(const Tensor& rows, int64_t heads, bool to_ours) {
  std::vector<int64_t> shape = {to_ours ? heads : 3, to_ours ? 3 : heads,
                                rows.size(0) / (3 * heads)};
  if (rows.dim() > 1) shape.push_back(rows.size(1));
  return rows.reshape(shape).transpose(0, 1).reshape(rows.sizes());
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
    if (family_.interleaved_qkv && path.ends_with(family_.names.qkv))
      x = reorder_qkv(x, config_.num_attention_heads, to_ours);
    return family_.transposed && x.dim() == 2 ? x.t() : x;
  }
  // What has a row for each output of the layer: an adapter's lora_B, its magnitudes.
  Tensor convert_rows(const std::string& path, const Tensor& x, bool to_ours) const {
    return family_.interleaved_qkv && path.ends_with(family_.names.qkv)
               ? reorder_qkv(x, config_.num_attention_heads, to_ours)
               : x;
  }
  const Family& family_entry() const { return family_; }

 private:
  const TransformerConfig& config_;
  const Family& family_;
  std::set<std::string> linears_;
};

struct Stored {
  std::shared_ptr<const Safetensors> file;
  std::string name;
};
using StoredTensors = std::map<std::string, Stored>;  // by the names that the family has for them

// Files of the model without its head lack the first part of the names ("model."); heads have two
// names.
StoredTensors stored_tensors(const fs::path& folder, const ParameterNames& names) {
  const std::string prefix = names.embedding.substr(0, names.embedding.find('.') + 1);
  StoredTensors found;
  for (const auto& shard : load_sharded(folder))
    for (const auto& [name, tensor] : shard->tensors()) {
      const bool head = name.starts_with("lm_head.") || name.starts_with("embed_out.");
      const std::string full = head                       ? names.head + name.substr(name.find('.'))
                               : name.starts_with(prefix) ? name
                                                          : prefix + name;
      if (!found.emplace(full, Stored{shard, name}).second)
        throw Error("the tensor \"" + name + "\" is stored twice",
                    {.file = shard->path().string()});
    }
  return found;
}

// A head that is stored beside `tie_word_embeddings: true` is a copy of the embedding, or a head of
// its own: then it is the model's, as transformers 5 has it. The one matrix of both may also stand
// under the head's name.
void settle_head(TransformerConfig& config, StoredTensors& found, const ParameterNames& names) {
  const auto head = found.find(names.head + ".weight"),
             embedding = found.find(names.embedding + ".weight");
  if (!config.tie_word_embeddings || head == found.end()) return;
  if (embedding == found.end()) {
    found[names.embedding + ".weight"] = head->second;
  } else {
    Tensor a = view(head->second.file, head->second.name),
           b = view(embedding->second.file, embedding->second.name);
    if (a.scalar_type() != b.scalar_type()) a = a.to(at::kFloat), b = b.to(at::kFloat);
    if (!at::equal(a, b)) {
      std::fprintf(stderr,
                   "%s: config.json says tie_word_embeddings, but \"%s\" differs from the "
                   "embedding: it is used as the output head\n",
                   head->second.file->path().c_str(), head->second.name.c_str());
      config.tie_word_embeddings = false;
      return;
    }
  }
  found.erase(names.head + ".weight");
}

Error missing(const std::string& name, const fs::path& folder, const StoredTensors& found,
              const ParameterNames& names) {
  // Quantised layers have their matrix in other tensors: qweight, weight_packed, weight_scale, …
  const std::string path = name.substr(0, name.rfind('.') + 1);
  const auto near = found.lower_bound(path);
  if (name.ends_with(".weight") && near != found.end() && near->first.starts_with(path) &&
      near->first != path + "bias")
    return Error(
        "the tensor \"" + name + "\" is missing, and in its place is \"" + near->second.name + "\"",
        {.file = near->second.file->path().string()}, kNotQuantised);
  return Error("the tensor \"" + name + "\" is missing", {.file = folder.string()},
               name == names.head + ".weight"
                   ? "config.json says tie_word_embeddings: false; set it to true if the embedding "
                     "is the output head too, else the head is lost"
                   : "config.json and the weights do not belong together");
}

// What a base's folder says beside its weights and config.json, byte for byte.
void keep_beside(const fs::path& base, const fs::path& folder) {
  static const std::set<std::string> exact = {
      "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
      "generation_config.json"};
  const auto keep = [&](const fs::path& file) {
    write_file(folder / file.lexically_relative(base), read_file(file));
  };
  for (const auto& entry : fs::directory_iterator(base)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && (exact.contains(name) || name.starts_with("tokenizer") ||
                                    name.starts_with("chat_template") || name.ends_with(".model") ||
                                    name.starts_with("LICENSE") || name.starts_with("NOTICE") ||
                                    name.starts_with("USE_POLICY")))
      keep(entry.path());
    if (entry.is_directory() && name == "additional_chat_templates")
      for (const auto& inner : fs::directory_iterator(entry.path()))
        if (inner.is_regular_file()) keep(inner.path());
  }
}

Json id_or_null(int32_t id) { return id < 0 ? Json() : Json(id); }

std::string shape_text(at::IntArrayRef sizes) {
  std::string text = "[";
  for (const int64_t size : sizes) (text += text.size() > 1 ? ", " : "") += std::to_string(size);
  return text += "]";
}

// The folder's model; take(parameter, tensor, from) for each parameter and what is stored for it,
// of its name and shape.
Transformer matched(const fs::path& folder,
                    const std::function<void(Tensor&, Tensor, const Stored&)>& take) {
  if (!fs::is_directory(folder))
    throw Error("there is no model folder here", {.file = folder.string()},
                "a model is a folder with config.json and model.safetensors");
  const fs::path config_file = folder / "config.json";
  TransformerConfig config = transformer_config_from_json(read_json(config_file), config_file);
  const ParameterNames& names = family(config.family).names;
  StoredTensors found = stored_tensors(folder, names);
  settle_head(config, found, names);
  Transformer model(config);
  const Layout layout(model);
  model.for_each_parameter([&](const std::string& name, Tensor& parameter) {
    const auto it = found.find(name);
    if (it == found.end()) throw missing(name, folder, found, names);
    const auto& [file, stored] = it->second;
    Tensor tensor = layout.convert(name, view(file, stored), true);
    if (!tensor.is_floating_point())
      throw Error("the tensor \"" + stored + "\" holds whole numbers",
                  {.file = file->path().string()}, kNotQuantised);
    if (tensor.sizes() != parameter.sizes())
      throw Error("the tensor \"" + stored + "\" has the shape " + shape_text(tensor.sizes()) +
                      " where config.json calls for " + shape_text(parameter.sizes()),
                  {.file = file->path().string()});
    take(parameter, std::move(tensor), it->second);
    found.erase(it);
  });
  // A leftover means another model.
  const std::vector<std::string>& buffers = layout.family_entry().buffers;
  for (const auto& [name, source] : found)
    if (std::none_of(buffers.begin(), buffers.end(),
                     [&stored = name](const std::string& end) { return stored.ends_with(end); }))
      throw Error("the tensor \"" + source.name + "\" has no place in this model",
                  {.file = source.file->path().string()});
  return model;
}

}  // namespace

void save_tensors(const fs::path& file, const std::vector<NamedTensor>& tensors) {
  std::vector<Tensor> kept;
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    const Tensor& plain = kept.emplace_back(tensor.detach().to(at::kCPU).contiguous());
    views[name] = {type_name(plain.scalar_type()),
                   plain.sizes().vec(),
                   {static_cast<const std::byte*>(plain.const_data_ptr()), plain.nbytes()}};
  }
  write_safetensors(file, views);
}

std::vector<NamedTensor> load_tensors(const fs::path& file) {
  const auto source = std::make_shared<const Safetensors>(file);
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : source->tensors())
    tensors.push_back({name, view(source, name).clone()});
  return tensors;
}

Json transformer_config_to_json(const TransformerConfig& c, at::ScalarType dtype) {
  const Family& entry = family(c.family);
  Json json = {{"architectures", {entry.architecture}},
               {"model_type", entry.model_type},
               {"vocab_size", c.vocab_size}};
  entry.write(c, json);
  json.update({{"tie_word_embeddings", c.tie_word_embeddings},
               {"initializer_range", c.initializer_range},
               {"torch_dtype", dtype == at::kBFloat16 ? "bfloat16"
                               : dtype == at::kHalf   ? "float16"
                                                      : "float32"}});
  if (show(transformer_config_from_json(json, "config.json")) != show(c))
    throw Error("this configuration is not one of the family " + c.family +
                    ", so it cannot be written as one",
                {.field = "model"}, "choose the switches as that family has them");
  return json;
}

Transformer load_model(const fs::path& folder, at::ScalarType dtype, at::Device device) {
  Transformer model = matched(folder, [&](Tensor& parameter, Tensor tensor, const Stored& from) {
    // As it lies in the file, if it can stay there: then processes that load one model share its
    // memory.
    const auto address = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
    const bool aligned = address % static_cast<uintptr_t>(tensor.element_size()) == 0;
    if (!aligned) tensor = tensor.clone();
    parameter = tensor.to(at::TensorOptions(device).dtype(dtype)).contiguous();
    if (!all_finite(parameter))
      throw Error("the tensor \"" + from.name + "\" holds values that are not finite",
                  {.file = from.file->path().string()});
  });
  model.to(device, dtype);
  return model;
}

Transformer load_shape(const fs::path& folder) {
  return matched(folder, [](Tensor&, const Tensor&, const Stored&) {});
}

void check_vocabulary(const Transformer& model, const Tokenizer& tokenizer) {
  const int64_t rows = model.config().vocab_size;
  if (tokenizer.base_vocab_size() > rows)
    throw Error("the tokenizer has " + std::to_string(tokenizer.base_vocab_size()) +
                    " pieces but the model only " + std::to_string(rows),
                {}, "the tokenizer and the model do not belong together");
  for (const auto& [field, id] :
       {std::pair("bos_token", tokenizer.bos_id()), std::pair("eos_token", tokenizer.eos_id())})
    if (id >= rows)
      throw Error("\"" + tokenizer.piece(id) + "\" has the id " + std::to_string(id) +
                      " but the model has only " + std::to_string(rows) + " tokens",
                  {.field = field}, "the tokenizer and the model do not belong together");
}

void check_ids(const Transformer& model, const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  for (const int32_t id : ids)
    if (id < 0 || id >= model.config().vocab_size)
      throw Error("a text holds \"" + tokenizer.piece(id) + "\", a token with the id " +
                      std::to_string(id) + ", but the model has only " +
                      std::to_string(model.config().vocab_size) + " tokens",
                  {}, "it was added to the tokenizer, not to the model: take it out of the text");
}

void save_model(const fs::path& folder, Transformer& model, at::ScalarType dtype,
                const fs::path& base, const std::string& card) {
  replace_atomically(folder, [&](const fs::path& temporary) {
    fs::create_directories(temporary);
    if (!card.empty()) write_file(temporary / "README.md", card);
    const Layout layout(model);
    std::vector<NamedTensor> tensors;
    model.for_each_parameter([&](const std::string& name, Tensor& parameter) {
      tensors.push_back(
          {name, layout.convert(name, parameter.detach().to(at::kCPU).to(dtype), false)});
    });
    save_tensors(temporary / "model.safetensors", tensors);
    if (!base.empty()) keep_beside(base, temporary);
    Json config = transformer_config_to_json(model.config(), dtype);
    if (!base.empty() && fs::exists(base / "config.json")) {
      // All that it says stays, of tokens and of the tools that wrote it too.
      Json kept = read_json(base / "config.json");
      if (kept.value("model_type", Json()) == config["model_type"]) {
        kept[kept.contains("dtype") ? "dtype" : "torch_dtype"] = config["torch_dtype"];
        kept["tie_word_embeddings"] = model.config().tie_word_embeddings;
        config = std::move(kept);
      }
    } else {
      Json generation = {{"do_sample", true}, {"temperature", 1.0}};
      if (!base.empty()) {
        const auto tokenizer = load_tokenizer(base);
        for (Json* json : {&config, &generation}) {
          (*json)["bos_token_id"] = id_or_null(tokenizer->bos_id());
          (*json)["eos_token_id"] = id_or_null(tokenizer->eos_id());
        }
      }
      write_json(temporary / "generation_config.json", generation);
    }
    write_json(temporary / "config.json", config);
  });
}

void save_adapter(const fs::path& folder, Transformer& model, const LoraConfig& lora,
                  const std::string& base, const std::string& card) {
  replace_atomically(folder, [&](const fs::path& temporary) {
    fs::create_directories(temporary);
    if (!card.empty()) write_file(temporary / "README.md", card);
    const Layout layout(model);
    std::vector<NamedTensor> tensors;
    model.for_each_linear([&](const std::string& path, Linear& linear) {
      if (!linear.lora) return;
      const std::string prefix = "base_model.model." + path + ".lora_";
      tensors.push_back({prefix + "A.weight", linear.lora->a});
      tensors.push_back({prefix + "B.weight", layout.convert_rows(path, linear.lora->b, false)});
      if (linear.lora->magnitude.defined())
        tensors.push_back({prefix + "magnitude_vector",
                           layout.convert_rows(path, linear.lora->magnitude, false)});
    });
    save_tensors(temporary / "adapter_model.safetensors", tensors);
    write_json(temporary / "adapter_config.json",
               {{"peft_type", "LORA"},
                {"task_type", "CAUSAL_LM"},
                {"base_model_name_or_path", base},
                {"r", lora.rank},
                {"lora_alpha", lora.alpha},
                {"lora_dropout", 0.0},
                {"use_rslora", lora.use_rslora},
                {"use_dora", lora.use_dora},
                {"target_modules", lora_targets(model)},
                {"bias", "none"},
                {"fan_in_fan_out", layout.family_entry().transposed},
                {"inference_mode", true}});
  });
}

LoraConfig load_adapter(const fs::path& folder, Transformer& model) {
  const AdapterConfig config(folder / "adapter_config.json");
  const fs::path weights = folder / "adapter_model.safetensors";
  if (!fs::exists(weights))
    throw Error("there is no adapter_model.safetensors here", {.file = folder.string()},
                fs::exists(folder / "adapter_model.bin")
                    ? "adapter_model.bin is a pickle, which is never loaded, for that runs what is "
                      "in it: save the adapter with PEFT as safetensors"
                    : "");
  std::map<std::string, Tensor> found;
  for (const auto& [name, tensor] : load_tensors(weights)) found[name] = tensor;
  if (found.empty()) throw Error("the adapter holds no tensors", {.file = weights.string()});
  const Layout layout(model);
  model.for_each_linear([&](const std::string& path, Linear& linear) {
    const std::string prefix = "base_model.model." + path + ".lora_";
    const bool there = found.contains(prefix + "A.weight") || found.contains(prefix + "B.weight");
    if (there != config.targets(path).value_or(there))
      throw Error(there ? "the tensor \"" + prefix +
                              "A.weight\" is of a layer that the adapter does not target"
                        : "the tensor \"" + prefix +
                              "A.weight\" is missing: the adapter targets this layer",
                  {.file = weights.string(), .field = "target_modules"},
                  "adapter_config.json and the weights do not belong together");
    if (!there) return;
    const auto take = [&](const std::string& end, const std::vector<int64_t>& shape) {
      const auto it = found.find(prefix + end);
      if (it == found.end())
        throw Error("the tensor \"" + prefix + end + "\" is missing", {.file = weights.string()});
      if (it->second.sizes() != shape)
        throw Error("the tensor \"" + prefix + end + "\" has the shape " +
                        shape_text(it->second.sizes()) + ", and the base model's layer calls for " +
                        shape_text(shape),
                    {.file = weights.string()}, "was the adapter trained on another base?");
      Tensor tensor = it->second.to(at::TensorOptions(linear.weight.device()).dtype(at::kFloat));
      if (!all_finite(tensor))
        throw Error("the tensor \"" + prefix + end + "\" holds values that are not finite",
                    {.file = weights.string()});
      found.erase(it);
      return tensor;
    };
    const LoraConfig lora{
        .rank = config.rank(path), .alpha = config.alpha(path), .use_rslora = config.use_rslora()};
    const int64_t out = linear.weight.size(0);
    linear.lora = LoraWeights{take("A.weight", {lora.rank, linear.weight.size(1)}),
                              layout.convert_rows(path, take("B.weight", {out, lora.rank}), true),
                              lora.scale()};
    if (config.use_dora())
      linear.lora->magnitude = layout.convert_rows(path, take("magnitude_vector", {out}), true);
  });
  if (!found.empty())
    throw Error("the tensor \"" + found.begin()->first + "\" has no place in the base model",
                {.file = weights.string()},
                "was the adapter trained on another base? Adapters of embeddings and output heads "
                "are not supported: merge them with PEFT");
  ready_lora(model);
  return {.rank = config.rank(),
          .alpha = config.alpha(),
          .use_rslora = config.use_rslora(),
          .use_dora = config.use_dora(),
          .target_modules = lora_targets(model)};
}

Transformer load_adapted(const fs::path& folder, const std::string& adapter,
                         const std::string& dtype, const std::string& device) {
  const at::Device on = device_from(device);
  Transformer model = load_model(folder, dtype_from(dtype, on), on);
  // Beyond that, memory is dearer than speed.
  constexpr int64_t kMostPacked = int64_t{4} << 30;
  if (model.config().parameter_count() * model.embedding.element_size() <= kMostPacked)
    model.pack();
  if (!adapter.empty()) load_adapter(adapter, model);
  return model;
}

}  // namespace inoculum
