// Progress of long tasks.
//
//   Progress progress("pretrain", steps);
//   progress.update(step, {{"loss", "1.234"}, {"tokens/s", "12000"}});
//   progress.finish();
//
// On a terminal one line with a bar, the values, the time gone and the time to go; elsewhere a
// plain line every ten seconds and at the end. Written to standard error.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace inoculum {

class Progress {
 public:
  Progress(std::string title, int64_t total, int64_t done = 0);
  void update(int64_t done, const std::vector<std::pair<std::string, std::string>>& values = {});
  void finish();

  // Progress that a thread begins while one lives is not shown: that of tasks side by side would
  // run into one another.
  struct Quiet {
    Quiet();
    ~Quiet();
    Quiet(const Quiet&) = delete;
    Quiet& operator=(const Quiet&) = delete;
  };

 private:
  void print(const std::string& line, bool last);

  using Clock = std::chrono::steady_clock;
  std::string title_, line_;
  int64_t total_, first_, done_;
  Clock::time_point start_, printed_;
  bool terminal_, quiet_;
};

}  // namespace inoculum
