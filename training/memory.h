// How much memory training takes, for the error that says that there is too little.
#pragma once

#include <string>

#include "core/base/error.h"
#include "core/model/transformer.h"
#include "training/batches.h"

namespace inoculum {

// failure: LibTorch's words. batch: the largest micro-batch so far, or an empty one. kl: the loss
// has a KL to the start.
Error out_of_memory(Transformer& model, const Batch& batch, bool kl, const std::string& failure);

}  // namespace inoculum
