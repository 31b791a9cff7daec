// A decoder-only transformer expressed by one configuration.
//
// The fields carry the names of Hugging Face's `config.json`; parameters carry the names of its Llama
// checkpoints ("model.layers.0.self_attn.q_proj.weight"). Another family is a mapping of names onto
// these and a setting of the switches, never a copy of the forward pass.
//
//   Transformer model(config, Random(seed, "initial weights"));
//   Tensor h = model.hidden(input_ids);                      // [batch, time] → [batch, time, hidden_size]
//   Tensor loss = cross_entropy_sum(model.logits(h.flatten(0, 1)), labels.flatten());
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/random.h"
#include "core/torch.h"

namespace inoculum {

struct TransformerConfig {
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
  double rope_theta = 10000;
  std::string hidden_act = "silu";
  bool gated_mlp = true;
  bool tie_word_embeddings = true;
  bool attention_bias = false;         // on the query, key and value projections
  bool attention_output_bias = false;  // on the output projection
  bool mlp_bias = false;
  double initializer_range = 0.02;

  void fields(Fields& f);
  void check() const;  // throws Error where the fields do not fit one another
  int64_t parameter_count() const;
};

// Low-rank update of a linear layer (Hu et al. 2021): y = x Wᵀ + scale · (x Aᵀ) Bᵀ.
struct LoraWeights {
  Tensor a;  // [rank, in]
  Tensor b;  // [out, rank]
  double scale = 1;
};

struct Linear {
  Tensor weight;  // [out, in]
  Tensor bias;    // [out], or undefined
  std::optional<LoraWeights> lora;

  Tensor operator()(const Tensor& x) const;  // [..., in] → [..., out]
};

struct Norm {
  Tensor weight;  // [channel]
  Tensor bias;    // [channel], or undefined
};

struct Layer {
  Norm input_norm, post_attention_norm;
  Linear q, k, v, o;
  Linear gate, up, down;  // `gate` has no weight in a plain MLP
};

// Keys and values of the tokens seen so far, one slot a row of the batch. Rows have lengths of their own.
struct KeyValueCache {
  KeyValueCache(const TransformerConfig& config, int64_t rows, int64_t capacity, at::TensorOptions options);

  std::vector<Tensor> keys, values;  // a layer each: [row, kv_head, capacity, head_dim]
  int64_t capacity;
};

class Transformer {
 public:
  // Weights drawn as Hugging Face does: normal(0, initializer_range) for matrices, ones for norms. float32 on the CPU.
  Transformer(TransformerConfig config, Random random);
  // Weights left undefined, to be filled by a checkpoint.
  explicit Transformer(TransformerConfig config);

  const TransformerConfig& config() const { return config_; }
  at::TensorOptions options() const { return embedding.options().requires_grad(false); }

  // Scoring: causal attention over whole rows, padding at the end. int64 [batch, time] → [batch, time, hidden].
  // Training: with `lengths`, the one row [1, time] holds texts of those lengths end to end, each of which begins at
  // position 0 and sees itself alone.
  Tensor hidden(const Tensor& input_ids, const std::vector<int64_t>& lengths = {}) const;
  // Generation: writes `input_ids` [row, time] at `positions` [row, time] of the cache's first slots, a row each, and
  // attends to everything before. A position of −1 is padding. → [row, time, hidden]
  Tensor hidden(const Tensor& input_ids, const Tensor& positions, KeyValueCache& cache) const;
  Tensor logits(const Tensor& hidden) const;  // [..., hidden] → [..., vocabulary]

  // Every parameter with its name, in a fixed order; a tied output head appears once, as the embedding.
  void for_each_parameter(const std::function<void(const std::string&, Tensor&)>& visit);
  // Every linear layer inside the blocks with its module path ("model.layers.0.self_attn.q_proj").
  void for_each_linear(const std::function<void(const std::string&, Linear&)>& visit);

  void to(at::Device device, at::ScalarType dtype);

  Tensor embedding;  // [vocabulary, hidden]
  std::vector<Layer> layers;
  Norm final_norm;
  Linear head;  // weight undefined when tied

 private:
  Tensor norm(const Norm& norm, const Tensor& x) const;
  Tensor mlp(const Layer& layer, const Tensor& x) const;

  TransformerConfig config_;
  Tensor cosine_, sine_;  // float [position, head_dim / 2]
  void make_rotary_tables(at::Device device);
};

}  // namespace inoculum
