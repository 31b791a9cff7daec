// Starting programs and waiting for them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/files.h"

namespace inoculum {

std::string this_program();  // the path of the running executable

// Starts `command` (its first word a path) with these variables laid over the environment, in a
// process group of its own: Ctrl-C reaches this process alone, which passes it on once. log: where
// its output is appended to; empty: it shares this process's.
pid_t start_process(const std::vector<std::string>& command,
                    const std::vector<std::pair<std::string, std::string>>& variables,
                    const fs::path& log = {});

struct Finished {
  // The exit status; as shells have it 127 where there is no such program, 128 + n where signal n
  // ended it.
  int status = 0;
  bool timed_out = false;
  std::string out = {}, error = {};  // what it wrote to standard output and standard error
};
// Runs a program found in PATH, to its end or for `limit` at most (0: however long it takes).
// Variables whose names begin with `without` are kept from it. input: what it reads.
Finished run_program(const std::vector<std::string>& command, const std::string& without = {},
                     std::chrono::seconds limit = {}, std::string_view input = {});

// Waits until a child ends, or until `give_up` says so: then 0.
pid_t wait_for_any(int& status, bool (*give_up)());

double unix_time();  // seconds since 1970

std::string environment(const char* name);     // a variable's value; "" where it is not set
int64_t environment_number(const char* name);  // Error where it is not a whole number

}  // namespace inoculum
