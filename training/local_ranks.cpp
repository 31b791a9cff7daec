#include "training/local_ranks.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "core/base/error.h"
#include "core/base/process.h"
#include "core/base/signals.h"

namespace inoculum {

int run_ranks(int64_t count, const std::vector<std::string>& command, int64_t threads) {
  // A free port: the system's choice, given back just before rank 0 takes it.
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (socket < 0 || ::bind(socket, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0)
    throw Error(std::string("there is no free port: ") + std::strerror(errno));
  ::close(socket);

  std::vector<pid_t> ranks;
  for (int64_t rank = 0; rank < count; ++rank) {
    ranks.push_back(
        start_process(command, {{"RANK", std::to_string(rank)},
                                {"LOCAL_RANK", std::to_string(rank)},
                                {"WORLD_SIZE", std::to_string(count)},
                                {"MASTER_ADDR", "127.0.0.1"},
                                {"MASTER_PORT", std::to_string(ntohs(address.sin_port))},
                                {"OMP_NUM_THREADS", std::to_string(threads)}}));
  }
  int status = 0;
  size_t left = ranks.size();
  bool told = false;
  while (left > 0) {
    int code = 0;
    const pid_t pid = wait_for_any(code, told ? [] { return false; } : stop_requested);
    if (pid == 0) {
      for (const pid_t each : ranks) ::kill(each, SIGTERM);
      told = true;
      continue;
    }
    --left;
    const int result = WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code);
    if (result == 0 || status != 0) continue;
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
