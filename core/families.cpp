#include "core/families.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace inoculum {
namespace {

const std::vector<const Family*>& table() {
  static const std::vector<const Family*> all = {&kLlama, &kMistral, &kQwen2, &kQwen3, &kGpt2, &kGptNeoX, &kGemma2};
  return all;
}

const std::vector<std::pair<std::string, std::string>> kActivations = {  // config.json's → ours; ours is written as the first of its kind
    {"silu", "silu"}, {"swish", "silu"}, {"gelu", "gelu"}, {"gelu_pytorch_tanh", "gelu_tanh"}, {"gelu_new", "gelu_tanh"}, {"gelu_fast", "gelu_tanh"}, {"relu", "relu"}};

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
  std::string known;
  for (const std::string& name : family_names()) known += (known.empty() ? "" : ", ") + name;
  throw Error("the family \"" + model_type + "\" is not supported", {.field = "model_type"}, "known are " + known);
}

ConfigReader::ConfigReader(const Json& json, fs::path file) : json_(json), file_(std::move(file)) {
  // What a config.json holds beside the model: how it was saved, how it is served, special tokens.
  ignore({"_name_or_path", "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "use_cache", "bos_token_id", "eos_token_id", "pad_token_id",
          "unk_token_id", "sep_token_id", "initializer_range", "attn_implementation", "_attn_implementation_autoset", "_attn_implementation", "task_specific_params",
          "gradient_checkpointing", "output_attentions", "output_hidden_states", "return_dict", "id2label", "label2id", "problem_type", "chunk_size_feed_forward",
          // Dropout is not applied: not by transformers outside training either, and published fine-tuning leaves it at 0.
          "attention_dropout", "hidden_dropout", "classifier_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"});
  if (json_.contains("quantization_config")) throw Error("quantised weights are not supported", where("quantization_config"), "take the checkpoint in bf16 or fp16");
  only("is_encoder_decoder", false);
  only("add_cross_attention", false);
}

bool ConfigReader::has(const std::string& key) {
  used_.push_back(key);
  return json_.contains(key) && !json_.at(key).is_null();
}

void ConfigReader::only(const std::string& key, const Json& allowed) {
  if (has(key) && json_.at(key) != allowed) throw Error("is " + json_.at(key).dump() + ", and only " + allowed.dump() + " is supported", where(key));
}

void ConfigReader::ignore(const std::vector<std::string>& keys) { used_.insert(used_.end(), keys.begin(), keys.end()); }

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
  return std::find_if(kActivations.begin(), kActivations.end(), [&](const auto& each) { return each.second == c.hidden_act; })->first;
}

void ConfigReader::layer_types(TransformerConfig& c) {
  if (!has("layer_types")) return;
  c.layer_types = need<std::vector<std::string>>("layer_types");
  for (const std::string& type : c.layer_types)
    if (type != "full_attention" && type != "sliding_attention")
      throw Error("the kind of attention \"" + type + "\" is not supported", where("layer_types"), "known are full_attention and sliding_attention");
}

void ConfigReader::rope(TransformerConfig& c, double default_theta, double partial) {
  c.rope_theta = get("rope_theta", default_theta);
  for (const std::string key : {"rope_scaling", "rope_parameters"}) {
    if (!has(key)) continue;
    const Json& rope = json_.at(key);
    if (!rope.is_object()) throw Error("has the wrong type: " + rope.dump(), where(key));
    std::vector<std::string> known = {"type", "rope_type"};
    const auto number = [&](const char* name, double fallback) {
      known.push_back(name);
      return rope.contains(name) && !rope.at(name).is_null() ? convert<double>(rope.at(name), key + "." + name) : fallback;
    };
    RopeScaling& s = c.rope_scaling;
    s.type = rope.contains("rope_type") ? convert<std::string>(rope.at("rope_type"), key + ".rope_type")
             : rope.contains("type")    ? convert<std::string>(rope.at("type"), key + ".type")
                                        : "default";
    c.rope_theta = number("rope_theta", c.rope_theta);
    partial = number("partial_rotary_factor", partial);
    if (s.type != "default") s.factor = number("factor", 1);
    if (s.type == "llama3" || s.type == "yarn")
      s.original_max_position_embeddings = static_cast<int64_t>(number("original_max_position_embeddings", static_cast<double>(c.max_position_embeddings)));
    if (s.type == "llama3") {
      s.low_freq_factor = number("low_freq_factor", 1);
      s.high_freq_factor = number("high_freq_factor", 4);
    } else if (s.type == "yarn") {
      if (!rope.contains("factor") || rope.at("factor").is_null())
        s.factor = static_cast<double>(c.max_position_embeddings) / static_cast<double>(s.original_max_position_embeddings);
      s.beta_fast = number("beta_fast", 32);
      s.beta_slow = number("beta_slow", 1);
      s.attention_factor = number("attention_factor", 0);
      const double mscale = number("mscale", 0), all = number("mscale_all_dim", 0);
      const auto scale = [&](double m) { return s.factor <= 1 ? 1.0 : 0.1 * m * std::log(s.factor) + 1; };
      if (s.attention_factor == 0 && mscale != 0 && all != 0) s.attention_factor = scale(mscale) / scale(all);
      known.push_back("truncate");
      s.truncate = !rope.contains("truncate") || convert<bool>(rope.at("truncate"), key + ".truncate");
    } else if (s.type != "default" && s.type != "linear" && s.type != "dynamic") {
      throw Error("rotary scaling of the type \"" + s.type + "\" is not supported", where(key + ".rope_type"), "known are default, linear, dynamic, llama3 and yarn");
    }
    if (s.type == "dynamic") number("original_max_position_embeddings", 0);  // within max_position_embeddings, which no text may pass, it is the default
    for (const auto& [name, value] : rope.items())
      if (!value.is_null() && std::find(known.begin(), known.end(), name) == known.end()) throw Error("is not known of rotary embeddings of the type \"" + s.type + "\"", where(key + "." + name));
  }
  const auto dim = static_cast<int64_t>(static_cast<double>(c.head_dim) * partial);
  c.rotary_dim = dim == c.head_dim ? 0 : dim;
}

void ConfigReader::finish() {
  for (const auto& [key, value] : json_.items())
    if (!value.is_null() && std::find(used_.begin(), used_.end(), key) == used_.end())
      throw Error("is not known in a configuration of this family", where(key), "if it changes nothing about the model's outputs, remove it from the file");
}

Json rope_parameters(const TransformerConfig& c) {
  const RopeScaling& s = c.rope_scaling;
  Json rope = {{"rope_type", s.type}, {"rope_theta", c.rope_theta}};
  if (c.rotary_dim > 0) rope["partial_rotary_factor"] = static_cast<double>(c.rotary_dim) / static_cast<double>(c.head_dim);
  if (s.type != "default") rope["factor"] = s.factor;
  if (s.type == "llama3" || s.type == "yarn") rope["original_max_position_embeddings"] = s.original_max_position_embeddings;
  if (s.type == "llama3") rope.update({{"low_freq_factor", s.low_freq_factor}, {"high_freq_factor", s.high_freq_factor}});
  if (s.type == "yarn") {
    rope.update({{"beta_fast", s.beta_fast}, {"beta_slow", s.beta_slow}, {"truncate", s.truncate}});
    if (s.attention_factor != 0) rope["attention_factor"] = s.attention_factor;
  }
  return rope;
}

}  // namespace inoculum
