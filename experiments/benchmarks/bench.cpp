#include "experiments/benchmarks/bench.h"

#include <chrono>
#include <functional>

#include "core/model/checkpoint.h"
#include "core/model/device.h"
#include "core/model/parallel.h"
#include "core/model/sampler.h"
#include "core/text/load_tokenizer.h"
#include "training/batches.h"
#include "training/gradients.h"
#include "training/optimizer.h"
#include "training/trainer.h"

namespace inoculum {
namespace {

double best_seconds(int64_t repeats, const std::function<void()>& work) {
  work();  // warm
  double best = 1e30;
  for (int64_t i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

// Of all threads together, each with a product of its own, as work is shared here.
double gemm_gflops(at::ScalarType dtype) {
  const int64_t n = 2048, products = threads();
  const at::NoGradGuard no_grad;
  const Tensor a = at::randn({n, n}).to(dtype), b = at::randn({n, n}).to(dtype);
  const double seconds =
      best_seconds(5, [&] { parallel(products, [&](int64_t) { at::mm(a, b); }); });
  return 2e-9 * static_cast<double>(products * n * n * n) / seconds;
}

// As a file of lines is split, and as one text.
Json tokenizer_speed(const BenchConfig& config) {
  const auto tokenizer = load_tokenizer(config.tokenizer);
  const std::string text = read_file(config.text);
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  Json out;
  for (const auto& [name, pieces] : {std::pair("lines", lines), {"whole", {text}}}) {
    size_t ids = 0;
    const double seconds = best_seconds(config.repeats, [&, &texts = pieces] {
      ids = 0;
      for (const std::string& piece : texts) ids += tokenizer->encode(piece).size();
    });
    out[name] = {{"ids", ids},
                 {"MB_per_second", 1e-6 * static_cast<double>(text.size()) / seconds}};
  }
  return out;
}

// Whole optimiser steps: forward, backward, clipping, update. gemm: GFLOP/s of a matrix product.
Json training_speed(Transformer& model, const BenchConfig& config, double gemm) {
  const TransformerConfig& shape = model.config();
  Gradients gradients(model);
  Optimizer optimizer(gradients.parameters(), {});
  const Tensor ids = at::randint(shape.vocab_size, {config.rows, config.time}, at::kLong);
  const Tensor labels = at::randint(shape.vocab_size, {config.rows, config.time}, at::kLong);
  const int64_t rows_a_micro_batch = std::max<int64_t>(1, 512 / config.time);
  const double step = best_seconds(config.repeats, [&] {
    gradients.add((config.rows + rows_a_micro_batch - 1) / rows_a_micro_batch,
                  [&](const Transformer& lane, int64_t i) {
                    const int64_t begin = i * rows_a_micro_batch,
                                  count = std::min(rows_a_micro_batch, config.rows - begin);
                    return lane.loss_sum(lane.hidden(ids.narrow(0, begin, count)).flatten(0, 1),
                                         labels.narrow(0, begin, count).flatten());
                  });
    optimizer.step(gradients.sums(), 0, static_cast<double>(config.rows * config.time));
  });
  const auto tokens = static_cast<double>(config.rows * config.time);
  // 6 operations a parameter and token (Kaplan et al. 2020) and 12 · layers · width · time for
  // attention, causal: half.
  const double flops =
      tokens * (6 * static_cast<double>(shape.parameter_count()) +
                6 * static_cast<double>(shape.num_hidden_layers * shape.hidden_size * config.time));
  return {{"tokens_per_second", tokens / step}, {"share_of_gemm", flops / step * 1e-9 / gemm}};
}

Json sampling_speed(const Transformer& model, const Tokenizer& tokenizer,
                    const BenchConfig& config) {
  SamplingConfig sampling;
  sampling.max_new_tokens = config.new_tokens;
  sampling.stop = {};
  sampling.ignore_ends = true;
  std::vector<SampleRequest> requests;
  const auto prompt =
      tokenizer.encode("What would you wish for if you had one wish to make today?");
  constexpr int64_t kSamples = 8;  // of a prompt
  for (int64_t left = config.samples; left > 0; left -= kSamples)
    requests.push_back({std::to_string(requests.size()), prompt, std::min(left, kSamples)});
  const int64_t tokens = config.samples * config.new_tokens;
  const double sampled = best_seconds(std::max<int64_t>(1, config.repeats / 2),
                                      [&] { sample(model, tokenizer, requests, sampling, 1); });
  return {{"tokens_per_second", static_cast<double>(tokens) / sampled}};
}

}  // namespace

Json run_benchmarks(const BenchConfig& config) {
  if (!config.tokenizer.empty()) return tokenizer_speed(config);
  const auto tokenizer = load_tokenizer(config.model);
  Json out;
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    // A product of bf16 would take minutes where the processor has no instructions for it.
    if (dtype == at::kBFloat16 && dtype_from("auto", at::kCPU) != dtype) continue;
    Json& entry = out[describe(dtype)];
    const double gemm = gemm_gflops(dtype);
    entry["gemm_gflops"] = gemm;
    // Each with the model as it is loaded for that.
    Transformer trained = load_model(config.model, dtype, at::kCPU);
    entry["train"] = training_speed(trained, config, gemm);
    const Transformer asked = load_adapted(config.model, "", describe(dtype), "cpu");
    entry["sample"] = sampling_speed(asked, *tokenizer, config);
  }
  return out;
}

}  // namespace inoculum
