// Linear layers, plain and under a low-rank update: products of a library, and of our own where its
// calls cost more than the work.
#pragma once

#include <vector>

#include "core/model/torch.h"

namespace inoculum {

// The next multiple. On the CPU numbers of rows are padded to one: the library of products prepares
// itself anew for every shape that it has not met, which takes as long as the product of a small
// model. So the shapes should be few, and the padding little.
inline int64_t round_up(int64_t size, int64_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}
constexpr int64_t kTokenMultiple = 32;  // tokens of a training step
constexpr int64_t kLengthMultiple = 8;  // tokens of each row of a batch

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

// The same into y, [row, out], of x, [row, in], on the CPU and without a gradient.
void linear_layer_into(const Tensor& y, const Tensor& x, const Tensor& weight,
                       const Tensor& bias = {});

// A low-rank update (Hu et al. 2021) as it is multiplied with rows of one type on one device.
struct LowRank {
  Tensor down;  // [rank, in]: a
  Tensor up;    // [rank, out]: scale · bᵀ
  bool narrow;  // for kernels of our own: in float, with ranks of zeros up to a multiple of four
};
// Of rows like x, in the type of x but where it is narrow: on the CPU, of few ranks.
LowRank low_rank(const Tensor& a, const Tensor& b, double scale, const Tensor& x);

// y += (x downᵀ) up, in place, without a gradient. x: [row, in], y: [row, out], both contiguous.
void add_low_rank(const Tensor& y, const Tensor& x, const LowRank& update);

// y = x Wᵀ + scale · (x aᵀ) bᵀ: a frozen linear layer under such an update, differentiable in x, a
// and b. x: [row, in]; weight: [out, in]; a: [rank, in]; b: [out, rank]. The sum is in
// x's type, and so is the update, as under PEFT's autocast, but where it is narrow. a, b and their
// gradients keep their own type.
Tensor lora_linear(const Tensor& x, const Tensor& weight, const Tensor& a, const Tensor& b,
                   double scale);

}  // namespace inoculum
