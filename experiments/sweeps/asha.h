// Asynchronous successive halving over the cells of a sweep (AshaConfig in sweep.h). There is no
// server: whoever is free decides from the files in the sweep's folder what to run next, and claims
// it by making a file that was not there.
//
//   asha/<bracket>_<rung>/<cell>.claim   somebody has begun to take the cell to this rung
//   asha/<bracket>_<rung>/<cell>.json    it has got there: its metrics
//
// A worker that dies leaves a claim without a result and without a lock on the cell's folder:
// another goes on with it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "experiments/sweeps/sweep.h"

namespace inoculum {

// What is known of one bracket's rung.
struct Rung {
  std::map<size_t, double> done;  // cell → metric
  std::set<size_t> claimed;       // the done ones among them
};

// Steps of each rung: min_steps · reduction^(bracket + k), the last one `steps`.
std::vector<int64_t> rung_steps(const AshaConfig& config, int64_t bracket, int64_t steps);

// The cell to take to rung + 1, from the highest rung that has one: of those done there the best
// 1/reduction, if not yet claimed above.
struct Promotion {
  size_t cell, rung;  // to
};
// rungs: all there are, empty ones too.
std::optional<Promotion> promotable(const std::vector<Rung>& rungs, double reduction,
                                    const SweepMetric& metric);

// Takes cells to their next rungs until there is nothing to take: in this process, one after the
// other.
Outcome run_asha(const Sweep& sweep);

// The metrics of the highest rung that a cell has reached; empty: none.
CellMetrics asha_metrics(const Sweep& sweep, size_t cell);

// Error where cells were measured and none has the sweep's metric.
void check_metric(const Sweep& sweep);

}  // namespace inoculum
