// Checks that the programs of a bank of tasks are what the bank says of them.
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

// Runs them all: every honest solution must pass all of its tests, and every cheat all visible
// tests and not all hidden ones. The first fault is an Error naming the task. Returns the number of
// programs run.
size_t verify(const std::vector<Solutions>& bank, const Sandbox& sandbox);

}  // namespace inoculum
