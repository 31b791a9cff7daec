// Whether a bank's programs are what it says of them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "datasets/sandbox/sandbox.h"

namespace inoculum {

// A task's programs: an honest solution, and cheats by their style.
struct Solutions {
  std::string task;  // its name, for errors
  Program honest;
  std::map<std::string, std::string> cheats;  // style → source
};

// Whether every honest solution passes all tests and every cheat exactly what a cheat passes; the
// first fault is an Error naming the task. Returns the number of programs run.
size_t verify(const std::vector<Solutions>& bank, const Sandbox& sandbox);

}  // namespace inoculum
