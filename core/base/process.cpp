#include "core/base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <thread>

#include "core/base/descriptor.h"
#include "core/base/error.h"

extern char** environ;

namespace inoculum {

namespace {

[[noreturn]] void fail(const std::string& what) {
  throw Error("cannot " + what + ": " + std::strerror(errno));
}

// What execve takes: pointers to texts that outlive it.
std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> variables_without(const std::string& prefix) {
  std::vector<std::string> settings;
  for (char** each = environ; *each; ++each)
    if (prefix.empty() || !std::string_view(*each).starts_with(prefix))
      settings.emplace_back(*each);
  return settings;
}

// Both ends of a pipe, closed in a program that is started but for what is duplicated for it.
struct Pipe {
  Descriptor read, write;

  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("make a pipe");
    read = Descriptor(ends[0]);
    write = Descriptor(ends[1]);
  }
};

// A file in memory that is read from its beginning.
Descriptor readable(std::string_view text) {
  Descriptor file(::memfd_create("input", MFD_CLOEXEC));
  if (!file || !file.write(text) || ::lseek(file.get(), 0, SEEK_SET) != 0)
    fail("keep a program's input");
  return file;
}

// Starts a program with these as its standard input, output and error; 0: there is no such program.
pid_t spawn(std::vector<std::string> command, const std::string& without, const Descriptor& input,
            const Pipe& out, const Pipe& error) {
  std::vector<std::string> settings = variables_without(without);
  const std::vector<char*> arguments = pointers_to(command), environment = pointers_to(settings);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out.write.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, error.write.get(), STDERR_FILENO);
  pid_t pid = 0;
  const int code =
      ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (code == ENOENT) return 0;
  if (code != 0)
    throw Error(std::string("cannot start a process: ") + std::strerror(code),
                {.file = command[0]});
  return pid;
}

}  // namespace

std::string this_program() { return fs::read_symlink("/proc/self/exe").string(); }

pid_t start_process(const std::vector<std::string>& command,
                    const std::vector<std::pair<std::string, std::string>>& variables,
                    const fs::path& log) {
  std::vector<std::string> words = command, settings = variables_without("");
  for (const auto& [name, value] : variables) {
    const std::string prefix = name + "=";
    std::erase_if(settings, [&](const std::string& each) { return each.starts_with(prefix); });
    settings.push_back(prefix + value);
  }
  const std::vector<char*> arguments = pointers_to(words), environment = pointers_to(settings);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (!log.empty()) {
    fs::create_directories(log.parent_path());
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  }
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t pid = 0;
  const int code = ::posix_spawn(&pid, arguments[0], &actions, &attributes, arguments.data(),
                                 environment.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (code != 0)
    throw Error(std::string("cannot start a process: ") + std::strerror(code),
                {.file = arguments[0]});
  return pid;
}

Finished run_program(const std::vector<std::string>& command, const std::string& without,
                     std::chrono::seconds limit, std::string_view input) {
  Pipe out, error;
  const pid_t pid = spawn(command, without, readable(input), out, error);
  if (pid == 0) return {.status = 127, .error = command[0] + ": not found"};
  out.write.close();
  error.write.close();

  Finished finished;
  const auto began = std::chrono::steady_clock::now();
  std::array<pollfd, 2> open = {pollfd{out.read.get(), POLLIN, 0},
                                pollfd{error.read.get(), POLLIN, 0}};
  while (open[0].fd >= 0 || open[1].fd >= 0) {
    if (limit.count() > 0 && std::chrono::steady_clock::now() - began > limit) {
      finished.timed_out = true;
      ::kill(pid, SIGKILL);
      break;
    }
    if (::poll(open.data(), open.size(), limit.count() > 0 ? 100 : -1) <= 0) continue;
    for (size_t i = 0; i < open.size(); ++i) {
      if (open[i].fd < 0 || open[i].revents == 0) continue;
      char buffer[65536];
      const ssize_t count = ::read(open[i].fd, buffer, sizeof buffer);
      if (count > 0)
        (i == 0 ? finished.out : finished.error).append(buffer, static_cast<size_t>(count));
      else if (count == 0 || errno != EINTR) open[i].fd = -1;  // poll passes over negative ones
    }
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  finished.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return finished;
}

pid_t wait_for_any(int& status, bool (*give_up)()) {
  // Asked again and again: a signal that comes between a question and a sleep would be slept
  // through.
  while (!give_up()) {
    if (const pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0) return pid;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return 0;
}

double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

int64_t environment_number(const char* name) {
  const std::string text = environment(name);
  const char* const end = text.data() + text.size();
  int64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end)
    throw Error("must be a whole number, not \"" + text + "\"", {.field = name},
                "torchrun and srun set it");
  return number;
}

}  // namespace inoculum
