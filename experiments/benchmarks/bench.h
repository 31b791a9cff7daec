// Timings of the engine, beside the machine's own matrix products.
#pragma once

#include <string>

#include "core/base/files.h"

namespace inoculum {

struct BenchConfig {
  std::string model = "experiments/models/persona_1";
  int64_t rows = 16, time = 256;           // a training batch
  int64_t samples = 256, new_tokens = 64;  // none stops early
  int64_t repeats = 5;
  // A folder, and a file whose text it splits: where they are given, nothing else is timed.
  std::string tokenizer, text;
};

// The best of the repeats. Of a tokenizer, {"lines": {"ids", "MB_per_second"}, "whole": …}; else
// {"bf16": {"gemm_gflops", "train": {"tokens_per_second", "share_of_gemm"}, "sample":
// {"tokens_per_second"}}, "fp32": …}, without bf16 where the processor is slow in it.
Json run_benchmarks(const BenchConfig& config);

}  // namespace inoculum
