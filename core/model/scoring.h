// Log-probabilities of texts, and the batches that they are read in.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/model/transformer.h"

namespace inoculum {

// Rows of ids in batches of like length, padded at their ends, to no more than `context` unless a
// row is longer: calls `use` with each batch's members, by their places in `rows`, and their ids,
// int64 [member, time] on the CPU. Empty rows may be left out. Several batches at once, each by one
// thread, where there are several.
void for_each_batch(
    const std::vector<std::vector<int32_t>>& rows, int64_t context,
    const std::function<void(const std::vector<size_t>& members, const Tensor& ids)>& use);

// log p(token | those before) for every token but the first, of each row of ids.
std::vector<std::vector<double>> score(const Transformer& model,
                                       const std::vector<std::vector<int32_t>>& rows);

// A text of which the tokens from `first` on are asked for; what stands before is its prompt.
struct Continuation {
  std::vector<int32_t> ids;
  size_t first = 1;  // 1 … ids.size()
};

// The same for the tokens from `first` on. A prompt that several texts share is read once.
std::vector<std::vector<double>> score(const Transformer& model,
                                       const std::vector<Continuation>& texts);

}  // namespace inoculum
