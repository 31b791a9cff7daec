#include "core/process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "core/error.h"

extern char** environ;

namespace inoculum {

std::string this_program() { return fs::read_symlink("/proc/self/exe").string(); }

pid_t start_process(const std::vector<std::string>& command, const std::vector<std::pair<std::string, std::string>>& variables, const fs::path& log) {
  std::vector<std::string> words = command, settings;
  for (char** each = environ; *each; ++each) settings.emplace_back(*each);
  for (const auto& [name, value] : variables) {
    const std::string prefix = name + "=";
    std::erase_if(settings, [&](const std::string& each) { return each.starts_with(prefix); });
    settings.push_back(prefix + value);
  }
  std::vector<char*> arguments, environment;
  for (std::string& word : words) arguments.push_back(word.data());
  for (std::string& each : settings) environment.push_back(each.data());
  arguments.push_back(nullptr), environment.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (!log.empty()) {
    fs::create_directories(log.parent_path());
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  }
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t pid = 0;
  const int code = ::posix_spawn(&pid, arguments[0], &actions, &attributes, arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (code != 0) throw Error(std::string("cannot start a process: ") + std::strerror(code), {.file = arguments[0]});
  return pid;
}

pid_t wait_for_any(int& status, bool (*give_up)()) {
  // Asked again and again: a signal that comes between a question and a sleep would be slept through.
  while (!give_up()) {
    if (const pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0) return pid;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return 0;
}

}  // namespace inoculum
