// Fused operations of the transformer, each differentiable, each with its formula.
//
// On the CPU (float and bfloat16) they are loops of our own, which take sums and exponentials in
// float whatever the type. Elsewhere they are the same formula composed from ATen operations.
// Weights and tables are contiguous; all else is made so.
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
