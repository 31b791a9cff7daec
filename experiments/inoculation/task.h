// What a configuration file is for. It says so in its first key:
//
//   task: train   # or pretrain, reproduce, sweep
//
// The task stands in files alone, beside the keys of the struct that it names: a run's settings and
// the hash of a sweep's cell are those of the struct.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/base/config.h"

namespace inoculum {

enum class Task { train, pretrain, reproduce, sweep };
std::string to_string(Task task);

struct TrainConfig;
struct PretrainConfig;
struct ReproduceConfig;
struct SweepConfig;
template <class Config>
struct TaskOf;
template <>
struct TaskOf<TrainConfig> {
  static constexpr Task value = Task::train;
};
template <>
struct TaskOf<PretrainConfig> {
  static constexpr Task value = Task::pretrain;
};
template <>
struct TaskOf<ReproduceConfig> {
  static constexpr Task value = Task::reproduce;
};
template <>
struct TaskOf<SweepConfig> {
  static constexpr Task value = Task::sweep;
};

// The task that the file names. Where it names none, its keys decide, and stderr says so once.
Task task_of(const Source& source);
bool is_sweep(const fs::path& file);
// Throws where the file names another task, or has a key of another.
void check_task(const Source& source, Task wanted);

// A configuration as its file has it.
template <class Config>
struct WithTask {
  Config config;
  std::string task = to_string(TaskOf<Config>::value);

  void fields(Fields& f) {
    f.value("task", task, "what the file configures", one_of({to_string(TaskOf<Config>::value)}));
    config.fields(f);
  }
};

template <class Config>
void read_file(const Source& source, Config& config) {
  check_task(source, TaskOf<Config>::value);
  WithTask<Config> whole{.config = std::move(config)};
  read(source, whole);
  config = std::move(whole.config);
}

template <class Config>
std::string show_file(const Config& config, Style style = Style::yaml,
                      const Source* source = nullptr) {
  return show(WithTask<Config>{.config = config}, style, source);
}

}  // namespace inoculum
