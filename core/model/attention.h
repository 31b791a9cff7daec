// Attention in training, in scoring and to a cache, under the rules of every family.
//
// On the CPU (float and bfloat16) rules without a cap, and without a window shorter than the text,
// run in kernels of our own, which sum scores and take their exponentials in float; in training up
// to 512 tokens, where the matrix of scores is small. Attention to a cache has its own for windows
// too. Else the formula is composed from ATen operations. All inputs are contiguous or made so.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/torch.h"

namespace inoculum {

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

}  // namespace inoculum
