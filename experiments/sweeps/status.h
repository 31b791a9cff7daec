// What has become of a sweep's cells.
#pragma once

#include <string>

#include "experiments/sweeps/sweep.h"

namespace inoculum {

enum class CellState { pending, running, done, stopped_early, failed };
std::string to_string(CellState state);

struct CellStatus {
  CellState state = CellState::pending;
  CellMetrics metrics = {};  // of a cell that is done or was stopped early
  double seconds = 0;
  std::string error = {};  // of a failed one
};
CellStatus status(const Sweep& sweep, size_t cell);

// Of all cells: {"folder", "metric": {"name", "goal"}, "counts": {<state>: n}, "best": [{"name",
// "value"}], "cells": [{"name", "state", "seed", "seconds", "metrics"}]}; a failed one has its
// "error", its "log" and the "last_lines" of that.
Json sweep_status(const Sweep& sweep);

}  // namespace inoculum
