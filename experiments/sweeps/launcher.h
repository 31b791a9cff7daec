// Where the cells of a sweep run: processes of this machine, or jobs of Slurm. Either runs
// `inoculum sweep cell FOLDER CELL` for each cell, or with asha some workers, `inoculum sweep work
// FOLDER`. All that it learns of them it reads from the sweep's folder.
#pragma once

#include <memory>

#include "experiments/sweeps/sweep.h"

namespace inoculum {

class Launcher {
 public:
  virtual ~Launcher() = default;

  // What is run or submitted.
  virtual std::string script(const Sweep& sweep, const std::vector<size_t>& cells) const = 0;
  // Local: returns when all have ended. Slurm: when they are submitted.
  virtual Outcome launch(const Sweep& sweep, const std::vector<size_t>& cells) const = 0;
  virtual std::string queue(const Sweep&) const { return ""; }  // what waits elsewhere, in words
  virtual void cancel(const Sweep& sweep) const = 0;            // what is under way saves, and ends
};

std::unique_ptr<Launcher> make_launcher(const LauncherConfig& config);

}  // namespace inoculum
