// Progress of long tasks, and stopping them well.
//
//   Progress progress("pretrain", steps);
//   progress.update(step, {{"loss", "1.234"}, {"tokens/s", "12000"}});
//   progress.finish();
//
// On a terminal one line with a bar, the values, the time gone and the time to go; elsewhere a plain line
// every ten seconds and at the end. Written to standard error.
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

  // Progress that a thread begins while one lives is not shown: that of tasks side by side would run into one another.
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

enum class Outcome { finished, already_done, stopped, paused };  // of a long task; stopped: by a signal, paused: where it was asked to

// SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 ask for a stop after the step under way; a second SIGINT ends at once.
void handle_signals();
bool stop_requested();

}  // namespace inoculum
