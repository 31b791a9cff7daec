// The part of LibTorch that the project uses: tensors and reverse-mode differentiation. Leaving out
// torch/torch.h (modules, optimisers, data loaders) halves the time of a compile.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace inoculum {
using at::Tensor;
}
