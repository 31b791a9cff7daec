#include "core/base/signals.h"

#include <signal.h>

#include <atomic>
#include <csignal>
#include <initializer_list>

namespace inoculum {
namespace {

std::atomic<bool> g_stop = false;  // written by a signal handler, read by any thread
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int signal) {
  if (g_stop && signal == SIGINT) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  g_stop = true;
}

}  // namespace

void handle_signals() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2})
    ::sigaction(signal, &action, nullptr);
}

bool stop_requested() { return g_stop; }

}  // namespace inoculum
