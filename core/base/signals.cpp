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

void handle_by(void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2})
    ::sigaction(signal, &action, nullptr);
}

}  // namespace

void handle_signals() { handle_by(on_signal); }
void end_at_signals() { handle_by(SIG_DFL); }

bool stop_requested() { return g_stop; }

}  // namespace inoculum
