// Qwen 2 and 2.5, with biases on queries, keys and values; Qwen 3, with norms on queries and keys
// instead.
#include "core/model/families.h"

namespace inoculum {
namespace {

void read(ConfigReader& json, TransformerConfig& c) {
  read_llama(json, c, 32768);
  const auto first_sliding = json.get<int64_t>("max_window_layers", 28);
  if (json.get("use_sliding_window", false))  // null: no window
    c.sliding_window =
        json.get<int64_t>("sliding_window", json.written("sliding_window") ? 0 : 4096);
  json.ignore({"sliding_window"});
  json.layer_types(c);
  if (c.layer_types.empty() && c.sliding_window > 0)
    for (int64_t i = 0; i < c.num_hidden_layers; ++i)
      c.layer_types.push_back(i >= first_sliding ? "sliding_attention" : "full_attention");
  if (c.sliding_window == 0) json.uniform_layers(c);
}

void write(const TransformerConfig& c, Json& json) {
  write_llama(c, json);
  json["use_sliding_window"] = c.sliding_window > 0;
  if (c.sliding_window > 0)
    json.update({{"sliding_window", c.sliding_window}, {"layer_types", c.layer_types}});
}

ParameterNames with_norms(ParameterNames names) {
  names.q_norm = "self_attn.q_norm";
  names.k_norm = "self_attn.k_norm";
  return names;
}

}  // namespace

const Family kQwen2 = {.model_type = "qwen2",
                       .architecture = "Qwen2ForCausalLM",
                       .names = llama_names(),
                       .read =
                           [](ConfigReader& json, TransformerConfig& c) {
                             read(json, c);
                             json.rope(c, 10000);
                             json.ignore({"attention_bias"});  // transformers does not look at it
                             c.attention_bias = true, c.attention_output_bias = false;
                           },
                       .write = write};

const Family kQwen3 = {.model_type = "qwen3",
                       .architecture = "Qwen3ForCausalLM",
                       .names = with_norms(llama_names()),
                       .read =
                           [](ConfigReader& json, TransformerConfig& c) {
                             read(json, c);
                             c.head_dim = json.size("head_dim", 128);
                             json.rope(c, 10000);
                             c.attention_bias = c.attention_output_bias =
                                 json.get("attention_bias", false);
                             c.qk_norm = true;
                           },
                       .write =
                           [](const TransformerConfig& c, Json& json) {
                             write(c, json);
                             json["attention_bias"] = c.attention_bias;
                           }};

}  // namespace inoculum
