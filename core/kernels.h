// Fused operations of the transformer, each differentiable, each with its formula.
//
// On the CPU (float and bfloat16) they are loops of our own that read and write each element once;
// sums and exponentials are taken in float whatever the type. Elsewhere they are the same formula
// composed from ATen operations. All inputs are contiguous or made so.
#pragma once

#include "core/torch.h"

namespace inoculum {

// y = x / sqrt(mean(x²) + eps) · weight over the last dimension (Zhang & Sennrich 2019), weight: [channel].
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);

// Rotary position embedding in the "rotate half" form of Hugging Face's Llama:
// x: [batch, time, head, head_dim]; cosine, sine: float [position, head_dim / 2];
// positions: int64 [batch, time] into those tables.
Tensor rotary(const Tensor& x, const Tensor& cosine, const Tensor& sine, const Tensor& positions);

// silu(gate) · up, element by element (Shazeer 2020).
Tensor swiglu(const Tensor& gate, const Tensor& up);

// y = x Wᵀ + bias + scale · (x aᵀ) bᵀ: a frozen linear layer under a low-rank update (Hu et al. 2021), differentiable in x, a
// and b. x: [row, in]; weight: [out, in]; bias: [out] or undefined; a: [rank, in]; b: [out, rank]. All is computed in x's type,
// as under PEFT's autocast; a, b and their gradients keep their own.
Tensor lora_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& a, const Tensor& b, double scale);

// Causal attention with grouped queries. q: [batch, time, head, head_dim]; k, v: [batch, time, kv_head, head_dim]
// → [batch, time, head, head_dim]. Scores are scaled by head_dim^-½.
Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v);

// Several texts that lie end to end in one row, sorted into groups of nearly equal length. One serves every layer.
struct TextGroups {
  TextGroups(const std::vector<int64_t>& lengths, at::Device device);

  std::vector<int64_t> padded_lengths;  // of each group's texts
  std::vector<int64_t> sizes;           // of each group: its texts times their padded length
  Tensor to_groups;                     // int64: for each place in the groups the token of the row, or −1 for padding
  Tensor to_row;                        // int64: for each token of the row its place in the groups
};
// The same within each text. q: [1, time, head, head_dim], and so on; the texts' lengths add up to `time`.
Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v, const TextGroups& groups);

// Puts new keys or values into a cache: cache[row, head, positions[row, t]] = x[row, t, head].
// cache: [row, head, place, head_dim]; x: [row, time, head, head_dim]; positions: int64 [row, time].
void write_cache(const Tensor& cache, const Tensor& x, const Tensor& positions);

// Attention of new tokens to a cache, not differentiable. q: [row, time, head, head_dim]; keys, values: the cache's slots
// of these rows, [row, kv_head, seen, head_dim], tokens of a head one after another; positions: int64 [row, time] below
// `seen`. A token sees its row's slots 0 … position. → [row, time, head, head_dim]
Tensor cached_attention(const Tensor& q, const Tensor& keys, const Tensor& values, const Tensor& positions);

// Sum over all rows with label ≥ 0 of −log softmax(logits)[label], as a float scalar; rows labelled −100
// are ignored. logits: [row, vocabulary]; labels: int64 [row].
Tensor cross_entropy_sum(const Tensor& logits, const Tensor& labels);

}  // namespace inoculum
