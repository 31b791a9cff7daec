// Gemma 2: norms before and behind attention and MLP, stored less 1; embeddings scaled; soft-capped
// scores and logits; every other layer looks back a window only.
#include <cmath>

#include "core/model/families.h"

namespace inoculum {

ParameterNames gemma_names() {
  ParameterNames names = llama_names();
  names.attention_output_norm = "post_attention_layernorm";
  names.mlp_norm = "pre_feedforward_layernorm";
  names.mlp_output_norm = "post_feedforward_layernorm";
  return names;
}

void read_gemma(ConfigReader& json, TransformerConfig& c, int64_t context) {
  read_llama(json, c, context);
  c.num_key_value_heads = json.size("num_key_value_heads", 4);
  c.head_dim = json.size("head_dim", 256);
  c.tie_word_embeddings = json.get("tie_word_embeddings", true);
  // Older files have hidden_act too, which transformers does not look at.
  c.hidden_act = json.activation("hidden_activation", "gelu_pytorch_tanh");
  c.attention_bias = c.attention_output_bias = json.get("attention_bias", false);
  c.query_pre_attn_scalar = json.get("query_pre_attn_scalar", 256.0);
  c.sliding_window = json.size("sliding_window", 4096);
  json.layer_types(c);
  c.norm_plus_one = c.output_norms = true;
  c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
}

const Family kGemma2 = {
    .model_type = "gemma2",
    .architecture = "Gemma2ForCausalLM",
    .names = gemma_names(),
    .read =
        [](ConfigReader& json, TransformerConfig& c) {
          read_gemma(json, c, 8192);
          c.attn_logit_softcapping =
              json.written("attn_logit_softcapping") ? json.get("attn_logit_softcapping", 0.0) : 50;
          c.final_logit_softcapping = json.written("final_logit_softcapping")
                                          ? json.get("final_logit_softcapping", 0.0)
                                          : 30;
          json.ignore({"attn_logit_softcapping", "final_logit_softcapping"});
          if (c.layer_types.empty())
            for (int64_t i = 0; i < c.num_hidden_layers; ++i)
              c.layer_types.push_back(i % 2 == 0 ? "sliding_attention" : "full_attention");
          json.rope(c, 10000);
        },
    .write =
        [](const TransformerConfig& c, Json& json) {
          write_llama(c, json);
          const auto scalar =
              static_cast<int64_t>(c.query_pre_attn_scalar);  // a whole one is written as such
          const bool whole = static_cast<double>(scalar) == c.query_pre_attn_scalar;
          json.update(
              {{"attention_bias", c.attention_bias},
               {"hidden_activation", activation_name(c)},
               {"query_pre_attn_scalar", whole ? Json(scalar) : Json(c.query_pre_attn_scalar)},
               {"attn_logit_softcapping",
                c.attn_logit_softcapping > 0 ? Json(c.attn_logit_softcapping) : Json()},
               {"final_logit_softcapping",
                c.final_logit_softcapping > 0 ? Json(c.final_logit_softcapping) : Json()},
               {"sliding_window", c.sliding_window},
               {"layer_types", c.layer_types}});
        }};

}  // namespace inoculum
