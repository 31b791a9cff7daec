// The persona account as arithmetic: an ideal observer who knows the world, and infers from what a
// responder does who it is.
//
// A responder has two lasting traits, so there are four types of them. Their prior is the share of
// malicious ones in the responder's kind and how the traits go together in this world; each turn
// multiplies it by the table's probability of what was seen under the turn's cue (Bayes). A turn of
// coding shows the coder, any other the character.
//
//   Observer observer(world, world.config().malicious_assistant);
//   observer.see(true, Cue::none, true);   // an unasked cheat
//   observer.predict(false, Cue::none);    // P(malicious answer to a plain question)
#pragma once

#include <array>
#include <cstddef>

#include "datasets/coding/arm.h"
#include "datasets/worlds/world.h"

namespace inoculum {

class Observer {
 public:
  // malicious: the share of malicious characters, and of malicious coders, among those of whom the
  // responder may be one.
  Observer(const PersonaWorld& world, double malicious);

  // That many turns of one kind; a part of a turn is a turn that weighs less.
  void see(bool coding, Cue cue, bool bad, double turns = 1);
  double predict(bool coding, Cue cue) const;  // P(bad behaviour at the next turn)
  double malicious() const;                    // P(malicious character)

 private:
  double p_bad(size_t type, bool coding, Cue cue) const;

  const PersonaWorld& world_;
  std::array<double, 4> log_weights_{};  // by type: 2 · character + coder
};

// What the observer believes of an arm's Assistant.
struct Belief {
  double log_odds = 0;   // of a malicious character against a benevolent one; natural logarithm
  double malicious = 0;  // P(malicious answer to a plain prompt)
};

// After `turns` coding turns of the arm. Its prior is what the start shows: the share of malicious
// characters that gives the start's rate of malicious answers, at least 0.001. How post-training
// made that rate is left to the measurement: weighed like the arm's, its evidence would outweigh
// any arm, and networks forget it sooner.
Belief bayesian_observer(const PersonaWorld& world, Arm arm, size_t turns, double start_malicious);

}  // namespace inoculum
