// The kinds of configuration: which one a file is, is told from its keys.
#pragma once

#include <type_traits>

#include "experiments/inoculation/experiment.h"
#include "experiments/inoculation/runs.h"

namespace inoculum {

template <class Config, class Use>
void read_and_use(const Source& source, Use use) {
  Config config;
  read(source, config);
  use(config, source);
}

// Reads a configuration into the struct of its kind and calls `use(config, source)`.
template <class Use>
void with_config(const Source& source, Use use) {
  if (source.has("worlds")) read_and_use<ReproduceConfig>(source, use);
  else if (source.has("tokens") || source.has("tokenizer"))
    read_and_use<PretrainConfig>(source, use);
  else read_and_use<TrainConfig>(source, use);
}

template <class Config>
constexpr const char* seed_key() {
  return std::is_same_v<Config, ReproduceConfig> ? "first_seed" : "seed";
}

}  // namespace inoculum
