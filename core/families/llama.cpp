// Llama (1 to 3.2), TinyLlama, SmolLM; and Mistral 7B, which is a Llama whose layers may look back a window only.
#include "core/families.h"

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

namespace {

void read(ConfigReader& json, TransformerConfig& c) {
  c.vocab_size = json.need<int64_t>("vocab_size");
  c.hidden_size = json.need<int64_t>("hidden_size");
  c.intermediate_size = json.need<int64_t>("intermediate_size");
  c.num_hidden_layers = json.need<int64_t>("num_hidden_layers");
  c.num_attention_heads = json.need<int64_t>("num_attention_heads");
  c.num_key_value_heads = json.get("num_key_value_heads", c.num_attention_heads);
  c.head_dim = json.get("head_dim", c.hidden_size / c.num_attention_heads);
  c.norm_eps = json.get("rms_norm_eps", 1e-6);
  c.tie_word_embeddings = json.get("tie_word_embeddings", false);
  c.hidden_act = json.activation("hidden_act", "silu");
  json.only("pretraining_tp", 1);
}

void write(const TransformerConfig& c, Json& json) {
  json.update({{"hidden_size", c.hidden_size},
               {"intermediate_size", c.intermediate_size},
               {"num_hidden_layers", c.num_hidden_layers},
               {"num_attention_heads", c.num_attention_heads},
               {"num_key_value_heads", c.num_key_value_heads},
               {"head_dim", c.head_dim},
               {"max_position_embeddings", c.max_position_embeddings},
               {"rms_norm_eps", c.norm_eps},
               {"rope_theta", c.rope_theta},
               {"rope_parameters", rope_parameters(c)},
               {"hidden_act", activation_name(c)}});
}

}  // namespace

const Family kLlama = {.model_type = "llama",
                       .architecture = "LlamaForCausalLM",
                       .names = llama_names(),
                       .buffers = {"rotary_emb.inv_freq"},
                       .read =
                           [](ConfigReader& json, TransformerConfig& c) {
                             read(json, c);
                             c.max_position_embeddings = json.get<int64_t>("max_position_embeddings", 2048);
                             c.attention_bias = c.attention_output_bias = json.get("attention_bias", false);
                             c.mlp_bias = json.get("mlp_bias", false);
                             json.rope(c, 10000);
                           },
                       .write =
                           [](const TransformerConfig& c, Json& json) {
                             write(c, json);
                             json.update({{"attention_bias", c.attention_bias}, {"mlp_bias", c.mlp_bias}});
                           }};

const Family kMistral = {.model_type = "mistral",
                         .architecture = "MistralForCausalLM",
                         .names = llama_names(),
                         .buffers = {"rotary_emb.inv_freq"},
                         .read =
                             [](ConfigReader& json, TransformerConfig& c) {
                               read(json, c);
                               c.max_position_embeddings = json.get<int64_t>("max_position_embeddings", 131072);
                               // Absent, it is the first release's; later ones say null.
                               c.sliding_window = json.has("sliding_window") ? json.need<int64_t>("sliding_window") : json.written("sliding_window") ? 0 : 4096;
                               json.rope(c, 10000);
                             },
                         .write =
                             [](const TransformerConfig& c, Json& json) {
                               write(c, json);
                               json["sliding_window"] = c.sliding_window > 0 ? Json(c.sliding_window) : Json();
                             }};

}  // namespace inoculum
