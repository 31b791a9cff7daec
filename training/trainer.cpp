#include "training/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>
#include <optional>

#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/base/signals.h"
#include "core/base/strings.h"
#include "core/model/device.h"
#include "core/model/transformer.h"
#include "training/batches.h"
#include "training/checkpoints.h"
#include "training/gradients.h"
#include "training/memory.h"
#include "training/metrics.h"
#include "training/optimizer.h"

namespace inoculum {
namespace {

Tensor log_probabilities(const Transformer& model, const Tensor& hidden) {
  return at::log_softmax(model.logits(hidden).to(at::kFloat), -1);
}

// The sum of a micro-batch's losses.
Tensor loss_of(const Transformer& model, const Batch& batch, const TrainingRun& run) {
  const at::Device device = model.embedding.device();
  const Tensor ids = to_device(batch.input_ids, device), labels = batch.labels.flatten();
  const auto loss = [&](const Tensor& kept, const Tensor& wanted) {
    const Tensor hidden = model.hidden(ids, batch.lengths, kept).squeeze(0);
    Tensor sum = model.loss_sum(hidden, to_device(wanted, device));
    if (run.kl_weight == 0) return sum;
    Tensor expected;
    {
      const at::NoGradGuard no_grad;
      expected = log_probabilities(*run.reference,
                                   run.reference->hidden(ids, batch.lengths, kept).squeeze(0));
    }
    const Tensor found = log_probabilities(model, hidden);
    return sum + run.kl_weight * (expected.exp() * (expected - found)).sum();
  };
  if (batch.supervised == labels.numel()) return loss({}, labels);
  // What is not trained on is not computed behind the last attention.
  const Tensor kept = at::nonzero(labels >= 0).squeeze(1);
  return loss(to_device(kept, device), labels.index_select(0, kept));
}

struct StepTokens {
  double supervised = 0, all = 0;
};

StepTokens count_tokens(const std::vector<Batch>& batches, const Ranks& ranks) {
  StepTokens count;
  for (const Batch& batch : batches) {
    count.supervised += static_cast<double>(batch.supervised);
    count.all += static_cast<double>(batch.labels.numel());
  }
  const auto sums = ranks.sum_numbers({count.supervised, count.all});
  return {sums[0], sums[1]};
}

Error not_finite(int64_t step, const OptimizerConfig& optimizer, const fs::path& folder) {
  return Error("the loss or its gradient is not finite at step " + std::to_string(step),
               {.file = folder.string()},
               "lower optimizer.lr (now " + six_digits(optimizer.lr) +
                   ") or use dtype: fp32; the last checkpoint is untouched");
}

TrainingResult train_steps(Transformer& model, const StepSource& source,
                           const TrainerConfig& config, const TrainingRun& run) {
  model.recompute = config.recompute == "block";
  Gradients gradients(model, run.ranks);
  Optimizer optimizer(gradients.parameters(), config.optimizer);
  const Checkpoints checkpoints(run.folder, config.keep_checkpoints);
  const int64_t first = checkpoints.restore(optimizer);
  std::optional<MetricsLog> log;
  std::optional<Progress::Quiet> quiet;
  if (run.ranks.first()) log.emplace(run.folder, first);
  else quiet.emplace();
  const auto due = [&](int64_t step) {
    return run.evaluate_every > 0 && (step % run.evaluate_every == 0 || step == run.steps);
  };
  if (log && first > 0 && due(first) && log->lacks_evaluation(first))
    log->add_evaluation(run.evaluate(first));  // it failed the last time
  Progress progress(run.folder.filename().string(), run.steps, first);

  TrainingResult result{first, first >= run.steps, 0};
  const int64_t end = run.until > 0 ? std::min(run.until, run.steps) : run.steps;
  for (int64_t step = first + 1; step <= end; ++step) {
    const auto start = std::chrono::steady_clock::now();
    const std::vector<Batch> batches = source(step - 1);
    const StepTokens tokens = count_tokens(batches, run.ranks);
    const double lr = config.optimizer.rate(step - 1, run.steps);
    const Tensor loss_sum = gradients.add(
        static_cast<int64_t>(batches.size()), [&](const Transformer& lane, int64_t i) {
          return loss_of(lane, batches[static_cast<size_t>(i)], run);
        });
    const Tensor gradient_norm = optimizer.step(gradients.sums(), lr, tokens.supervised);
    // Nothing else of a step waits for a GPU.
    const Tensor read = at::stack({loss_sum, gradient_norm}).cpu();
    const double loss = run.ranks.sum_numbers({read[0].item<double>()})[0] / tokens.supervised;
    const auto norm = read[1].item<double>();
    if (!std::isfinite(loss) || !std::isfinite(norm))
      throw not_finite(step, config.optimizer, run.folder);

    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double speed = tokens.all / seconds;
    if (log) {
      log->add({step, loss, lr, norm, std::llround(tokens.all), std::llround(tokens.supervised),
                speed, seconds});
      try {
        if (due(step)) log->add_evaluation(run.evaluate(step));
      } catch (...) {  // what was learnt stays
        checkpoints.save(step, optimizer);
        throw;
      }
    }
    progress.update(step, {{"loss", std::to_string(loss).substr(0, 6)},
                           {"tokens/s", std::to_string(static_cast<int64_t>(speed))}});

    result = {step, step == run.steps, loss};
    const bool pause = (run.ranks.any(stop_requested()) || step == run.until) && !result.finished;
    const bool keep = config.checkpoint_every > 0 && step % config.checkpoint_every == 0;
    if (run.ranks.first() && (pause || keep)) checkpoints.save(step, optimizer);
    if (pause) break;
  }
  progress.finish();
  return result;
}

}  // namespace

TrainingResult train(Transformer& model, const StepSource& source, const TrainerConfig& config,
                     const TrainingRun& run) {
  Batch largest;  // micro-batch so far: the error tells what it takes
  const StepSource watched = [&](int64_t step) {
    std::vector<Batch> batches = source(step);
    for (const Batch& batch : batches)
      if (!largest.labels.defined() || batch.labels.numel() > largest.labels.numel())
        largest = batch;
    return batches;
  };
  try {
    return train_steps(model, watched, config, run);
  } catch (const c10::Error& failure) {
    const std::string what = failure.what_without_backtrace();
    if (!is_out_of_memory(what)) throw;
    throw out_of_memory(model, largest, run.kl_weight > 0, what);
  } catch (const std::bad_alloc& failure) {
    throw out_of_memory(model, largest, run.kl_weight > 0, failure.what());
  }
}

}  // namespace inoculum
