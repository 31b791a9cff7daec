#include "training/metrics.h"

#include <chrono>
#include <cmath>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace inoculum {
namespace {

std::vector<Json> rows_until(const fs::path& file, int64_t step) {
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

void add_scalars(EventFile& events, const Json& row, double time) {
  std::vector<std::pair<std::string, double>> values;
  for (const char* name : {"loss", "lr", "grad_norm", "tokens_per_second"})
    values.emplace_back(std::string("train/") + name, row.at(name));
  if (row.contains("evaluation"))
    for (const auto& [name, value] : row.at("evaluation").items())
      values.emplace_back("evaluation/" + name, value);
  events.scalars(row.at("step"), time, values);
}

}  // namespace

MetricsLog::MetricsLog(const fs::path& folder, int64_t step)
    : file_(folder / "metrics.jsonl"), events_(folder) {
  const std::vector<Json> rows = rows_until(file_, step);
  write_jsonl(file_, rows);
  lines_.open(file_, std::ios::app);
  // The events get times as if the steps before had been made just now.
  double seconds_ago = 0;
  for (const Json& row : rows) seconds_ago += row.at("seconds").get<double>();
  for (const Json& row : rows) {
    add_scalars(events_, row, unix_time() - seconds_ago);
    seconds_ago -= row.at("seconds").get<double>();
  }
}

void MetricsLog::add(const StepMetrics& metrics) {
  Json row = {{"step", metrics.step},
              {"loss", metrics.loss},
              {"lr", metrics.lr},
              {"grad_norm", metrics.grad_norm},
              {"tokens", metrics.tokens},
              {"supervised_tokens", metrics.supervised_tokens},
              {"tokens_per_second", std::round(metrics.tokens_per_second)},
              {"seconds", metrics.seconds}};
  if (!metrics.evaluation.empty()) row["evaluation"] = metrics.evaluation;
  lines_ << row.dump() << '\n' << std::flush;
  if (!lines_)
    throw Error("cannot write the metrics", {.file = file_.string()}, "is the disk full?");
  add_scalars(events_, row, unix_time());
}

}  // namespace inoculum
