#include "training/metrics.h"

#include <cmath>
#include <sstream>
#include <utility>

#include "core/base/error.h"
#include "core/base/process.h"

namespace inoculum {
namespace {

std::vector<Json> rows_until(const fs::path& file, int64_t step) {
  std::vector<Json> rows;
  if (step == 0 || !fs::exists(file)) return rows;
  // Its last line may have been cut by a full disk.
  std::string text = read_file(file);
  text.resize(text.rfind('\n') + 1);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const Json row = Json::parse(line, nullptr, false);
    if (!row.is_object() || !row.contains("step"))
      throw Error("is no line of a step",
                  {.file = file.string(), .line = static_cast<int>(rows.size()) + 1});
    if (row.at("step") > step) break;
    rows.push_back(row);
  }
  return rows;
}

void add_evaluation_scalars(EventFile& events, const Json& row, double time) {
  if (!row.contains("evaluation")) return;
  std::vector<std::pair<std::string, double>> values;
  for (const auto& [name, value] : row.at("evaluation").items())
    values.emplace_back("evaluation/" + name, value);
  events.scalars(row.at("step"), time, values);
}

void add_training_scalars(EventFile& events, const Json& row, double time) {
  std::vector<std::pair<std::string, double>> values;
  for (const char* name : {"loss", "lr", "grad_norm", "tokens_per_second"})
    values.emplace_back(std::string("train/") + name, row.at(name));
  events.scalars(row.at("step"), time, values);
}

}  // namespace

MetricsLog::MetricsLog(const fs::path& folder, int64_t step)
    : file_(folder / "metrics.jsonl"), rows_(rows_until(file_, step)), events_(folder) {
  write_jsonl(file_, rows_);
  lines_.open(file_, std::ios::app);
  // The events get times as if the steps before had been made just now.
  double seconds_ago = 0;
  for (const Json& row : rows_) seconds_ago += row.at("seconds").get<double>();
  for (const Json& row : rows_) {
    add_training_scalars(events_, row, unix_time() - seconds_ago);
    add_evaluation_scalars(events_, row, unix_time() - seconds_ago);
    seconds_ago -= row.at("seconds").get<double>();
  }
}

bool MetricsLog::lacks_evaluation(int64_t step) const {
  return !rows_.empty() && rows_.back().at("step") == step && !rows_.back().contains("evaluation");
}

void MetricsLog::add_evaluation(const std::map<std::string, double>& evaluation) {
  rows_.back()["evaluation"] = evaluation;
  lines_.close();
  write_jsonl(file_, rows_);
  lines_.open(file_, std::ios::app);
  add_evaluation_scalars(events_, rows_.back(), unix_time());
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
  lines_ << row.dump() << '\n' << std::flush;
  if (!lines_)
    throw Error("cannot write the metrics", {.file = file_.string()}, "is the disk full?");
  add_training_scalars(events_, row, unix_time());
  rows_.push_back(std::move(row));
}

std::vector<double> losses_of(const fs::path& folder) {
  const fs::path file = folder / "metrics.jsonl";
  std::vector<double> losses;
  read_jsonl(file, [&](const Json& row, int) { losses.push_back(row.at("loss")); });
  if (losses.empty())
    throw Error("this tells of no step", {.file = file.string()},
                "remove the folder, and it is trained again");
  return losses;
}

}  // namespace inoculum
