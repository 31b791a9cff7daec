// What has become of a sweep's cells.
#pragma once

#include <optional>
#include <string>

#include "experiments/sweeps/sweep.h"

namespace inoculum {

enum class CellState { pending, running, done, stopped_early, failed };
std::string to_string(CellState state);

struct CellStatus {
  CellState state = CellState::pending;
  Json metrics = Json::object();  // as result.json has them
  double seconds = 0;
  std::string error;  // of a failed one

  std::optional<double> find(const SweepMetric& metric) const;
};
CellStatus status(const Sweep& sweep, size_t cell);

// Of all cells, as text: how many are in each state, each failed one with its error and the end of
// its log, the best ones.
std::string status_text(const Sweep& sweep);

}  // namespace inoculum
