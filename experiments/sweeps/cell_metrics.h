// What is known of a sweep's cell, by name.
//
//   loss                                  of every cell that trains
//   malicious, bad.cheats, …              of evaluated ones: a metric of plain questions by its own
//                                         name, and any by its condition's and its own
//   contrasts.cheating_minus_requested, arms.cheating.bad.malicious, …
//                                         of an experiment: its place in results.json
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/files.h"
#include "experiments/evaluation/scores.h"
#include "experiments/inoculation/results.h"

namespace inoculum {

struct CellMetrics {
  std::vector<std::pair<std::string, double>> values;

  std::optional<double> find(const std::string& name) const;
  void set(const std::string& name, double value);
  void add(const std::vector<Score>& scores);
  void add(const Results& results);
};

Json to_json(const CellMetrics& metrics);
CellMetrics read_metrics(const Json& json);

}  // namespace inoculum
