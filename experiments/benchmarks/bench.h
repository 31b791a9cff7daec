// Timings of the engine, beside the machine's own matrix products.
#pragma once

#include <string>

#include "core/base/files.h"

namespace inoculum {

struct BenchConfig {
  std::string model = "experiments/models/persona";
  int64_t rows = 16, time = 256;           // a training batch
  int64_t samples = 256, new_tokens = 64;  // none stops early
  int64_t repeats = 5;
  std::string tokenizer,
      text;  // a folder, and a file whose text it splits: times that, and nothing else
};

// Of a tokenizer, {"lines": {"ids", "MB_per_second"}, "whole": …}. Else {"gemm_gflops": {…},
// "train": {"tokens_per_second": …, "share_of_gemm": …}, "sample": {…}}: the best of the repeats.
Json run_benchmarks(const BenchConfig& config);

}  // namespace inoculum
