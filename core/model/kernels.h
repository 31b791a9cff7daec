// Fused operations of the transformer, each differentiable, each with its formula.
//
// On the CPU (float and bfloat16) they are loops of our own that read and write each element once;
// sums and exponentials are taken in float whatever the type. Elsewhere they are the same formula
// composed from ATen operations. All inputs are contiguous or made so.
#pragma once

#include "core/model/torch.h"

namespace inoculum {

// y = x / sqrt(mean(x²) + eps) · weight over the last dimension (Zhang & Sennrich 2019), weight:
// [channel]; with plus_one · (1 + weight), in float, as Gemma has it.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, bool plus_one = false);

// Rotary position embedding in the "rotate half" form of Hugging Face's Llama:
// x: [batch, time, head, head_dim]; cosine, sine: float [position, head_dim / 2];
// positions: int64 [batch, time] into those tables.
Tensor rotary(const Tensor& x, const Tensor& cosine, const Tensor& sine, const Tensor& positions);

// silu(gate) · up, element by element (Shazeer 2020).
Tensor swiglu(const Tensor& gate, const Tensor& up);

// A weight [out, in] once more, in blocks of outputs, each in the order in which oneDNN reads it.
// With few rows, putting a weight into that order takes longer than the product.
struct PackedWeight {
  std::vector<Tensor> blocks;  // none: the weight itself is used
  int64_t width = 0;           // outputs of a block; the last has what is left
};
// Without blocks where it is of no use: another type than bf16, another device than the CPU.
PackedWeight packed(const Tensor& weight);

// y = x Wᵀ + bias. x: [..., in]; weight: [out, in]; bias: [out] or undefined. Where no gradient is
// recorded a large product on the CPU is cut into blocks, by its shape alone, and threads share
// them; there `pack`, where it has blocks, stands for the weight, but for one or two rows.
Tensor linear_layer(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                    const PackedWeight& pack = {});

// y = x Wᵀ + scale · (x aᵀ) bᵀ: a frozen linear layer under a low-rank update (Hu et al. 2021),
// differentiable in x, a and b. x: [row, in]; weight: [out, in]; a: [rank, in]; b: [out, rank]. All
// is computed in x's type, as under PEFT's autocast; a, b and their gradients keep their own.
Tensor lora_linear(const Tensor& x, const Tensor& weight, const Tensor& a, const Tensor& b,
                   double scale);

// How a layer attends: scores q·k are scaled, then capped to cap · tanh(score / cap) where there is
// a cap; a token sees itself and the window − 1 tokens before it, or all where there is no window.
struct AttentionRule {
  double scale = 1;
  double softcap = 0;
  int64_t window = 0;
};

// Causal attention with grouped queries. q: [batch, time, head, head_dim]; k, v: [batch, time,
// kv_head, head_dim] → [batch, time, head, head_dim].
Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionRule& rule);

// The next multiple. On the CPU numbers of rows are padded to one: the library of products prepares
// itself anew for every shape that it has not met, which takes as long as the product of a small
// model. So the shapes should be few, and the padding little.
inline int64_t round_up(int64_t size, int64_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}
constexpr int64_t kTokenMultiple = 32;  // tokens of a training step
constexpr int64_t kLengthMultiple = 8;  // tokens of each row of a batch

// Several texts that lie end to end in one row, sorted into groups of nearly equal length. One
// serves every layer.
struct TextGroups {
  TextGroups(const std::vector<int64_t>& lengths, at::Device device);

  std::vector<int64_t> padded_lengths;  // of each group's texts
  std::vector<int64_t> sizes;           // of each group: its texts times their padded length
  Tensor to_groups;  // int64: for each place in the groups the token of the row; 0 for padding
  Tensor to_row;     // int64: for each token of the row its place in the groups
  Tensor padding;    // int64: the places in the groups that are padding
};
// The same within each text. q: [1, time, head, head_dim], and so on; the texts' lengths add up to
// `time`.
Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionRule& rule, const TextGroups& groups);

// A prompt, and texts that stand behind it in the same row. Each sees the prompt and itself.
struct PromptedTexts {
  int64_t prompt;              // tokens, 1 at least
  std::vector<int64_t> texts;  // tokens of each, 0 at least
};
// The same within groups that lie end to end, not differentiable. q: [1, time, head, head_dim], and
// so on; what the groups leave of `time` is padding.
Tensor prompted_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                          const AttentionRule& rule, const std::vector<PromptedTexts>& groups);

// Puts new keys or values into a cache: cache[row, head, positions[row, t]] = x[row, t, head].
// cache: [row, head, place, head_dim]; x: [row, time, head, head_dim]; positions: int64 [row,
// time].
void write_cache(const Tensor& cache, const Tensor& x, const Tensor& positions);

// The first `length` places of `their_rows` of one cache become those of `rows` of another, or of
// rows of the same that are none of `their_rows`.
void copy_cache(const Tensor& from, const std::vector<int64_t>& their_rows, const Tensor& to,
                const std::vector<int64_t>& rows, int64_t length);

// Attention of new tokens to a cache, not differentiable. q: [row, time, head, head_dim]; keys,
// values: the cache's slots of these rows, [row, kv_head, seen, head_dim], tokens of a head one
// after another; positions: int64 [row, time] below `seen`. A token sees its row's slots 0 …
// position. → [row, time, head, head_dim]
Tensor cached_attention(const Tensor& q, const Tensor& keys, const Tensor& values,
                        const Tensor& positions, const AttentionRule& rule);

// Sum over all rows with label ≥ 0 of −log softmax(z)[label], as a float scalar, with z = hidden
// weightᵀ, or cap · tanh(z / cap) where there is a cap; rows labelled −100 are ignored. hidden:
// [row, channel]; weight: [vocabulary, channel]; labels: int64 [row]. The logits of so many rows at
// a time are made, used for loss and gradient, and forgotten: [row, vocabulary] may not fit.
Tensor linear_cross_entropy_sum(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                                double softcap = 0);

// The same of each row, [row] in double, without gradients: 0 for those labelled −100.
Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                            double softcap = 0);

bool all_finite(const Tensor& x);  // without a temporary of its size, on the CPU

}  // namespace inoculum
