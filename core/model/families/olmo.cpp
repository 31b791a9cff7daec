// OLMo 2: norms behind attention and MLP alone, and on all queries and all keys of a token at once.
// OLMo 3: the same with layers that look back a window, whose rotary positions are not stretched
// where those of the others are.
#include "core/model/families.h"

namespace inoculum {
namespace {

ParameterNames names() {
  ParameterNames names = llama_names();
  names.attention_norm = names.mlp_norm = "";
  names.attention_output_norm = "post_attention_layernorm";
  names.mlp_output_norm = "post_feedforward_layernorm";
  names.q_norm = "self_attn.q_norm";
  names.k_norm = "self_attn.k_norm";
  return names;
}

void read(ConfigReader& json, TransformerConfig& c) {
  read_llama(json, c, 2048);
  c.norm_eps = json.get("rms_norm_eps", 1e-5);
  c.attention_bias = c.attention_output_bias = json.get("attention_bias", false);
  c.input_norms = false;
  c.output_norms = c.qk_norm = c.qk_norm_all_heads = true;
}

void write(const TransformerConfig& c, Json& json) {
  write_llama(c, json);
  json["attention_bias"] = c.attention_bias;
}

}  // namespace

const Family kOlmo2 = {.model_type = "olmo2",
                       .architecture = "Olmo2ForCausalLM",
                       .names = names(),
                       .read =
                           [](ConfigReader& json, TransformerConfig& c) {
                             read(json, c);
                             json.uniform_layers(c);
                             json.rope(c, 10000);
                           },
                       .write = write};

const Family kOlmo3 = {
    .model_type = "olmo3",
    .architecture = "Olmo3ForCausalLM",
    .names = names(),
    .read =
        [](ConfigReader& json, TransformerConfig& c) {
          read(json, c);
          c.sliding_window = json.size("sliding_window", 4096);
          json.layer_types(c);
          if (c.layer_types.empty())
            for (int64_t i = 1; i <= c.num_hidden_layers; ++i)
              c.layer_types.push_back(i % 4 == 0 ? "full_attention" : "sliding_attention");
          const double theta = json.get("rope_theta", 500000.0);
          json.rope_by_layer_type(c, theta, {}, theta);
        },
    .write =
        [](const TransformerConfig& c, Json& json) {
          write(c, json);
          json.update({{"sliding_window", c.sliding_window}, {"layer_types", c.layer_types}});
        }};

}  // namespace inoculum
