// Gemma 3's text models: Gemma 2 without caps on scores, with norms on queries and keys, five
// layers that look back a window for each that looks back on all, and another rotary base in those
// five.
#include <cmath>

#include "core/families.h"

namespace inoculum {
namespace {

ParameterNames names() {
  ParameterNames names = llama_names();
  names.attention_output_norm = "post_attention_layernorm";
  names.mlp_norm = "pre_feedforward_layernorm";
  names.mlp_output_norm = "post_feedforward_layernorm";
  names.q_norm = "self_attn.q_norm";
  names.k_norm = "self_attn.k_norm";
  return names;
}

}  // namespace

const Family kGemma3 = {
    .model_type = "gemma3_text",
    .architecture = "Gemma3ForCausalLM",
    .names = names(),
    .read =
        [](ConfigReader& json, TransformerConfig& c) {
          read_llama(json, c, 131072);
          c.num_key_value_heads = json.size("num_key_value_heads", 4);
          c.head_dim = json.size("head_dim", 256);
          c.tie_word_embeddings = json.get("tie_word_embeddings", true);
          c.hidden_act = json.activation("hidden_activation", "gelu_pytorch_tanh");
          c.attention_bias = c.attention_output_bias = json.get("attention_bias", false);
          c.query_pre_attn_scalar = json.get("query_pre_attn_scalar", 256.0);
          c.final_logit_softcapping = json.get("final_logit_softcapping", 0.0);
          c.sliding_window = json.size("sliding_window", 4096);
          json.layer_types(c);
          // One in so many layers looks back on all.
          const int64_t pattern = json.size("sliding_window_pattern", 6);
          std::vector<std::string> types;
          for (int64_t i = 1; i <= c.num_hidden_layers; ++i)
            types.push_back(i % pattern == 0 ? "full_attention" : "sliding_attention");
          if (!c.layer_types.empty() && c.layer_types != types &&
              json.has("sliding_window_pattern"))
            throw Error("disagrees with layer_types", json.where("sliding_window_pattern"));
          if (c.layer_types.empty()) c.layer_types = types;
          json.rope_by_layer_type(c, 1e6, {"rope_local_base_freq"}, 1e4);
          c.norm_plus_one = c.output_norms = c.qk_norm = true;
          c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
        },
    .write =
        [](const TransformerConfig& c, Json& json) {
          kGemma2.write(c, json);
          json["rope_local_base_freq"] = c.rope_local_base_freq;
        }};

}  // namespace inoculum
