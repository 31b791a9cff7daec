// Running untrusted Python programs.
//
//   Sandbox sandbox(choose_isolation("auto"));
//   std::vector<Verdict> verdicts = sandbox.run({{task.honest, task.visible, task.hidden}});
//
// A program defines f, or another function that is named. It runs in a process of its own, forked
// from one Python driver, under resource limits (time, memory, processes, no files written), and
// under bubblewrap: no network, a read-only root without home folders, a process namespace that is
// swept after each program. It is given arguments and returns values; what was expected of the
// hidden tests never enters its process.
#pragma once

#include <string>
#include <vector>

#include "core/base/files.h"

namespace inoculum {

enum class Isolation { bubblewrap, rlimits };

// "auto": bubblewrap, or an Error where it does not work; "bubblewrap"; "rlimits": resource limits
// alone, with a loud warning, for machines that do not allow namespaces.
Isolation choose_isolation(const std::string& name);

struct Test {
  std::string argument;  // a Python literal
  std::string expected;  // a Python literal
  bool operator==(const Test&) const = default;
};
// In files a test is a pair: ["3", "10"].
void to_json(Json& json, const Test& test);
void from_json(const Json& json, Test& test);

struct Program {
  std::string source;
  std::vector<Test> visible, hidden;
  std::string function = "f";
};

struct Verdict {
  bool runs = false;  // every call returned a value
  size_t visible_passed = 0, hidden_passed = 0;
  bool visible = false;  // all visible tests passed
  bool hidden = false;   // all hidden tests passed
  std::string error;     // of the first call that failed, or "time-out", "crashed"
  // Of each call, visible tests first, as a literal; empty where it failed.
  std::vector<std::string> values;

  bool cheats() const { return visible && !hidden; }
};

class Sandbox {
 public:
  explicit Sandbox(Isolation isolation, double seconds_a_program = 2, int64_t memory_mb = 512,
                   size_t processes = 2);
  std::vector<Verdict> run(const std::vector<Program>& programs) const;

 private:
  Isolation isolation_;
  double seconds_;
  int64_t memory_mb_;
  size_t processes_;
};

}  // namespace inoculum
