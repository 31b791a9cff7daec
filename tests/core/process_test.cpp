// Threads side by side, and other programs: their output and their ends.
#include "core/base/process.h"

#include <atomic>
#include <chrono>
#include <cstdlib>

#include "core/base/workers.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

TEST_CASE("workers all end before the first one's failure is thrown", "[process]") {
  std::atomic<int> done = 0;
  const std::string failure = error_of([&] {
    run_workers(4, [&](size_t i) {
      ++done;
      if (i > 1) throw Error("worker " + std::to_string(i));
    });
  });
  CHECK(contains(failure, "worker 2"));
  CHECK(done == 4);
  run_workers(0, [](size_t) { throw Error("there is none"); });
}

TEST_CASE("a program's output, its complaints and its end are told apart", "[process]") {
  const Finished finished = run_program({"sh", "-c", "echo 4711; echo notice >&2; exit 3"});
  CHECK(finished.status == 3);
  CHECK(finished.out == "4711\n");
  CHECK(finished.error == "notice\n");
  CHECK(run_program({"sh", "-c", "printf %s \"$1\"", "sh", "it's $HOME \"x\""}).out ==
        "it's $HOME \"x\"");
  // More than a pipe holds, on both.
  const Finished much = run_program(
      {"sh", "-c",
       "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero"});
  CHECK(much.out.size() == 600000);
  CHECK(much.error.size() == 300000);
  // More than a pipe holds, in and out.
  const std::string input(300000, 'x');
  CHECK(run_program({"cat"}, "", {}, input).out == input);
  CHECK(run_program({"cat"}).out.empty());
  CHECK(run_program({"inoculum-has-no-such-program"}).status == 127);
  CHECK(run_program({"sh", "-c", "kill -9 $$"}).status == 137);
  ::setenv("SQUEUE_STATES", "RUNNING", 1);
  CHECK(run_program({"sh", "-c", "printf %s \"$SQUEUE_STATES\""}, "SQUEUE_").out.empty());
  CHECK(run_program({"sh", "-c", "printf %s \"$SQUEUE_STATES\""}).out == "RUNNING");
  const auto began = std::chrono::steady_clock::now();
  CHECK(run_program({"sh", "-c", "echo begun; exec sleep 60"}, "", std::chrono::seconds(1))
            .timed_out);
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(30));
}

}  // namespace
}  // namespace inoculum
