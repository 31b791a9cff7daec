// How long tasks end, and stopping them well: a signal asks for a stop, and the task stops where it
// can go on from later.
#pragma once

namespace inoculum {

enum class Outcome {
  finished,
  already_done,
  stopped,  // by a signal
  paused,   // where it was asked to
};

// SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 ask for a stop after the step under way; a second SIGINT
// ends at once.
void handle_signals();
void end_at_signals();  // as any program does
bool stop_requested();

}  // namespace inoculum
