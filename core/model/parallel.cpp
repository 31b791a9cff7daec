#include "core/model/parallel.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <omp.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <mutex>

namespace inoculum {
namespace {

thread_local int64_t share = 0;                      // of this thread; 0: it was never given one
thread_local const SharedThreads* shared = nullptr;  // whose part it is given instead

// The libraries read this setting, which every thread has for itself.
void one_thread_for_libraries() {
  if (omp_get_max_threads() != 1) omp_set_num_threads(1);
}

// The exception of the first piece, in their order, that threw one.
class FirstFailure {
 public:
  void take(int64_t piece) {
    const std::lock_guard lock(mutex_);
    if (piece >= piece_) return;
    piece_ = piece;
    failure_ = std::current_exception();
  }
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::mutex mutex_;
  int64_t piece_ = std::numeric_limits<int64_t>::max();
  std::exception_ptr failure_;
};

}  // namespace

void start_threads() {
  share = std::max(1, omp_get_max_threads());
  at::set_num_threads(1);
  one_thread_for_libraries();
}

int64_t threads() { return std::max<int64_t>(1, shared ? shared->count / shared->workers : share); }

ThreadShare::ThreadShare(int64_t count) : before_(share), shared_before_(shared) {
  share = count;
  shared = nullptr;
  one_thread_for_libraries();
}

ThreadShare::ThreadShare(SharedThreads& of) : ThreadShare(1) { shared = shared_ = &of; }

ThreadShare::~ThreadShare() {
  if (shared_) --shared_->workers;
  share = before_;
  shared = shared_before_;
}

void parallel(int64_t pieces, int64_t lanes,
              const std::function<void(int64_t piece, int64_t lane)>& work) {
  lanes = std::min({lanes, pieces, threads()});
  if (pieces == 1) {
    work(0, 0);  // with all the threads that the caller has
    return;
  }
  std::atomic<int64_t> next = 0;
  FirstFailure failure;
  const bool records = c10::GradMode::is_enabled();
  const auto run = [&](int64_t lane) {
    const ThreadShare alone(1);
    const c10::AutoGradMode recording(records);
    for (int64_t piece; (piece = next++) < pieces;) {
      try {
        work(piece, lane);
      } catch (...) {
        failure.take(piece);
        next = pieces;
      }
    }
  };
  if (lanes <= 1) {
    run(0);
  } else {
#pragma omp parallel num_threads(static_cast<int>(lanes))
    run(omp_get_thread_num());
  }
  failure.rethrow();
}

void parallel(int64_t pieces, const std::function<void(int64_t piece)>& work) {
  parallel(pieces, threads(), [&](int64_t piece, int64_t) { work(piece); });
}

void parallel_ranges(int64_t count, int64_t grain,
                     const std::function<void(int64_t begin, int64_t end)>& work) {
  const int64_t grains = (count + grain - 1) / grain, ranges = std::min(threads(), grains);
  if (ranges <= 1) {
    if (count > 0) work(0, count);
    return;
  }
  parallel(ranges, [&](int64_t range) {
    work(grains * range / ranges * grain, std::min(count, grains * (range + 1) / ranges * grain));
  });
}

}  // namespace inoculum
