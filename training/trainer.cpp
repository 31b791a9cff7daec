#include "training/trainer.h"

#include <c10/core/DeviceGuard.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <optional>

#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/base/signals.h"
#include "core/model/checkpoint.h"
#include "core/model/device.h"
#include "core/model/kernels.h"
#include "core/model/parallel.h"
#include "training/gradients.h"
#include "training/tensorboard.h"

namespace inoculum {
namespace {

// A checkpoint is a folder that appears under its name in one rename, so that one which is there is
// whole.
fs::path checkpoint_path(const fs::path& folder, int64_t step) {
  std::string digits = std::to_string(step);
  digits.insert(0, digits.size() < 8 ? 8 - digits.size() : 0, '0');
  return folder / "checkpoints" / ("step_" + digits);
}

std::vector<fs::path> checkpoints(const fs::path& folder) {
  std::vector<fs::path> found;
  if (fs::is_directory(folder / "checkpoints"))
    for (const auto& entry : fs::directory_iterator(folder / "checkpoints"))
      if (entry.path().filename().string().starts_with("step_")) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

void save_checkpoint(const fs::path& folder, int64_t step, const Optimizer& optimizer,
                     int64_t keep) {
  replace_atomically(checkpoint_path(folder, step), [&](const fs::path& temporary) {
    fs::create_directories(temporary);
    save_tensors(temporary / "state.safetensors", optimizer.state());
    write_json(temporary / "state.json", {{"step", step}});
  });
  const auto all = checkpoints(folder);
  for (size_t i = 0; i + static_cast<size_t>(std::max<int64_t>(1, keep)) < all.size(); ++i)
    fs::remove_all(all[i]);
}

// The rows of metrics.jsonl up to the step that we continue from.
std::vector<Json> metrics_until(const fs::path& file, int64_t step) {
  std::vector<Json> rows;
  if (step > 0 && fs::exists(file))
    read_jsonl(file, [&](const Json& row, int) {
      if (row.value("step", int64_t{0}) <= step) rows.push_back(row);
    });
  return rows;
}

double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void add(EventFile& events, const Json& row, double time) {
  std::vector<std::pair<std::string, double>> values;
  for (const char* name : {"loss", "lr", "grad_norm", "tokens_per_second"})
    values.emplace_back(std::string("train/") + name, row.at(name));
  events.scalars(row.at("step"), time, values);
}

std::string binary_size(double bytes) {
  char text[32];
  if (bytes < (1 << 30)) std::snprintf(text, sizeof text, "%.0f MiB", bytes / (1 << 20));
  else std::snprintf(text, sizeof text, "%.1f GiB", bytes / (1 << 30));
  return text;
}

// What a step takes, about: weights; of what is trained four float32 copies (masters, gradients,
// two means); and what backward needs of a micro-batch, for each token and layer some 10 widths and
// 4 of the feed-forward, and the logits, once in float32.
Error out_of_memory(Transformer& model, const Batch& batch, const std::string& failure) {
  const TransformerConfig& c = model.config();
  const auto size = static_cast<double>(model.embedding.element_size());
  double parameters = 0;
  for_each_trained(model, [&](const std::string&, Tensor& tensor) {
    parameters += static_cast<double>(tensor.numel());
  });
  const double fixed = size * static_cast<double>(c.parameter_count()) + 16 * parameters;
  std::string needs = "the weights and the optimiser take about " + binary_size(fixed);
  if (batch.input_ids.defined()) {
    const int64_t tokens = batch.input_ids.numel();
    const double step = size * static_cast<double>(tokens * c.num_hidden_layers *
                                                   (10 * c.hidden_size + 4 * c.intermediate_size)) +
                        (4 + 2 * size) * static_cast<double>(batch.supervised * c.vocab_size);
    needs += ", a micro-batch of " + std::to_string(tokens) + " tokens about " + binary_size(step);
  }
  return Error("there is not enough memory on " + describe(model.embedding.device()) + ": " +
                   needs + " (" + failure.substr(0, failure.find('\n')) + ")",
               {.field = "batch_tokens"},
               "lower it, or train an adapter (lora.rank), or take a smaller type (dtype: bf16); "
               "the last checkpoint is untouched");
}

// The sum of a micro-batch's losses.
Tensor loss_of(const Transformer& model, const Batch& batch) {
  const at::Device device = model.embedding.device();
  const Tensor labels = batch.labels.flatten();  // [time]
  const Tensor hidden =
      model.hidden(batch.input_ids.to(device), batch.lengths).squeeze(0);  // [time, hidden]
  if (batch.supervised == labels.numel()) return model.loss_sum(hidden, labels.to(device));
  const Tensor kept = at::nonzero(labels >= 0).squeeze(1);  // the output head sees these alone
  return model.loss_sum(hidden.index_select(0, kept.to(device)),
                        labels.index_select(0, kept).to(device));
}

// largest: the largest micro-batch so far, for whoever explains a failure.
TrainingResult train_steps(Transformer& model, const StepSource& source, int64_t steps,
                           const TrainerConfig& config, const fs::path& folder,
                           const std::string& title, int64_t until, const Ranks& ranks,
                           Batch& largest) {
  Gradients gradients(model, ranks);
  Optimizer optimizer(gradients.parameters(), config.optimizer);
  int64_t first = 0;
  if (const auto saved = checkpoints(folder); !saved.empty()) {
    optimizer.load(load_tensors(saved.back() / "state.safetensors"));
    first = read_json(saved.back() / "state.json").at("step").get<int64_t>();
  }
  const fs::path metrics_file = folder / "metrics.jsonl";
  const std::vector<Json> before = metrics_until(metrics_file, first);
  std::ofstream metrics;
  std::optional<EventFile> events;
  if (ranks.first()) {
    write_jsonl(metrics_file, before);
    metrics.open(metrics_file, std::ios::app);
    // TensorBoard's file shows the same rows; those of before as if they had been made just now.
    events.emplace(folder);
    double seconds_ago = 0;
    for (const Json& row : before) seconds_ago += row.at("seconds").get<double>();
    for (const Json& row : before) {
      add(*events, row, unix_time() - seconds_ago);
      seconds_ago -= row.at("seconds").get<double>();
    }
  }
  std::optional<Progress::Quiet> quiet;
  if (!ranks.first()) quiet.emplace();

  Progress progress(title, steps, first);
  TrainingResult result{first, first >= steps, 0};
  for (int64_t step = first; step < (until > 0 ? std::min(until, steps) : steps); ++step) {
    const auto start = std::chrono::steady_clock::now();
    const std::vector<Batch> batches = source(step);
    int64_t supervised = 0, tokens = 0;
    for (const Batch& batch : batches) {
      supervised += batch.supervised;
      tokens += batch.labels.numel();
      if (!largest.labels.defined() || batch.labels.numel() > largest.labels.numel())
        largest = batch;
    }
    double loss_sum = gradients.add(static_cast<int64_t>(batches.size()),
                                    [&](const Transformer& lane, int64_t i) {
                                      return loss_of(lane, batches[static_cast<size_t>(i)]);
                                    });
    std::vector<Tensor>& summed = gradients.sums();
    if (ranks.size() > 1) {
      const auto sums = ranks.sum_numbers(
          {loss_sum, static_cast<double>(supervised), static_cast<double>(tokens)});
      loss_sum = sums[0], supervised = std::llround(sums[1]), tokens = std::llround(sums[2]);
    }
    const double lr = config.optimizer.rate(step, steps);
    const double loss = loss_sum / static_cast<double>(supervised);
    const double norm =
        std::isfinite(loss) ? optimizer.step(summed, lr, static_cast<double>(supervised)) : NAN;
    if (!std::isfinite(loss) || !std::isfinite(norm))
      throw Error("the loss or its gradient is not finite at step " + std::to_string(step + 1),
                  {.file = folder.string()},
                  "lower optimizer.lr (now " + std::to_string(lr) +
                      ") or use dtype: fp32; the last checkpoint is untouched");

    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double rate = static_cast<double>(tokens) / seconds;
    const Json row = {{"step", step + 1},
                      {"loss", loss},
                      {"lr", lr},
                      {"grad_norm", norm},
                      {"tokens", tokens},
                      {"supervised_tokens", supervised},
                      {"tokens_per_second", std::round(rate)},
                      {"seconds", seconds}};
    if (ranks.first()) {
      metrics << row.dump() << '\n' << std::flush;
      add(*events, row, unix_time());
    }
    if (!metrics)
      throw Error("cannot write the metrics", {.file = metrics_file.string()}, "is the disk full?");
    result = {step + 1, step + 1 == steps, loss};
    progress.update(step + 1, {{"loss", std::to_string(loss).substr(0, 6)},
                               {"tokens/s", std::to_string(static_cast<int64_t>(rate))}});

    const bool stop = (ranks.any(stop_requested()) || step + 1 == until) && !result.finished;
    if (!ranks.first()) {
      if (stop) break;
      continue;
    }
    if (stop || (config.checkpoint_every > 0 && (step + 1) % config.checkpoint_every == 0))
      save_checkpoint(folder, step + 1, optimizer, config.keep_checkpoints);
    if (stop) break;
  }
  progress.finish();
  return result;
}

}  // namespace

void TrainerConfig::fields(Fields& f) {
  f.value("device", device, "auto | cpu | cuda | cuda:N; auto takes a GPU where there is one");
  f.value("dtype", dtype, "bf16 (with float32 master weights) | fp32 | fp16",
          one_of({"bf16", "fp32", "fp16"}));
  f.value("checkpoint_every", checkpoint_every, "steps between checkpoints; 0: only when stopped",
          at_least(0));
  f.value("keep_checkpoints", keep_checkpoints, "newest checkpoints that are kept", at_least(1));
  f.group("optimizer", optimizer, "the optimizer and its schedule");
}

TrainingResult train(Transformer& model, const StepSource& source, int64_t steps,
                     const TrainerConfig& config, const fs::path& folder, const std::string& title,
                     int64_t until, const Ranks& ranks) {
  Batch largest;
  try {
    return train_steps(model, source, steps, config, folder, title, until, ranks, largest);
  } catch (const c10::Error& failure) {
    const std::string what = failure.what_without_backtrace();
    if (!is_out_of_memory(what)) throw;
    throw out_of_memory(model, largest, what);
  } catch (const std::bad_alloc& failure) {
    throw out_of_memory(model, largest, failure.what());
  }
}

}  // namespace inoculum
