// Calling a function with the struct that a configuration's task names.
#pragma once

#include <type_traits>

#include "core/base/error.h"
#include "experiments/inoculation/experiment.h"
#include "experiments/inoculation/fine_tuning.h"
#include "experiments/inoculation/pretraining.h"
#include "experiments/inoculation/task.h"

namespace inoculum {

template <class Config, class Use>
void read_and_use(const Source& source, Use use) {
  Config config;
  read_file(source, config);
  use(config, source);
}

// Reads the configuration of one run into the struct of its task and calls `use(config, source)`.
template <class Use>
void with_config(const Source& source, Use use) {
  switch (task_of(source)) {
    case Task::train: return read_and_use<TrainConfig>(source, use);
    case Task::pretrain: return read_and_use<PretrainConfig>(source, use);
    case Task::reproduce: return read_and_use<ReproduceConfig>(source, use);
    case Task::sweep: break;
  }
  throw Error("is a sweep, where one run's configuration is wanted",
              {.file = source.where("task").file}, "one of train, pretrain or reproduce");
}

template <class Config>
constexpr const char* seed_key() {
  return std::is_same_v<Config, ReproduceConfig> ? "first_seed" : "seed";
}

}  // namespace inoculum
