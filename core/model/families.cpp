#include "core/model/families.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/base/strings.h"

namespace inoculum {
namespace {

const std::vector<const Family*>& table() {
  static const std::vector<const Family*> all = {&kLlama,   &kMistral, &kQwen2,  &kQwen3, &kGpt2,
                                                 &kGptNeoX, &kGemma2,  &kGemma3, &kOlmo2, &kOlmo3};
  return all;
}

// config.json's → ours; ours is written as the first of its kind.
const std::vector<std::pair<std::string, std::string>> kActivations = {
    {"silu", "silu"},          {"swish", "silu"},
    {"gelu", "gelu"},          {"gelu_pytorch_tanh", "gelu_tanh"},
    {"gelu_new", "gelu_tanh"}, {"gelu_fast", "gelu_tanh"},
    {"relu", "relu"}};

// Keys that any config.json may hold beside the model: how it was made, saved and served, settings
// of generation, of training and of other tasks. Whatever they say, the outputs are the same.
const std::set<std::string> kHarmless = {
    "architectures", "model_type", "transformers_version", "torch_dtype", "dtype", "torchscript",
    "use_bfloat16", "initializer_range", "gradient_checkpointing", "return_dict", "use_return_dict",
    "return_dict_in_generate", "output_attentions", "output_hidden_states",
    "tie_last_hidden_states", "output_scores", "output_logits", "output_router_logits",
    "chunk_size_feed_forward", "keys_to_ignore_at_inference", "name_or_path", "is_decoder",
    "tie_encoder_decoder",
    // Splits products over devices, which moves rounding alone.
    "pretraining_tp",
    // Classifiers.
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "prefix",
    "task_specific_params",
    // Generation.
    "max_length", "min_length", "max_new_tokens", "min_new_tokens", "max_time", "do_sample",
    "early_stopping", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p",
    "epsilon_cutoff", "eta_cutoff", "repetition_penalty", "encoder_repetition_penalty",
    "length_penalty", "diversity_penalty", "penalty_alpha", "exponential_decay_length_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "force_words_ids",
    "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "num_beams", "num_beam_groups",
    "num_return_sequences", "remove_invalid_values", "renormalize_logits", "guidance_scale",
    "constraints", "stop_strings", "watermarking_config", "compile_config", "disable_compile",
    "low_memory", "dola_layers", "token_healing", "prefill_chunk_size",
    "continuous_batching_config", "speculation_type", "use_mtp", "is_assistant",
    "prompt_lookup_num_tokens", "max_matching_ngram_size", "num_assistant_tokens",
    "num_assistant_tokens_schedule", "target_lookbehind", "generation_config",
    // Marks of tools.
    "transformers.js_config", "is_llama_config", "max_sequence_length", "model_max_length",
    "max_seq_len", "max_seq_length", "seq_length", "use_memory_efficient_attention",
    "use_memorry_efficient_attention", "use_sdpa", "attn_impl", "loss_type"};

bool contains_any(const std::string& text, const std::vector<std::string>& parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const std::string& part) { return text.find(part) != std::string::npos; });
}

bool ends_with_any(const std::string& text, const std::vector<std::string>& ends) {
  return std::any_of(ends.begin(), ends.end(),
                     [&](const std::string& end) { return text.ends_with(end); });
}

// One of the words of a name such as "scale_attn_weights".
bool has_word(const std::string& name, const std::set<std::string>& words) {
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find_first_of("_.- ", begin), name.size());
    if (words.contains(name.substr(begin, end - begin))) return true;
    begin = end + 1;
  }
  return false;
}

bool means_nothing(const Json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  return value.empty();  // null, [], {}; a number is never empty
}

bool is_harmless(const std::string& name) {
  return kHarmless.contains(name) || name.starts_with("_") || name.starts_with("init") ||
         ends_with_any(name, {"_token", "_token_id", "_token_ids", "_token_index"}) ||
         contains_any(name, {"unsloth", "tokenizer", "cache", "drop", "flash", "_implementation",
                             "assistant_", "loss"});
}

// Whether a name tells of what decides outputs.
bool is_of_the_model(const std::string& name) {
  return contains_any(name, {"rope",     "rotary",     "position",  "scal",      "multiplier",
                             "residual", "window",     "sliding",   "softcap",   "soft_cap",
                             "norm",     "activation", "bias",      "expert",    "router",
                             "quant",    "compress",   "sparse",    "attention", "attn",
                             "embed",    "layer_type", "per_layer", "kv_shar",   "bidirectional",
                             "encoder",  "pruned",     "glu"}) ||
         has_word(name, {"act",   "acts",    "cap",      "capping", "moe",    "yarn", "ntk",
                         "alibi", "nope",    "mup",      "tie",     "tied",   "head", "heads",
                         "lora",  "adapter", "adapters", "bit",     "bits",   "4bit", "8bit",
                         "int8",  "int4",    "fp8",      "nf4",     "awq",    "gptq", "conv",
                         "ssm",   "mamba",   "gate",     "gated",   "gating", "mlp",  "ffn"});
}

// Whether what nobody asked for could mean another model than the one that is computed.
bool could_change_outputs(const std::string& key, const Json& value) {
  const std::string name = ascii_lower(key);
  if (means_nothing(value) || is_harmless(name)) return false;
  if (is_of_the_model(name)) {
    const double off = contains_any(name, {"scal", "multiplier"}) ? 1 : 0;
    return !value.is_number() || value.get<double>() != off;
  }
  if (value.is_string()) {  // a word as a choice, not a sentence or a path
    const std::string word = ascii_lower(value.get<std::string>());
    const auto activation = [&](const auto& each) { return each.first == word; };
    return word.find_first_of(" /.") == std::string::npos &&
           (is_of_the_model(word) ||
            std::any_of(kActivations.begin(), kActivations.end(), activation));
  }
  if (!value.is_structured()) return false;
  if (has_word(name, {"text", "vision", "image", "audio", "video"})) return true;  // models in it
  for (const auto& [inner, each] : value.items())
    if (could_change_outputs(value.is_object() ? inner : key, each)) return true;
  return false;
}

// The paths of a field in several objects, behind those given.
std::vector<std::string> in_each(const std::vector<std::string>& objects, const std::string& field,
                                 std::vector<std::string> paths = {}) {
  for (const std::string& object : objects) paths.push_back(object + "." + field);
  return paths;
}

}  // namespace

std::string ParameterNames::in_layer(size_t number, const std::string& module) const {
  std::string path = layer;
  path.replace(path.find("{}"), 2, std::to_string(number));
  return path + module;
}

const std::vector<std::string>& family_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Family* each : table()) all.push_back(each->model_type);
    return all;
  }();
  return names;
}

const Family& family(const std::string& model_type) {
  for (const Family* each : table())
    if (each->model_type == model_type) return *each;
  if (model_type == "gemma3")
    throw Error("\"gemma3\" reads images too, and only text is supported", {.field = "model_type"},
                "save its text part with transformers: "
                "Gemma3ForCausalLM.from_pretrained(FOLDER).save_pretrained(OTHER)");
  std::string known;
  for (const std::string& name : family_names()) known += (known.empty() ? "" : ", ") + name;
  throw Error("the family \"" + model_type + "\" is not supported", {.field = "model_type"},
              "known are " + known);
}

ConfigReader::ConfigReader(const Json& json, fs::path file) : json_(json), file_(std::move(file)) {
  if (has("quantization_config") && !means_nothing(*find("quantization_config")))
    throw Error("quantised weights are not supported", where("quantization_config"),
                "take the checkpoint in bf16 or fp16");
  only("is_causal", true);
}

const Json* ConfigReader::find(const std::string& path) const {
  const Json* value = &json_;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    if (value != &json_ && means_nothing(*value)) return nullptr;
    if (!value->is_object())
      throw Error("has the wrong type: " + value->dump(), where(path.substr(0, begin - 1)));
    const auto it = value->find(path.substr(begin, end - begin));
    if (it == value->end() || it->is_null()) return nullptr;
    value = &*it;
    begin = end + 1;
  }
  return value;
}

template <class T>
T ConfigReader::convert(const Json& value, const std::string& path) const {
  bool fits = true;
  if constexpr (std::is_same_v<T, int64_t>) {  // 4096.0 is a whole number, 0.5 and true are not
    const double number = value.is_number() ? value.get<double>() : 0.5;
    fits = number == std::floor(number) && std::abs(number) < 9e15;
  } else if constexpr (std::is_same_v<T, double>) {
    fits = value.is_number();
  }
  try {
    if (fits) return value.get<T>();
  } catch (const Json::exception&) {
  }
  throw Error("has the wrong type: " + value.dump(), where(path));
}

template int64_t ConfigReader::convert(const Json&, const std::string&) const;
template double ConfigReader::convert(const Json&, const std::string&) const;
template bool ConfigReader::convert(const Json&, const std::string&) const;
template std::string ConfigReader::convert(const Json&, const std::string&) const;
template std::vector<std::string> ConfigReader::convert(const Json&, const std::string&) const;

bool ConfigReader::has(const std::string& path) {
  used_.insert(path);
  return find(path) != nullptr;
}

int64_t ConfigReader::size(const std::string& path) {
  const auto value = need<int64_t>(path);
  if (value < 1) throw Error("must be at least 1, not " + std::to_string(value), where(path));
  return value;
}

int64_t ConfigReader::size(const std::string& path, int64_t fallback) {
  return has(path) ? size(path) : fallback;
}

void ConfigReader::only(const std::string& path, const Json& allowed) {
  if (has(path) && *find(path) != allowed)
    throw Error("is " + find(path)->dump() + ", and only " + allowed.dump() + " is supported",
                where(path));
}

void ConfigReader::ignore(const std::vector<std::string>& keys) {
  used_.insert(keys.begin(), keys.end());
}

std::string ConfigReader::activation(const std::string& key, const std::string& fallback) {
  const auto name = get<std::string>(key, fallback);
  std::string known;
  for (const auto& [theirs, ours] : kActivations) {
    if (theirs == name) return ours;
    known += (known.empty() ? "" : ", ") + theirs;
  }
  throw Error("the activation \"" + name + "\" is not supported", where(key), "known are " + known);
}

std::string activation_name(const TransformerConfig& c) {
  return std::find_if(kActivations.begin(), kActivations.end(),
                      [&](const auto& each) { return each.second == c.hidden_act; })
      ->first;
}

void ConfigReader::layer_types(TransformerConfig& c) {
  if (!has("layer_types")) return;
  c.layer_types = need<std::vector<std::string>>("layer_types");
  for (const std::string& type : c.layer_types)
    if (type != "full_attention" && type != "sliding_attention")
      throw Error("the kind of attention \"" + type + "\" is not supported", where("layer_types"),
                  "known are full_attention and sliding_attention");
}

void ConfigReader::uniform_layers(TransformerConfig& c) {
  layer_types(c);
  ignore({"max_window_layers"});  // of Qwen: the first layer that slides
  const std::string kind = c.sliding_window > 0 ? "sliding_attention" : "full_attention";
  for (const std::string& type : c.layer_types)
    if (type != kind)
      throw Error("names the kind " + type + ", and layers of this family are all of " + kind +
                      (c.sliding_window > 0 ? "" : " where there is no sliding_window"),
                  where("layer_types"));
  c.layer_types.clear();
}

ConfigReader::Rope ConfigReader::rope(const std::vector<std::string>& objects,
                                      const std::vector<std::string>& theta_names,
                                      double default_theta, int64_t max_position_embeddings) {
  Rope rope;
  RopeScaling& s = rope.scaling;
  rope.theta = either<double>(in_each(objects, "rope_theta", theta_names), default_theta);
  s.type = either<std::string>(in_each(objects, "rope_type", in_each(objects, "type")), "default");
  const auto is = [&](std::initializer_list<const char*> types) {
    return std::any_of(types.begin(), types.end(),
                       [&](const char* type) { return s.type == type; });
  };
  std::string object = objects.front();  // to name in errors
  for (const std::string& each : objects)
    if (find(each) != nullptr) object = each;
  if (!is({"default", "linear", "dynamic", "llama3", "yarn"}))
    throw Error("rotary positions of the type \"" + s.type + "\" are not supported", where(object),
                "known are default, linear, dynamic, llama3 and yarn");
  const auto number = [&](const std::string& name, double fallback) {
    return either<double>(in_each(objects, name), fallback);
  };
  const auto longest = static_cast<double>(max_position_embeddings);
  // Some files have it beside the object. Types that do not look at it may have it too.
  const auto original = either<double>(
      in_each(objects, "original_max_position_embeddings", {"original_max_position_embeddings"}),
      longest);
  const bool stretched = std::any_of(objects.begin(), objects.end(),
                                     [&](const auto& o) { return has(o + ".factor"); });
  if (!stretched && is({"linear", "llama3"})) throw Error("is missing", where(object + ".factor"));
  s.factor = number("factor", is({"yarn"}) ? longest / original : 1);
  if (is({"default"}) && s.factor != 1)
    throw Error("has a factor, and no rope_type that says what to do with it", where(object));
  if (is({"llama3", "yarn"})) s.original_max_position_embeddings = static_cast<int64_t>(original);
  if (is({"llama3"})) {
    s.low_freq_factor = number("low_freq_factor", 1);
    s.high_freq_factor = number("high_freq_factor", 4);
  }
  if (is({"yarn"})) {
    s.beta_fast = number("beta_fast", 32);
    s.beta_slow = number("beta_slow", 1);
    s.attention_factor = number("attention_factor", 0);
    const double mscale = number("mscale", 0), all = number("mscale_all_dim", 0);
    const auto scale = [&](double m) {
      return s.factor <= 1 ? 1.0 : 0.1 * m * std::log(s.factor) + 1;
    };
    if (s.attention_factor == 0 && mscale != 0 && all != 0)
      s.attention_factor = scale(mscale) / scale(all);
    s.truncate = either<bool>(in_each(objects, "truncate"), true);
  }
  ignore(in_each(objects, "finetuned"));  // whether weights were trained so
  return rope;
}

void ConfigReader::rope(TransformerConfig& c, double default_theta, std::optional<double> partial) {
  const std::vector<std::string> objects = {"rope_scaling", "rope_parameters"};
  const auto partials =
      in_each(objects, "partial_rotary_factor", {"rotary_pct", "partial_rotary_factor"});
  if (partial) {
    const double share = either<double>(partials, *partial);
    const auto rotary = static_cast<int64_t>(static_cast<double>(c.head_dim) * share);
    if (rotary < 2 || rotary > c.head_dim)
      throw Error("turns " + std::to_string(rotary) + " of the " + std::to_string(c.head_dim) +
                      " dimensions of a head",
                  where("rotary_pct"));
    c.rotary_dim = rotary == c.head_dim ? 0 : rotary;
  } else {
    for (const std::string& path : partials) only(path, 1);
  }
  std::vector<std::string> thetas = {"rope_theta"};
  if (partial) thetas.push_back("rotary_emb_base");
  const Rope rope = this->rope(objects, thetas, default_theta, c.max_position_embeddings);
  c.rope_theta = rope.theta;
  c.rope_scaling = rope.scaling;
}

void ConfigReader::rope_by_layer_type(TransformerConfig& c, double default_theta,
                                      const std::vector<std::string>& local_names,
                                      double default_local) {
  const std::vector<std::string> full = {"rope_scaling", "rope_parameters.full_attention"},
                                 sliding = {"rope_parameters.sliding_attention"};
  const Rope global = rope(full, {"rope_theta"}, default_theta, c.max_position_embeddings);
  const Rope local = rope(sliding, local_names, default_local, c.max_position_embeddings);
  // transformers does not look for it inside the parameters of a kind of layer.
  for (const std::string& object : {full[0], full[1], sliding[0]}) only(object + ".truncate", true);
  c.rope_theta = global.theta;
  c.rope_scaling = global.scaling;
  c.rope_local_base_freq = local.theta;
  c.rope_local_scaling = local.scaling;
}

std::vector<std::string> ConfigReader::finish() const {
  std::vector<std::string> unknown;
  const std::function<void(const std::string&, const Json&)> look = [&](const std::string& path,
                                                                        const Json& value) {
    if (used_.contains(path) || means_nothing(value)) return;
    const auto inside = used_.lower_bound(path + ".");
    if (value.is_object() && inside != used_.end() && inside->starts_with(path + ".")) {
      for (const auto& [key, each] : value.items()) look(path + "." + key, each);
    } else if (could_change_outputs(path, value)) {
      throw Error("is not known of this family, and could change what the model computes",
                  where(path), "if it changes nothing, remove it from the file");
    } else if (!is_harmless(ascii_lower(path)) &&
               !is_of_the_model(ascii_lower(path))) {  // what is off says nothing
      unknown.push_back(path);
    }
  };
  for (const auto& [key, value] : json_.items()) look(key, value);
  return unknown;
}

void check_model(const TransformerConfig& c) {
  c.check();
  const ParameterNames& names = family(c.family).names;
  const auto has = [&](const char* field, bool wanted, const std::string& name) {
    if (wanted == name.empty())
      throw Error((wanted ? "is not of the family " : "belongs to the family ") + c.family,
                  {.field = field});
  };
  has("positions", c.positions == "learned", names.position_embedding);
  has("fused_qkv", c.fused_qkv, names.qkv);
  has("qk_norm", c.qk_norm, names.q_norm);
  has("input_norms", c.input_norms, names.attention_norm);
  has("output_norms", c.output_norms, names.attention_output_norm);
  has("gated_mlp", c.gated_mlp, names.gate);
}

TransformerConfig transformer_config_from_json(const Json& json, const fs::path& file) {
  try {
    if (!json.is_object()) throw Error("must be a JSON object", {.file = file.string()});
    TransformerConfig c;
    ConfigReader reader(json, file);
    c.family = reader.need<std::string>("model_type");
    c.initializer_range = reader.get("initializer_range", 0.02);
    family(c.family).read(reader, c);
    for (const std::string& key : reader.finish())
      std::fprintf(stderr, "%s: unknown key \"%s\" is passed over\n", file.c_str(), key.c_str());
    check_model(c);
    return c;
  } catch (const Error& error) {
    throw error.in_file(file.string());
  }
}

namespace {

Json rope_parameters(double theta, const RopeScaling& s) {
  Json rope = {{"rope_type", s.type}, {"rope_theta", theta}};
  if (s.type != "default") rope["factor"] = s.factor;
  if (s.type == "llama3" || s.type == "yarn")
    rope["original_max_position_embeddings"] = s.original_max_position_embeddings;
  if (s.type == "llama3")
    rope.update({{"low_freq_factor", s.low_freq_factor}, {"high_freq_factor", s.high_freq_factor}});
  if (s.type == "yarn") {
    rope.update({{"beta_fast", s.beta_fast}, {"beta_slow", s.beta_slow}, {"truncate", s.truncate}});
    if (s.attention_factor != 0) rope["attention_factor"] = s.attention_factor;
  }
  return rope;
}

}  // namespace

double rotary_share(const TransformerConfig& c) {
  return c.rotary_dim > 0 ? static_cast<double>(c.rotary_dim) / static_cast<double>(c.head_dim) : 1;
}

void write_rope(const TransformerConfig& c, Json& json) {
  json["rope_theta"] = c.rope_theta;
  Json parameters = rope_parameters(c.rope_theta, c.rope_scaling);
  if (c.rotary_dim > 0) parameters["partial_rotary_factor"] = rotary_share(c);
  if (c.rope_scaling.type != "default") json["rope_scaling"] = parameters;
  json["rope_parameters"] = parameters;
  if (c.rope_local_base_freq > 0)
    json["rope_parameters"] = {
        {"full_attention", parameters},
        {"sliding_attention", rope_parameters(c.rope_local_base_freq, c.rope_local_scaling)}};
}

}  // namespace inoculum
