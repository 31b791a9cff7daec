// Tensors, devices and models by name, for headers that need no more: what includes torch.h takes
// seconds longer to compile.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

namespace at {
class Tensor;
}

namespace inoculum {
using at::Tensor;
class Transformer;
}  // namespace inoculum
