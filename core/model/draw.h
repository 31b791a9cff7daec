// Drawing tokens from logits, each row by settings and a random stream of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/config.h"
#include "core/base/random.h"
#include "core/model/declarations.h"

namespace inoculum {

struct SamplingConfig {
  double temperature = 1.0;
  double top_p = 1.0;
  int64_t top_k = 0;
  int64_t max_new_tokens = 96;
  std::vector<std::string> stop = {"<|end|>"};
  int64_t rows = 256;
  bool ignore_ends = false;  // goes on behind the tokenizer's end tokens: for benchmarks alone

  // Below a millionth logits would overflow, and the likeliest token is drawn anyway.
  bool greedy() const { return temperature < 1e-6; }
  void fields(Fields& f);
};

// A token to be drawn: by the weights of this row, with a number of this stream.
struct Draw {
  int64_t row;
  const SamplingConfig* config;
  Random* random;
};

// What `draw` draws from: probabilities, or where greedy the logits themselves. logits: float
// [row, vocabulary]; configs: of the first rows, at least one; what stands behind them is padding.
Tensor weights_of(const Tensor& logits, std::span<const SamplingConfig* const> configs);

// One token for each, from `weights`, float [row, vocabulary], where they lie: those of a large
// vocabulary on a GPU stay there, and the tokens alone come back, in one copy.
std::vector<int32_t> draw(const Tensor& weights, const std::vector<Draw>& draws);

// log p of a token, and the likeliest tokens there with theirs.
struct TokenLogprob {
  int32_t id = 0;
  double logprob = 0;
  std::vector<std::pair<int32_t, double>> top = {};
};

// A token of a row whose log-probability is asked for, with so many of the likeliest there.
struct LogprobRequest {
  int64_t row;
  int32_t id;
  int64_t top;
};

// By the model's own distribution, at temperature 1. logits: float [row, vocabulary]. On a GPU the
// host waits once for all of them.
std::vector<TokenLogprob> logprobs_of(const Tensor& logits,
                                      const std::vector<LogprobRequest>& asked);

}  // namespace inoculum
