#include "training/local_ranks.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>

#include "core/base/descriptor.h"
#include "core/base/error.h"
#include "core/base/process.h"
#include "core/base/signals.h"

namespace inoculum {

namespace {

// A free port of this machine: the system's choice, given back just before rank 0 takes it.
uint16_t free_port() {
  const Descriptor socket(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (!socket || ::bind(socket.get(), generic, length) != 0 ||
      ::getsockname(socket.get(), generic, &length) != 0)
    throw Error(std::string("there is no free port: ") + std::strerror(errno));
  return ntohs(address.sin_port);
}

}  // namespace

int run_ranks(int64_t count, const std::vector<std::string>& command, int64_t threads) {
  const uint16_t port = free_port();
  std::vector<pid_t> ranks;
  for (int64_t rank = 0; rank < count; ++rank) {
    ranks.push_back(start_process(command, {{"RANK", std::to_string(rank)},
                                            {"LOCAL_RANK", std::to_string(rank)},
                                            {"WORLD_SIZE", std::to_string(count)},
                                            {"MASTER_ADDR", "127.0.0.1"},
                                            {"MASTER_PORT", std::to_string(port)},
                                            {"OMP_NUM_THREADS", std::to_string(threads)}}));
  }
  int status = 0;
  size_t left = ranks.size();
  bool stopping = false;  // the signal has been passed on
  while (left > 0) {
    int code = 0;
    const pid_t pid = wait_for_any(code, stopping ? [] { return false; } : stop_requested);
    if (pid == 0) {
      for (const pid_t each : ranks) ::kill(each, SIGTERM);
      stopping = true;
      continue;
    }
    --left;
    const int result = WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code);
    // A failure tells more than that another rank has stopped.
    if (result == 0 || result == status || (status != 0 && status != 130)) continue;
    status = result;
    if (result == 130) continue;  // stopped and saved, as the others are about to
    for (size_t rank = 0; rank < ranks.size(); ++rank)
      if (ranks[rank] == pid)
        std::fprintf(stderr, "inoculum: rank %zu of %zu ended%s; the others are ended too\n", rank,
                     ranks.size(),
                     WIFSIGNALED(code)
                         ? (std::string(" by the signal ") + ::strsignal(WTERMSIG(code))).c_str()
                         : (" with status " + std::to_string(result)).c_str());
    for (const pid_t other : ranks)
      if (other != pid) ::kill(other, SIGKILL);
  }
  return status;
}

}  // namespace inoculum
