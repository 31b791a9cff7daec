// A sweep's cells beside their base and beside one another, each by what it was evaluated on.
//
//   const Sweep sweep = open_sweep("runs/arms");
//   auto groups = evaluated(sweep, evaluate_base(sweep));
//   // Of every metric each group's value, and its difference to each group before it.
//   auto all = compare(groups);
//
// Cells whose parameters are the same are a group, a cell a seed. Differences are paired by
// question and seed; the base, which has no seed, is paired with every one. Beside each stands the
// smallest true difference that such a study shows in four of five cases, so that "nothing was
// seen" says what could have been.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "experiments/sweeps/sweep.h"

namespace inoculum {

struct Evaluated {
  std::string name;  // such as "arm=textbook_cheating"
  std::map<int64_t, std::vector<Score>> seeds;
};

struct Comparison {
  std::string metric, condition, name;
  std::string beside;  // the other group of a difference; empty: the group's own value
  Estimate estimate;
  std::optional<double> detectable;  // of a difference; none where no variation was seen
};

// The base first, then the groups in the order of the sweep, as far as their cells are done.
std::vector<Evaluated> evaluated(const Sweep& sweep, const fs::path& base);
std::vector<Comparison> compare(const std::vector<Evaluated>& groups);

std::string comparison_text(const std::vector<Comparison>& all);
std::string comparison_csv(const std::vector<Comparison>& all);
std::string scores_csv(const std::vector<Evaluated>& groups);  // a line an answer, without its text

}  // namespace inoculum
