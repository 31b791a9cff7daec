// A decoder-only transformer expressed by one configuration.
//
// The fields carry the names of Hugging Face's `config.json` where it has one; parameters carry the
// names of the family's checkpoints ("model.layers.0.self_attn.q_proj.weight"). A family
// (core/model/families.h) is a mapping of names and a setting of the switches, never a copy of the
// forward pass.
//
//   Transformer model(config, Random(seed, "initial weights"));
//   Tensor h = model.hidden(input_ids);  // [batch, time] → [batch, time, hidden_size]
//   Tensor loss = model.loss_sum(h.flatten(0, 1), labels.flatten());
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/model/attention.h"
#include "core/model/linear.h"
#include "core/model/torch.h"
#include "core/model/transformer_config.h"

namespace inoculum {

// Low-rank update of a linear layer (Hu et al. 2021): y = x (W + scale · B A)ᵀ + bias. With a
// magnitude (DoRA, Liu et al. 2024) each row of W + scale · B A is brought to that length, the
// length before being taken as a constant in backward.
struct LoraWeights {
  Tensor a;  // [rank, in]
  Tensor b;  // [out, rank]
  double scale = 1;
  Tensor magnitude = {};  // [out], or undefined

  // The same, made once: forward passes without gradients compute with it what training does.
  struct Ready {
    LowRank update;
    Tensor gain;
  };
  std::optional<Ready> ready = {};

  // Of W + scale · B A, float [out], a constant in backward.
  Tensor row_lengths(const Tensor& weight) const;
  // magnitude / row_lengths, [out] in the weight's type; undefined where there is no magnitude.
  Tensor gain(const Tensor& weight) const;
};

struct Linear {
  Tensor weight;  // [out, in]
  Tensor bias;    // [out], or undefined
  std::optional<LoraWeights> lora;
  PackedWeight pack;  // of the weight, by Transformer::pack

  Tensor operator()(const Tensor& x) const;  // [..., in] → [..., out]
};

struct Norm {
  Tensor weight;  // [channel]
  Tensor bias;    // [channel], or undefined
};

struct Layer {
  // Those that the family has not are undefined.
  Norm attention_norm, mlp_norm;                // before each
  Norm attention_output_norm, mlp_output_norm;  // behind each, before it is added
  Norm q_norm, k_norm;                          // of a head, or of all heads at once
  Linear qkv;                                   // queries, keys, values: this one, or the three
  Linear q, k, v, o;
  Linear gate, up, down;  // `gate` has no weight in a plain MLP
};

// Keys and values of the tokens seen so far, one slot a row of the batch. Rows have lengths of
// their own.
struct KeyValueCache {
  KeyValueCache(const TransformerConfig& config, int64_t rows, int64_t capacity,
                at::TensorOptions options);

  KeyValueCache rows(int64_t begin, int64_t count) const;  // a view of these slots
  // The first `length` places of `their_rows` become those of `rows`: copy_cache of every layer.
  void copy(const KeyValueCache& from, const std::vector<int64_t>& their_rows,
            const std::vector<int64_t>& rows, int64_t length);

  std::vector<Tensor> keys, values;  // a layer each: [row, kv_head, capacity, head_dim]
  int64_t capacity;
};

// Texts side by side, a row each, padded at their ends. int64, on the CPU.
struct PaddedTexts {
  PaddedTexts(int64_t texts, int64_t time);
  void put(int64_t row, std::span<const int32_t> tokens, int64_t first_position = 0);

  Tensor ids;        // [text, time]
  Tensor positions;  // [text, time], −1 for padding
};

class Transformer {
 public:
  // Weights drawn as Hugging Face does: normal(0, initializer_range) for matrices, ones for norms.
  // float32 on the CPU.
  Transformer(TransformerConfig config, Random random);
  // Weights left undefined, to be filled by a checkpoint.
  explicit Transformer(TransformerConfig config);

  const TransformerConfig& config() const { return config_; }
  at::TensorOptions options() const { return embedding.options().requires_grad(false); }

  // Scoring: causal attention over whole rows, padding at the end. int64 [batch, time] → [batch,
  // time, hidden]. Training: with `lengths`, the one row [1, time] holds texts of those lengths end
  // to end, each of which begins at position 0 and sees itself alone. With `kept`, int64 places in
  // [batch · time], their states alone: → [1, kept, hidden]. What comes behind the last attention
  // is then spared for the others.
  Tensor hidden(const Tensor& input_ids, const std::vector<int64_t>& lengths = {},
                const Tensor& kept = {}) const;
  // Generation: writes `input_ids` [row, time] at `positions` [row, time] of the cache's first
  // slots, a row each, and attends to everything before. A position of −1 is padding. Both lie on
  // the CPU, so that the model's device is not asked how long the rows are. → [row, time, hidden],
  // or of `kept` places in [row · time], on the CPU too, [1, kept, hidden]
  Tensor hidden(const Tensor& input_ids, const Tensor& positions, KeyValueCache& cache,
                const Tensor& kept = {}) const;
  // Scoring: the one row [1, time] holds prompts, each with the texts that share it. Not
  // differentiable. → [1, kept, hidden], of `kept` places.
  Tensor hidden_behind(const Tensor& input_ids, const std::vector<PromptedTexts>& groups,
                       const Tensor& kept) const;
  Tensor logits(const Tensor& hidden) const;  // [..., hidden] → [..., vocabulary]

  // Every parameter with its name, in a fixed order; a tied output head appears once, as the
  // embedding.
  void for_each_parameter(const std::function<void(const std::string&, Tensor&)>& visit);
  // Every linear layer inside the blocks with its module path ("model.layers.0.self_attn.q_proj").
  void for_each_linear(const std::function<void(const std::string&, Linear&)>& visit);

  // −Σ log softmax(logits(hidden))[label] over the rows, as a float scalar; the logits of a large
  // vocabulary are never all there at once. hidden: [row, hidden]; labels: int64 [row], none of
  // them −100.
  Tensor loss_sum(const Tensor& hidden, const Tensor& labels) const;

  // The same of each row, [row] in double, without gradients.
  Tensor losses(const Tensor& hidden, const Tensor& labels) const;

  void to(at::Device device, at::ScalarType dtype);

  // For forward passes without gradients: keeps every large weight a second time, packed. Weights
  // must not change behind it.
  void pack();

  Tensor embedding;           // [vocabulary, hidden]
  Tensor position_embedding;  // [position, hidden], or undefined
  std::vector<Layer> layers;
  Norm final_norm;
  Linear head;  // weight undefined when tied

  // In training, keep of each block its input alone, and compute the block again in backward. The
  // model must then live, where it is, until backward is done.
  bool recompute = false;

 private:
  PackedWeight packed_output_;
  const Tensor& output_weight() const {
    return config_.tie_word_embeddings ? embedding : head.weight;
  }
  using Attend =
      std::function<Tensor(size_t layer, const Tensor& q, const Tensor& k, const Tensor& v)>;
  Tensor norm(const Norm& norm, const Tensor& x) const;
  Tensor mlp(const Layer& layer, const Tensor& x) const;
  AttentionRule attention_rule(size_t layer) const;
  bool slides(size_t layer) const;
  struct Pass;
  Tensor block(size_t layer, const Tensor& x, const Pass& pass) const;
  Tensor blocks(const Tensor& input_ids, const Tensor& positions, const Tensor& kept,
                Attend attend) const;

  // Rotary positions of the layers of one kind.
  struct Rotary {
    Tensor frequency;      // float [rotary_dim / 2]
    double magnitude = 1;  // of cosine and sine
  };
  Rotary rotary_of(double theta, const RopeScaling& scaling) const;
  struct Angles {
    Tensor cosine, sine;  // float [batch · time, rotary_dim / 2], or undefined
  };
  static Angles angles(const Rotary& rotary, const Tensor& positions);

  TransformerConfig config_;
  Rotary rotary_;
  Rotary local_rotary_;  // of sliding layers; undefined where theirs is the same
};

}  // namespace inoculum
