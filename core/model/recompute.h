// Memory for time: a part of the forward pass whose activations are made again in backward.
#pragma once

#include <functional>

#include "core/model/torch.h"

namespace inoculum {

// part(x), which may use trained leaves of any kind. Of its activations x alone is kept; backward
// calls `part` once more, with the same bits (Chen et al. 2016, "Training Deep Nets with Sublinear
// Memory Cost"). What it captures must live until then.
Tensor recomputed(std::function<Tensor(const Tensor&)> part, const Tensor& x);

}  // namespace inoculum
