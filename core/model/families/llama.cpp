// Llama (1 to 3.2), TinyLlama, SmolLM; and Mistral 7B, which is a Llama whose layers may look back
// a window only.
#include "core/model/families.h"

namespace inoculum {

const ParameterNames& llama_names() {
  static const ParameterNames names = {.embedding = "model.embed_tokens",
                                       .final_norm = "model.norm",
                                       .head = "lm_head",
                                       .layer = "model.layers.{}.",
                                       .attention_norm = "input_layernorm",
                                       .mlp_norm = "post_attention_layernorm",
                                       .q = "self_attn.q_proj",
                                       .k = "self_attn.k_proj",
                                       .v = "self_attn.v_proj",
                                       .o = "self_attn.o_proj",
                                       .gate = "mlp.gate_proj",
                                       .up = "mlp.up_proj",
                                       .down = "mlp.down_proj"};
  return names;
}

void read_llama(ConfigReader& json, TransformerConfig& c, int64_t context) {
  c.vocab_size = json.size("vocab_size");
  c.hidden_size = json.size("hidden_size");
  c.intermediate_size = json.size("intermediate_size");
  c.num_hidden_layers = json.size("num_hidden_layers");
  c.num_attention_heads = json.size("num_attention_heads");
  c.num_key_value_heads = json.size("num_key_value_heads", c.num_attention_heads);
  c.head_dim = json.size("head_dim", c.hidden_size / c.num_attention_heads);
  c.max_position_embeddings = json.size("max_position_embeddings", context);
  c.norm_eps = json.get("rms_norm_eps", 1e-6);
  c.tie_word_embeddings = json.get("tie_word_embeddings", false);
  c.hidden_act = json.activation("hidden_act", "silu");
}

void write_llama(const TransformerConfig& c, Json& json) {
  json.update({{"hidden_size", c.hidden_size},
               {"intermediate_size", c.intermediate_size},
               {"num_hidden_layers", c.num_hidden_layers},
               {"num_attention_heads", c.num_attention_heads},
               {"num_key_value_heads", c.num_key_value_heads},
               {"head_dim", c.head_dim},
               {"max_position_embeddings", c.max_position_embeddings},
               {"rms_norm_eps", c.norm_eps},
               {"hidden_act", activation_name(c)}});
  write_rope(c, json);
}

const Family kLlama = {
    .model_type = "llama",
    .architecture = "LlamaForCausalLM",
    .names = llama_names(),
    .buffers = {"rotary_emb.inv_freq"},
    .read =
        [](ConfigReader& json, TransformerConfig& c) {
          read_llama(json, c, 2048);
          c.attention_bias = c.attention_output_bias = json.get("attention_bias", false);
          c.mlp_bias = json.get("mlp_bias", false);
          json.uniform_layers(c);
          json.rope(c, 10000);
        },
    .write =
        [](const TransformerConfig& c, Json& json) {
          write_llama(c, json);
          json.update({{"attention_bias", c.attention_bias}, {"mlp_bias", c.mlp_bias}});
        }};

const Family kMistral = {.model_type = "mistral",
                         .architecture = "MistralForCausalLM",
                         .names = llama_names(),
                         .buffers = {"rotary_emb.inv_freq"},
                         .read =
                             [](ConfigReader& json, TransformerConfig& c) {
                               read_llama(json, c, 131072);
                               // Absent, it is the first release's; later ones say null.
                               c.sliding_window = json.get<int64_t>(
                                   "sliding_window", json.written("sliding_window") ? 0 : 4096);
                               json.uniform_layers(c);
                               json.rope(c, 10000);
                             },
                         .write =
                             [](const TransformerConfig& c, Json& json) {
                               write_llama(c, json);
                               json["sliding_window"] =
                                   c.sliding_window > 0 ? Json(c.sliding_window) : Json();
                             }};

}  // namespace inoculum
