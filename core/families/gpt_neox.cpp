// GPT-NeoX (Pythia): rotary positions on a part of each head, attention and MLP side by side, one projection whose rows lie head by head.
#include "core/families.h"

namespace inoculum {

const Family kGptNeoX = {
    .model_type = "gpt_neox",
    .architecture = "GPTNeoXForCausalLM",
    .names = {.embedding = "gpt_neox.embed_in",
              .final_norm = "gpt_neox.final_layer_norm",
              .head = "embed_out",
              .layer = "gpt_neox.layers.{}.",
              .attention_norm = "input_layernorm",
              .mlp_norm = "post_attention_layernorm",
              .qkv = "attention.query_key_value",
              .o = "attention.dense",
              .up = "mlp.dense_h_to_4h",
              .down = "mlp.dense_4h_to_h"},
    .interleaved_qkv = true,
    .buffers = {".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"},
    .read =
        [](ConfigReader& json, TransformerConfig& c) {
          c.vocab_size = json.need<int64_t>("vocab_size");
          c.hidden_size = json.need<int64_t>("hidden_size");
          c.intermediate_size = json.need<int64_t>("intermediate_size");
          c.num_hidden_layers = json.need<int64_t>("num_hidden_layers");
          c.num_attention_heads = c.num_key_value_heads = json.need<int64_t>("num_attention_heads");
          c.head_dim = c.hidden_size / c.num_attention_heads;
          c.max_position_embeddings = json.get<int64_t>("max_position_embeddings", 2048);
          c.norm_eps = json.get("layer_norm_eps", 1e-5);
          c.hidden_act = json.activation("hidden_act", "gelu");
          c.tie_word_embeddings = json.get("tie_word_embeddings", false);
          c.parallel_residual = json.get("use_parallel_residual", true);
          c.attention_bias = c.attention_output_bias = json.get("attention_bias", true);
          json.rope(c, json.get("rotary_emb_base", 10000.0), json.get("rotary_pct", 0.25));
          json.only("is_decoder", false);
          c.norm = "layer", c.gated_mlp = false, c.fused_qkv = true, c.mlp_bias = true;
        },
    .write =
        [](const TransformerConfig& c, Json& json) {
          json.update({{"hidden_size", c.hidden_size},
                       {"intermediate_size", c.intermediate_size},
                       {"num_hidden_layers", c.num_hidden_layers},
                       {"num_attention_heads", c.num_attention_heads},
                       {"max_position_embeddings", c.max_position_embeddings},
                       {"layer_norm_eps", c.norm_eps},
                       {"hidden_act", activation_name(c)},
                       {"use_parallel_residual", c.parallel_residual},
                       {"attention_bias", c.attention_bias},
                       {"rotary_emb_base", c.rope_theta},
                       {"rotary_pct", c.rotary_dim == 0 ? 1.0 : static_cast<double>(c.rotary_dim) / static_cast<double>(c.head_dim)},
                       {"rope_parameters", rope_parameters(c)}});
        }};

}  // namespace inoculum
