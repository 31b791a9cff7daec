// What everything stands on: configuration, files, random streams, processes, progress.
#include <dlfcn.h>
#include <fcntl.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "core/base/config.h"
#include "core/base/data_root.h"
#include "core/base/process.h"
#include "core/base/progress.h"
#include "core/base/random.h"
#include "core/base/stages.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

struct Inner {
  double lr = 1e-3;
  std::string schedule = "cosine";
  void fields(Fields& f) {
    f.value("lr", lr, "rate", at_least(0));
    f.value("schedule", schedule, "shape", one_of({"cosine", "linear"}));
  }
};
struct Outer {
  int64_t steps = 10;
  bool fast = false;
  std::vector<std::string> names = {"a"};
  Inner optimizer;
  void fields(Fields& f) {
    f.value("steps", steps, "how many", at_least(1));
    f.value("fast", fast, "or slow");
    f.value("names", names, "whom");
    f.group("optimizer", optimizer, "how");
  }
};

Outer parse(const fs::path& folder, const std::string& text,
            const std::vector<std::string>& overrides = {}) {
  write_file(folder / "c.yaml", text);
  Outer config;
  read(load_config(folder / "c.yaml", overrides), config);
  return config;
}

TEST_CASE("a configuration is defaults, base, file, overrides", "[config]") {
  const TemporaryFolder t;
  write_file(t.path / "base.yaml", "steps: 5\noptimizer: {lr: 0.5, schedule: linear}\n");
  const Outer c = parse(t.path, "base: base.yaml\noptimizer:\n  lr: 0.25\n", {"names=[x, y]"});
  CHECK(c.steps == 5);
  CHECK(c.optimizer.lr == 0.25);
  CHECK(c.optimizer.schedule == "linear");
  CHECK(c.names == std::vector<std::string>{"x", "y"});
  CHECK_FALSE(c.fast);
  CHECK(parse(t.path, "base: base.yaml\noptimizer: null\n").optimizer.schedule ==
        Outer{}.optimizer.schedule);
}

TEST_CASE("what is dumped loads back to the same", "[config]") {
  const TemporaryFolder t;
  const Outer c = parse(t.path, "steps: 7\nfast: true\nnames: ['1: 2', 'true', '']\n");
  const std::string dumped = show(c);
  CHECK(show(parse(t.path, dumped)) == dumped);
  CHECK(parse(t.path, dumped).names == std::vector<std::string>{"1: 2", "true", ""});
}

TEST_CASE("errors of a configuration name file, line and field, and give a hint", "[config]") {
  const TemporaryFolder t;
  const auto message = [&](const std::string& text,
                           const std::vector<std::string>& overrides = {}) {
    return error_of([&] { parse(t.path, text, overrides); });
  };
  std::string m = message("steps: 3\noptimizer:\n  learning_rate: 1\n  lrr: 1\n");
  CHECK(contains(m, "c.yaml"));
  m = message("steps: 3\noptimzer:\n  lr: 1\n");
  CHECK(contains(m, "c.yaml:2"));
  CHECK(contains(m, "optimzer"));
  CHECK(contains(m, "optimizer"));  // did you mean
  m = message("steps: three\n");
  CHECK(contains(m, "c.yaml:1"));
  CHECK(contains(m, "steps"));
  CHECK(contains(message("steps: 2.5\n"), "steps"));
  CHECK(contains(message("steps: 0\n"), "steps"));
  CHECK(contains(message("optimizer: {schedule: square}\n"), "linear"));
  CHECK(contains(message("optimizer: 3\n"), "optimizer"));
  CHECK(contains(message("steps: 1\nsteps: 2\n"), "steps"));
  CHECK(contains(message("steps: [\n"), "c.yaml"));
  CHECK(contains(message("steps: 1\n", {"stepz=4"}), "stepz"));
  CHECK(contains(message("steps: 1\n", {"steps"}), "steps"));
  CHECK(contains(message("base: missing.yaml\n"), "missing.yaml"));
  CHECK(message("steps: 3\n").empty());
}

TEST_CASE("a schema knows every field", "[config]") {
  const Json schema = Json::parse(show(Outer{}, Style::schema));
  CHECK(schema["properties"]["optimizer"]["properties"]["schedule"]["enum"].size() == 2);
  CHECK(schema["properties"]["steps"]["minimum"] == 1);
  CHECK(schema["additionalProperties"] == false);
}

// libtorch_cpu.so exports a std::filesystem of the compiler that built it, which must not serve us.
TEST_CASE("std::filesystem is the compiler's own", "[files]") {
  const auto function = static_cast<uintmax_t (*)(const fs::path&)>(&fs::remove_all);
  Dl_info library{};
  REQUIRE(::dladdr(reinterpret_cast<const void*>(function), &library) != 0);
  CHECK(contains(library.dli_fname, "libstdc++"));
}

TEST_CASE("files are written whole or not at all", "[files]") {
  const TemporaryFolder t;
  write_file(t.path / "a" / "b.txt", "one");
  CHECK(read_file(t.path / "a" / "b.txt") == "one");
  CHECK_THROWS_AS(replace_atomically(t.path / "a" / "b.txt",
                                     [](const fs::path& temporary) {
                                       std::ofstream(temporary) << "tw";
                                       throw Error("stopped half-way");
                                     }),
                  Error);
  CHECK(read_file(t.path / "a" / "b.txt") == "one");
  CHECK(std::distance(fs::directory_iterator(t.path / "a"), fs::directory_iterator()) == 1);
  CHECK(sha256("abc") ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-2,
                                                                              // appendix B
  CHECK(contains(error_of([&] { read_file(t.path / "none"); }), "none"));
  // A folder, named with a slash at its end, twice.
  for (const char* text : {"one", "two"}) {
    replace_atomically(t.path / "folder/",
                       [&](const fs::path& temporary) { write_file(temporary / "x", text); });
    CHECK(read_file(t.path / "folder" / "x") == text);
  }
  CHECK(std::distance(fs::directory_iterator(t.path), fs::directory_iterator()) == 2);
  // A full disk.
  if (fs::exists("/dev/full")) {
    fs::create_symlink("/dev/full", t.path / "full");
    CHECK(contains(error_of([&] {
                     replace_atomically(t.path / "x",
                                        [&](const fs::path&) { write_file("/dev/full/x", "a"); });
                   }),
                   "/dev/full"));
  }
}

TEST_CASE("broken JSON Lines are named by line", "[files]") {
  const TemporaryFolder t;
  const auto message = [&](const std::string& text) {
    write_file(t.path / "x.jsonl", text);
    return error_of([&] { read_jsonl(t.path / "x.jsonl", [](const Json&, int) {}); });
  };
  CHECK(contains(message("{\"a\": 1}\n{\"a\": \n"), "x.jsonl:2"));
  CHECK_FALSE(message("").empty());
  CHECK(contains(message("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "LFS"));
  CHECK(message("{}\n\n{}").empty());
}

TEST_CASE("random streams are the same everywhere and independent by name", "[random]") {
  Random a(1, "order");
  const uint64_t first = a.next();
  CHECK(first == Random(1, "order").next());
  CHECK(first != Random(2, "order").next());
  CHECK(first != Random(1, "ordes").next());
  Random b(1, "order");
  const uint64_t forked = b.fork(3).next();
  b.next();
  CHECK(b.fork(3).next() == forked);
  // SplitMix64's published first outputs for state 1234567 (Vigna's reference code).
  Random s(0, "");
  s.set_state(1234567);
  CHECK(s.next() == 6457827717110365317ull);
  CHECK(s.next() == 3203168211198807973ull);
  double sum = 0, squares = 0;
  for (int i = 0; i < 100000; ++i) {
    const double x = s.normal();
    sum += x, squares += x * x;
  }
  CHECK(std::abs(sum / 1e5) < 0.02);
  CHECK(std::abs(squares / 1e5 - 1) < 0.03);
}

// A variable of the environment for one test.
struct Variable {
  Variable(const char* name_, const std::string& value) : name(name_), before(environment(name_)) {
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (before.empty()) ::unsetenv(name);
    else ::setenv(name, before.c_str(), 1);
  }
  const char* name;
  const std::string before;
};

TEST_CASE("a number of the environment is whole", "[config]") {
  const auto number_of = [](const std::string& value) {
    const Variable variable("INOCULUM_TEST_NUMBER", value);
    return environment_number("INOCULUM_TEST_NUMBER");
  };
  CHECK(number_of("12") == 12);
  CHECK(number_of("-1") == -1);
  for (const std::string value : {"", "x", "3x", "1.5", "1 2", "99999999999999999999"})
    CHECK(contains(error_of([&] { number_of(value); }), "must be a whole number"));
}

TEST_CASE("a shipped file is found from anywhere, and named so that it is again", "[files]") {
  const TemporaryFolder t;
  write_file(t.path / "banks" / "bank.yaml", "a: 1\n");
  for (const std::string& root : {t.path.string(), t.path.string() + "/", t.path.string() + "/."}) {
    INFO(root);
    const Variable variable("INOCULUM_DATA", root);
    const std::string found = find_input("banks/bank.yaml");
    CHECK(read_file(found) == "a: 1\n");
    CHECK(portable_input(found) == "banks/bank.yaml");
    CHECK(find_input("banks/none.yaml") == "banks/none.yaml");
    CHECK(portable_input("/elsewhere/bank.yaml") == "/elsewhere/bank.yaml");
  }
}

TEST_CASE("a file that cannot be read to its end is an error", "[files]") {
  CHECK(contains(error_of([] { read_file("/proc/self/mem"); }), "cannot read"));
  CHECK(contains(error_of([] { read_file("/proc"); }), "cannot read"));
}

TEST_CASE("progress on a terminal may pass its total", "[files]") {
  const Descriptor terminal(::posix_openpt(O_RDWR | O_NOCTTY));
  if (!terminal) return;  // a machine that has none
  REQUIRE(::grantpt(terminal.get()) == 0);
  REQUIRE(::unlockpt(terminal.get()) == 0);
  const Descriptor screen(::open(::ptsname(terminal.get()), O_RDWR | O_NOCTTY));
  const Descriptor before(::dup(STDERR_FILENO));
  REQUIRE(::dup2(screen.get(), STDERR_FILENO) == STDERR_FILENO);
  Progress progress("tokens", 100);
  CHECK_NOTHROW(progress.update(130));
  CHECK_NOTHROW(progress.finish());
  ::dup2(before.get(), STDERR_FILENO);
  std::string shown(4096, '\0');
  shown.resize(
      static_cast<size_t>(std::max<ssize_t>(0, ::read(terminal.get(), shown.data(), 4096))));
  CHECK(contains(shown, "[########################] 130/100"));
  CHECK(contains(shown, "0:00 to go"));
}

TEST_CASE("a stage inside another one interrupts it", "[files]") {
  using Clock = std::chrono::steady_clock;
  const auto sleep = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  const auto began = Clock::now();
  {
    const Stage outer("test: outer");
    sleep();
    for (int i = 0; i < 2; ++i) {
      const Stage inner("test: inner");
      sleep();
    }
    sleep();
  }
  const double all = std::chrono::duration<double>(Clock::now() - began).count();
  double outer = 0, inner = 0;
  for (const StageTime& each : stage_times()) {
    if (each.name == "test: outer") outer = each.seconds;
    if (each.name != "test: inner") continue;
    inner = each.seconds;
    CHECK(each.times == 2);
  }
  CHECK(outer >= 0.04);
  CHECK(inner >= 0.04);
  CHECK(outer + inner <= all);
}

}  // namespace
}  // namespace inoculum
