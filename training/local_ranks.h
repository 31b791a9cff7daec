// Several ranks on one machine, as `--nproc` starts them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace inoculum {

// Starts `count` ranks of this very command on this machine and waits for them; the first to fail
// ends the others, and is named. → the exit status. threads: of each rank.
int run_ranks(int64_t count, const std::vector<std::string>& command, int64_t threads);

}  // namespace inoculum
