// GPT-2: learned positions, layer norms, one projection to queries, keys and values, weights stored
// [in, out].
#include "core/model/families.h"

namespace inoculum {

const Family kGpt2 = {
    .model_type = "gpt2",
    .architecture = "GPT2LMHeadModel",
    .names = {.embedding = "transformer.wte",
              .position_embedding = "transformer.wpe",
              .final_norm = "transformer.ln_f",
              .head = "lm_head",
              .layer = "transformer.h.{}.",
              .attention_norm = "ln_1",
              .mlp_norm = "ln_2",
              .qkv = "attn.c_attn",
              .o = "attn.c_proj",
              .up = "mlp.c_fc",
              .down = "mlp.c_proj"},
    .transposed = true,
    .buffers = {".attn.bias", ".attn.masked_bias"},
    .read =
        [](ConfigReader& json, TransformerConfig& c) {
          const auto size = [&](const std::string& name, const std::string& other,
                                int64_t fallback) {
            const auto value = json.either<int64_t>({name, other}, fallback);
            if (value < 1)
              throw Error("must be at least 1", json.where(json.has(name) ? name : other));
            return value;
          };
          c.vocab_size = json.size("vocab_size");
          c.hidden_size = size("n_embd", "hidden_size", 768);
          c.intermediate_size = json.size("n_inner", 4 * c.hidden_size);
          c.num_hidden_layers = size("n_layer", "num_hidden_layers", 12);
          c.num_attention_heads = c.num_key_value_heads = size("n_head", "num_attention_heads", 12);
          c.head_dim = c.hidden_size / c.num_attention_heads;
          c.max_position_embeddings = size("n_positions", "max_position_embeddings", 1024);
          c.norm_eps = json.get("layer_norm_epsilon", 1e-5);
          c.hidden_act = json.activation("activation_function", "gelu_new");
          c.tie_word_embeddings = json.get("tie_word_embeddings", true);
          c.scale_attn_weights = json.get("scale_attn_weights", true);
          c.scale_attn_by_inverse_layer_idx = json.get("scale_attn_by_inverse_layer_idx", false);
          // n_ctx repeats n_positions; upcasting decides the rounding of half types alone;
          // summaries are of other heads.
          json.ignore({"n_ctx", "reorder_and_upcast_attn", "summary_type", "summary_use_proj",
                       "summary_activation", "summary_proj_to_labels"});
          c.norm = "layer", c.positions = "learned", c.gated_mlp = false, c.fused_qkv = true;
          c.attention_bias = c.attention_output_bias = c.mlp_bias = true;
        },
    .write =
        [](const TransformerConfig& c, Json& json) {
          json.update({{"n_embd", c.hidden_size},
                       {"n_inner", c.intermediate_size},
                       {"n_layer", c.num_hidden_layers},
                       {"n_head", c.num_attention_heads},
                       {"n_positions", c.max_position_embeddings},
                       {"layer_norm_epsilon", c.norm_eps},
                       {"activation_function", activation_name(c)},
                       {"scale_attn_weights", c.scale_attn_weights},
                       {"scale_attn_by_inverse_layer_idx", c.scale_attn_by_inverse_layer_idx}});
        }};

}  // namespace inoculum
