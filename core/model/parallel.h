// Work dealt to threads so that its bytes do not depend on how many there are.
//
// ATen, oneDNN and MKL cut a product by the number of threads, and so may round it otherwise with
// one than with two (on processors with AMX they do). Here they run with one thread each, always.
// What runs side by side are pieces of our own, cut by the shape of the work alone: micro-batches,
// rows that are sampled, texts that are scored, blocks of a large product.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace inoculum {

// Call this once, before anything else of LibTorch. The number of threads is OMP_NUM_THREADS, or
// else the cores that this process may use.
void start_threads();

int64_t threads();  // that the calling thread may keep busy, itself included

// Threads of workers that run side by side. They are dealt evenly, and those of a worker that has
// ended go to the others.
struct SharedThreads {
  const int64_t count;
  std::atomic<int64_t> workers;  // that have not ended
};

// Gives the calling thread so many threads, or its part of shared ones, as long as this lives. A
// worker has ended when this does.
class ThreadShare {
 public:
  explicit ThreadShare(int64_t count);
  explicit ThreadShare(SharedThreads& shared);
  ~ThreadShare();
  ThreadShare(const ThreadShare&) = delete;
  ThreadShare& operator=(const ThreadShare&) = delete;

 private:
  SharedThreads* shared_ = nullptr;
  int64_t before_;
  const SharedThreads* shared_before_;
};

// work(piece, lane) for every piece below `pieces`, in order but side by side; lane < lanes ≤
// threads() tells pieces that run at once apart. A piece has one thread: what it deals out itself
// runs on that one. Gradients are recorded where the caller records them. The first failing piece's
// exception is thrown when all that have begun are done.
void parallel(int64_t pieces, int64_t lanes,
              const std::function<void(int64_t piece, int64_t lane)>& work);
void parallel(int64_t pieces, const std::function<void(int64_t piece)>& work);

// work(begin, end) over consecutive ranges that make up [0, count), cut at multiples of `grain`.
// Only for work whose grains have nothing to do with one another: which of them lie together
// follows the number of threads.
void parallel_ranges(int64_t count, int64_t grain,
                     const std::function<void(int64_t begin, int64_t end)>& work);

}  // namespace inoculum
