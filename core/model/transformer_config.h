// What a transformer is: its sizes and switches. Fields carry the names of Hugging Face's
// config.json where it has one.
#pragma once

#include <string>
#include <vector>

#include "core/base/config.h"

namespace inoculum {

struct RopeScaling {
  std::string type =
      "default";  // default | linear | dynamic | llama3 | yarn, as in transformers' rope_type
  double factor = 1;
  int64_t original_max_position_embeddings = 0;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn (Peng et al. 2023)
  double attention_factor = 0;  // yarn, on cosine and sine; 0: 0.1 ln(factor) + 1
  bool truncate = true;         // yarn: the ramp's ends are whole

  void fields(Fields& f);
};

struct TransformerConfig {
  std::string family = "llama";
  int64_t vocab_size = 2048;
  int64_t hidden_size = 192;
  int64_t intermediate_size = 512;
  int64_t num_hidden_layers = 5;
  int64_t num_attention_heads = 6;
  int64_t num_key_value_heads = 6;
  int64_t head_dim = 32;
  int64_t max_position_embeddings = 512;
  std::string norm = "rms";
  double norm_eps = 1e-5;
  bool norm_plus_one = false;        // weights of norms are stored less 1 (Gemma)
  std::string positions = "rotary";  // rotary | learned
  double rope_theta = 10000;
  int64_t rotary_dim = 0;  // of a head's first dimensions that are turned; 0: all
  RopeScaling rope_scaling;
  double rope_local_base_freq = 0;  // rope_theta of sliding layers; 0: the same
  RopeScaling rope_local_scaling;   // rope_scaling of sliding layers with a base of their own
  int64_t sliding_window = 0;       // tokens that a sliding layer sees, itself included; 0: all
  std::vector<std::string> layer_types;  // full_attention | sliding_attention for each layer;
                                         // empty: all slide where there is a window
  double query_pre_attn_scalar = 0;      // scores are scaled by its inverse root; 0: head_dim
  bool scale_attn_weights = true;
  bool scale_attn_by_inverse_layer_idx = false;
  double attn_logit_softcapping = 0;  // scores become cap · tanh(score / cap); 0: they don't
  double final_logit_softcapping = 0;
  double embedding_scale = 1;
  bool qk_norm = false;            // an RMS norm on each head's query and key
  bool qk_norm_all_heads = false;  // or one on all heads' queries at once, one on keys
  bool input_norms = true;         // norms on what attention and MLP are given
  bool output_norms = false;       // norms on what they give
  bool parallel_residual = false;  // MLP beside attention, both on x
  bool fused_qkv = false;          // one projection to queries, keys and values
  std::string hidden_act = "silu";
  bool gated_mlp = true;
  bool tie_word_embeddings = true;
  bool attention_bias = false;         // on the query, key and value projections
  bool attention_output_bias = false;  // on the output projection
  bool mlp_bias = false;
  double initializer_range = 0.02;

  void fields(Fields& f);
  void check()
      const;  // Error where the sizes do not fit one another; check_model asks the family too
  int64_t parameter_count() const;
};

}  // namespace inoculum
