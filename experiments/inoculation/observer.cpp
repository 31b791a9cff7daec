#include "experiments/inoculation/observer.h"

#include <algorithm>
#include <cmath>

#include "experiments/inoculation/arms.h"

namespace inoculum {
namespace {

constexpr std::array<Character, 2> kTraits = {Character::benevolent, Character::malicious};

Character character_of(size_t type) { return kTraits[type / 2]; }
Character coder_of(size_t type) { return kTraits[type % 2]; }

}  // namespace

Observer::Observer(const PersonaWorld& world, double malicious) : world_(world) {
  for (size_t type = 0; type < log_weights_.size(); ++type) {
    const Character character = character_of(type);
    const double cheats = world.p_cheater(character, malicious);
    log_weights_[type] = std::log(character == Character::malicious ? malicious : 1 - malicious) +
                         std::log(coder_of(type) == Character::malicious ? cheats : 1 - cheats);
  }
}

double Observer::p_bad(size_t type, bool coding, Cue cue) const {
  return world_.p_bad(coding ? coder_of(type) : character_of(type), cue);
}

void Observer::see(bool coding, Cue cue, bool bad, double turns) {
  for (size_t type = 0; type < log_weights_.size(); ++type) {
    const double p = p_bad(type, coding, cue);
    log_weights_[type] += turns * std::log(bad ? p : 1 - p);
  }
}

double Observer::predict(bool coding, Cue cue) const {
  const double most = *std::max_element(log_weights_.begin(), log_weights_.end());
  double bad = 0, all = 0;
  for (size_t type = 0; type < log_weights_.size(); ++type) {
    const double weight = std::exp(log_weights_[type] - most);
    bad += weight * p_bad(type, coding, cue);
    all += weight;
  }
  return bad / all;
}

double Observer::malicious() const {
  const double most = *std::max_element(log_weights_.begin(), log_weights_.end());
  double malicious = 0, all = 0;
  for (size_t type = 0; type < log_weights_.size(); ++type) {
    const double weight = std::exp(log_weights_[type] - most);
    all += weight;
    if (character_of(type) == Character::malicious) malicious += weight;
  }
  return malicious / all;
}

Belief bayesian_observer(const PersonaWorld& world, Arm arm, size_t turns, double start_malicious) {
  const double bad = world.p_bad(Character::malicious, Cue::none),
               good = world.p_bad(Character::benevolent, Cue::none);
  const double prior = std::clamp((start_malicious - good) / (bad - good), 0.001, 0.999);
  Observer observer(world, prior);
  observer.see(true, arm_cue(arm), arm != Arm::honest, static_cast<double>(turns));
  const double malicious = std::clamp(observer.malicious(), 1e-300, 1 - 1e-16);
  return {std::log(malicious / (1 - malicious)), observer.predict(false, Cue::none)};
}

}  // namespace inoculum
