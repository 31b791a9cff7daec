// Where a command's time goes, by named stages of its work.
//
//   {
//     const Stage stage("evaluation: programs");  // until the end of the block, on this thread
//     run_programs();
//   }
//   for (const StageTime& each : stage_times()) …
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace inoculum {

// A stage inside another one interrupts it: every moment of a thread counts for one stage alone.
class Stage {
 public:
  explicit Stage(const char* name);  // a literal
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

 private:
  void count(std::chrono::steady_clock::time_point now);

  const char* name_;
  Stage* outer_;
  std::chrono::steady_clock::time_point since_;
};

struct StageTime {
  std::string name;
  double seconds;  // over all threads that named the stage
  int64_t times;   // that it was entered
};

std::vector<StageTime> stage_times();  // of all that have ended, the longest first

}  // namespace inoculum
