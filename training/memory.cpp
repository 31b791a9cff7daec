#include "training/memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/model/checkpoint.h"
#include "core/model/device.h"

namespace inoculum {
namespace {

std::string binary_size(double bytes) {
  return bytes < (1 << 30) ? fmt::format("{:.0f} MiB", bytes / (1 << 20))
                           : fmt::format("{:.1f} GiB", bytes / (1 << 30));
}

// Weights, twice where the loss has a KL to the start, and of what is trained four float32 copies:
// masters, gradients and two moments.
double state_bytes(Transformer& model, bool kl) {
  double trained = 0;
  for_each_trained(model, [&](const std::string&, Tensor& tensor) {
    trained += static_cast<double>(tensor.numel());
  });
  const auto size = static_cast<double>(model.embedding.element_size());
  const auto weights = size * static_cast<double>(model.config().parameter_count());
  return (kl ? 2 : 1) * weights + 16 * trained;
}

// What backward keeps of a micro-batch, roughly: for each token and layer 10 hidden vectors and 4
// of the feed-forward (where blocks are recomputed, for one layer, and one hidden vector for each),
// and the logits of one chunk (see linear_cross_entropy_sum), once in float32. The KL to the start
// takes all logits at once, of both models, six times in float32.
double activation_bytes(const Transformer& model, const Batch& batch, bool kl) {
  const TransformerConfig& c = model.config();
  const auto size = static_cast<double>(model.embedding.element_size());
  const int64_t layer = 10 * c.hidden_size + 4 * c.intermediate_size;
  const int64_t values =
      batch.input_ids.numel() *
      (model.recompute ? layer + c.num_hidden_layers * c.hidden_size : layer * c.num_hidden_layers);
  const int64_t logits =
      std::min(batch.supervised * c.vocab_size, std::max<int64_t>(1 << 24, 64 * c.vocab_size));
  const double all_logits = kl ? 24.0 * static_cast<double>(batch.supervised * c.vocab_size) : 0;
  return size * static_cast<double>(values) + (4 + 2 * size) * static_cast<double>(logits) +
         all_logits;
}

}  // namespace

Error out_of_memory(Transformer& model, const Batch& batch, bool kl, const std::string& failure) {
  std::string needs =
      "the weights and the optimiser take about " + binary_size(state_bytes(model, kl));
  if (batch.input_ids.defined())
    needs += ", a micro-batch of " + std::to_string(batch.input_ids.numel()) + " tokens about " +
             binary_size(activation_bytes(model, batch, kl));
  return Error("there is not enough memory on " + describe(model.embedding.device()) + ": " +
                   needs + " (" + failure.substr(0, failure.find('\n')) + ")",
               {.field = "batch_tokens"},
               "lower it, or set `recompute: block`, or train an adapter (lora.rank), or take a "
               "smaller type (dtype: bf16); "
               "the last checkpoint is untouched");
}

}  // namespace inoculum
