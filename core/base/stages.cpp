#include "core/base/stages.h"

#include <algorithm>
#include <map>
#include <mutex>

namespace inoculum {
namespace {

using Clock = std::chrono::steady_clock;

struct Sum {
  Clock::duration time{};
  int64_t times = 0;
};

std::mutex mutex;
std::map<std::string, Sum> sums;
thread_local Stage* current = nullptr;

}  // namespace

Stage::Stage(const char* name) : name_(name), outer_(current), since_(Clock::now()) {
  if (outer_) outer_->count(since_);
  current = this;
  const std::lock_guard lock(mutex);
  ++sums[name_].times;
}

Stage::~Stage() {
  const Clock::time_point now = Clock::now();
  count(now);
  if (outer_) outer_->since_ = now;
  current = outer_;
}

void Stage::count(Clock::time_point now) {
  const std::lock_guard lock(mutex);
  sums[name_].time += now - since_;
}

std::vector<StageTime> stage_times() {
  std::vector<StageTime> all;
  const std::lock_guard lock(mutex);
  for (const auto& [name, sum] : sums)
    all.push_back({name, std::chrono::duration<double>(sum.time).count(), sum.times});
  std::stable_sort(all.begin(), all.end(),
                   [](const StageTime& a, const StageTime& b) { return a.seconds > b.seconds; });
  return all;
}

}  // namespace inoculum
