// Gemma 2: norms before and behind attention and MLP, stored less 1; embeddings scaled; soft-capped scores and logits; every other
// layer looks back a window only.
#include <cmath>

#include "core/families.h"

namespace inoculum {
namespace {

ParameterNames names() {
  ParameterNames names = llama_names();
  names.attention_output_norm = "post_attention_layernorm";
  names.mlp_norm = "pre_feedforward_layernorm";
  names.mlp_output_norm = "post_feedforward_layernorm";
  return names;
}

}  // namespace

const Family kGemma2 = {
    .model_type = "gemma2",
    .architecture = "Gemma2ForCausalLM",
    .names = names(),
    .read =
        [](ConfigReader& json, TransformerConfig& c) {
          c.vocab_size = json.need<int64_t>("vocab_size");
          c.hidden_size = json.need<int64_t>("hidden_size");
          c.intermediate_size = json.need<int64_t>("intermediate_size");
          c.num_hidden_layers = json.need<int64_t>("num_hidden_layers");
          c.num_attention_heads = json.need<int64_t>("num_attention_heads");
          c.num_key_value_heads = json.get<int64_t>("num_key_value_heads", 4);
          c.head_dim = json.get<int64_t>("head_dim", 256);
          c.max_position_embeddings = json.get<int64_t>("max_position_embeddings", 8192);
          c.norm_eps = json.get("rms_norm_eps", 1e-6);
          c.tie_word_embeddings = json.get("tie_word_embeddings", true);
          // Older files have hidden_act too, which transformers does not look at.
          c.hidden_act = json.activation("hidden_activation", "gelu_pytorch_tanh");
          c.attention_bias = c.attention_output_bias = json.get("attention_bias", false);
          c.query_pre_attn_scalar = static_cast<double>(json.get<int64_t>("query_pre_attn_scalar", 256));
          c.attn_logit_softcapping = json.written("attn_logit_softcapping") ? json.get("attn_logit_softcapping", 0.0) : 50;
          c.final_logit_softcapping = json.written("final_logit_softcapping") ? json.get("final_logit_softcapping", 0.0) : 30;
          json.ignore({"attn_logit_softcapping", "final_logit_softcapping", "hidden_act", "cache_implementation"});
          c.sliding_window = json.get<int64_t>("sliding_window", 4096);
          json.layer_types(c);
          if (c.layer_types.empty())
            for (int64_t i = 0; i < c.num_hidden_layers; ++i) c.layer_types.push_back(i % 2 == 0 ? "sliding_attention" : "full_attention");
          json.rope(c, 10000);
          json.only("use_bidirectional_attention", false);
          c.norm_plus_one = c.output_norms = true;
          c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
        },
    .write =
        [](const TransformerConfig& c, Json& json) {
          kLlama.write(c, json);
          json.erase("mlp_bias");
          json.update({{"hidden_activation", activation_name(c)},
                       {"query_pre_attn_scalar", static_cast<int64_t>(c.query_pre_attn_scalar)},  // transformers takes a whole number alone
                       {"attn_logit_softcapping", c.attn_logit_softcapping > 0 ? Json(c.attn_logit_softcapping) : Json()},
                       {"final_logit_softcapping", c.final_logit_softcapping > 0 ? Json(c.final_logit_softcapping) : Json()},
                       {"sliding_window", c.sliding_window},
                       {"layer_types", c.layer_types}});
        }};

}  // namespace inoculum
