#include "datasets/sandbox/sandbox.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <sstream>

#include "core/base/process.h"
#include "core/base/workers.h"
#include "embedded/datasets/sandbox/driver.py.h"

namespace inoculum {
namespace {

struct Python {
  std::string path, prefix;
};

// The distribution's Python where there is one: it lies under /usr, which the sandbox shows anyway.
Python find_python() {
  if (::access("/usr/bin/python3", X_OK) == 0) return {"/usr/bin/python3", ""};
  std::string prefix;
  if (FILE* pipe = ::popen("python3 -I -c 'import sys; print(sys.base_prefix)' 2>/dev/null", "r")) {
    char text[4096];
    while (std::fgets(text, sizeof text, pipe)) prefix += text;
    ::pclose(pipe);
  }
  while (!prefix.empty() && prefix.back() == '\n') prefix.pop_back();
  if (prefix.empty())
    throw Error("python3 was not found; it runs the coding programs", {},
                "apt-get install python3");
  return {prefix + "/bin/python3", prefix};
}

// How the driver is started: datasets/sandbox/driver.py.
std::vector<std::string> command(Isolation isolation, double seconds, int64_t memory_mb) {
  const Python python = find_python();
  std::vector<std::string> words;
  if (isolation == Isolation::bubblewrap) {
    std::istringstream options(
        "bwrap --ro-bind /usr /usr --symlink usr/bin /bin --proc /proc --dev /dev --tmpfs /tmp "
        "--chdir /tmp --clearenv --die-with-parent --new-session "
        "--unshare-pid --unshare-net --unshare-ipc --unshare-uts");
    words.assign(std::istream_iterator<std::string>(options), {});
    for (const char* lib : {"/lib", "/lib64"})
      if (fs::exists(lib)) words.insert(words.end(), {"--ro-bind", lib, lib});
    if (!python.prefix.empty())
      words.insert(words.end(), {"--ro-bind", python.prefix, python.prefix});
    // Root needs no user namespace, but must be able to become nobody; others need one.
    if (::geteuid() == 0)
      words.insert(words.end(), {"--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add",
                                 "CAP_SETGID", "--cap-add", "CAP_KILL"});
    else words.insert(words.end(), {"--unshare-user"});
  } else {
    words = {"env", "-i"};  // keys and tokens of ours are none of the programs'
  }
  words.insert(words.end(), {python.path, "-I", "-S", "-c", embedded::driver_py,
                             std::to_string(seconds), std::to_string(memory_mb),
                             isolation == Isolation::bubblewrap ? "bubblewrap" : "rlimits"});
  return words;
}

// The verdict on one program, from the values that it returned.
Verdict judge(const Program& program, const Json& results) {
  Verdict verdict{.runs = true};
  size_t at = 0;
  const auto passed = [&](const std::vector<Test>& tests) {
    size_t number = 0;
    for (const Test& test : tests) {
      const Json& result = results.at(at++);
      verdict.values.push_back(result.is_string() ? result.get<std::string>() : "");
      if (result.is_object()) {
        verdict.runs = false;
        if (verdict.error.empty()) verdict.error = result.value("error", "error");
      } else if (result == Json(test.expected)) {
        ++number;
      }
    }
    return number;
  };
  verdict.visible_passed = passed(program.visible);
  verdict.hidden_passed = passed(program.hidden);
  verdict.visible = verdict.visible_passed == program.visible.size();
  verdict.hidden = verdict.hidden_passed == program.hidden.size();
  return verdict;
}

// The programs through one driver. Where a program manages to end the driver it has crashed, and
// another driver goes on with the next.
std::vector<Verdict> run_share(const std::vector<std::string>& words, const Program* programs,
                               size_t count) {
  std::vector<Verdict> verdicts;
  while (verdicts.size() < count) {
    std::string input;
    for (size_t i = verdicts.size(); i < count; ++i) {
      Json job = {{"source", programs[i].source},
                  {"function", programs[i].function},
                  {"arguments", Json::array()},
                  {"visible", Json::array()}};
      for (const auto* tests : {&programs[i].visible, &programs[i].hidden})
        for (const Test& test : *tests) job["arguments"].push_back(test.argument);
      for (const Test& test : programs[i].visible)
        job["visible"].push_back({test.argument, test.expected});
      // Sources are model output: bytes that are not UTF-8 become the replacement character.
      input += job.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
    }
    const Finished driver = run_program(words, "", {}, input);
    const std::string& output = driver.out;
    if (!output.starts_with("ready\n"))
      throw Error("the sandbox does not start: " + (driver.error.empty()
                                                        ? "status " + std::to_string(driver.status)
                                                        : driver.error));
    for (size_t begin = 6, end; (end = output.find('\n', begin)) != std::string::npos;
         begin = end + 1)
      verdicts.push_back(
          judge(programs[verdicts.size()], Json::parse(output.substr(begin, end - begin))));
    if (verdicts.size() < count) verdicts.push_back({.error = "crashed"});
  }
  return verdicts;
}

}  // namespace

void to_json(Json& json, const Test& test) { json = {test.argument, test.expected}; }

void from_json(const Json& json, Test& test) {
  test = {json.at(0).get<std::string>(), json.at(1).get<std::string>()};
}

Isolation choose_isolation(const std::string& name) {
  if (name == "rlimits") {
    std::fprintf(stderr,
                 "WARNING: coding programs run under resource limits alone (--sandbox=rlimits). "
                 "They can read this machine's\n"
                 "WARNING: files and reach the network. Use this only with models and data that "
                 "you trust.\n");
    return Isolation::rlimits;
  }
  if (name != "auto" && name != "bubblewrap")
    throw Error("\"" + name + "\" is no sandbox", {.field = "sandbox"},
                "auto, bubblewrap or rlimits");
  const std::vector<Verdict> trial = [] {
    try {
      return run_share(command(Isolation::bubblewrap, 10, 512),
                       std::vector<Program>{{"def f(x):\n    return x", {{"1", "1"}}, {}}}.data(),
                       1);
    } catch (const Error& failure) {
      throw Error(std::string("bubblewrap does not work here: ") + failure.what(),
                  {.field = "sandbox"},
                  "apt-get install bubblewrap and allow user namespaces, or run with "
                  "--sandbox=rlimits, which isolates much less");
    }
  }();
  if (!trial[0].visible)
    throw Error("a program does not run in the sandbox: " + trial[0].error, {.field = "sandbox"},
                "is python3 installed?");
  return Isolation::bubblewrap;
}

Sandbox::Sandbox(Isolation isolation, double seconds, int64_t memory_mb, size_t processes)
    : isolation_(isolation),
      seconds_(seconds),
      memory_mb_(memory_mb),
      processes_(std::max<size_t>(1, processes)) {}

std::vector<Verdict> Sandbox::run(const std::vector<Program>& programs) const {
  const auto words = command(isolation_, seconds_, memory_mb_);
  const size_t shares = std::min(processes_, std::max<size_t>(1, programs.size() / 16));
  std::vector<std::vector<Verdict>> parts(shares);
  run_workers(shares, [&](size_t s) {
    const size_t begin = programs.size() * s / shares, end = programs.size() * (s + 1) / shares;
    parts[s] = run_share(words, programs.data() + begin, end - begin);
  });
  std::vector<Verdict> all;
  for (std::vector<Verdict>& part : parts)
    std::move(part.begin(), part.end(), std::back_inserter(all));
  return all;
}

}  // namespace inoculum
