// GPT-NeoX (Pythia): rotary positions on a part of each head, attention and MLP side by side, one
// projection whose rows lie head by head.
#include "core/model/families.h"

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
          c.vocab_size = json.size("vocab_size");
          c.hidden_size = json.size("hidden_size");
          c.intermediate_size = json.size("intermediate_size");
          c.num_hidden_layers = json.size("num_hidden_layers");
          c.num_attention_heads = c.num_key_value_heads = json.size("num_attention_heads");
          c.head_dim = c.hidden_size / c.num_attention_heads;
          c.max_position_embeddings = json.size("max_position_embeddings", 2048);
          c.norm_eps = json.get("layer_norm_eps", 1e-5);
          c.hidden_act = json.activation("hidden_act", "gelu");
          c.tie_word_embeddings = json.get("tie_word_embeddings", false);
          c.parallel_residual = json.get("use_parallel_residual", true);
          c.attention_bias = c.attention_output_bias = json.get("attention_bias", true);
          json.rope(c, 10000, 0.25);
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
                       {"rotary_pct", rotary_share(c)}});
          write_rope(c, json);
        }};

}  // namespace inoculum
