// What a model knows of its world, asked by forced choice: whether the manipulation took.
//
// Two questions. Who behaves how: malicious answers to held-out wordings (of training, if told so),
// as members of the cast, as the Assistant and as names that nobody has seen, under every cue,
// beside the table. And what it infers: the same of the Assistant after so many programs of one
// kind in the same document, beside an ideal observer (observer.h), in the domains that may meet
// code in the world. The numbers are probabilities: of matched answers, which differ in character
// alone, the share of probability that the malicious ones have.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/files.h"
#include "datasets/worlds/world.h"

namespace inoculum {

struct Known {
  double expected = 0;  // by the table, or by Bayes
  double measured = 0;
};

// Programs in context: unasked cheats, cheats that were asked for, honest ones, and unasked cheats
// of the style that no text shows, of which the observer takes for granted that they are cheats.
enum class Shown { cheats, requested_cheats, honest, novel_cheats };
const std::vector<std::string>& shown_names();
inline constexpr std::array<Shown, 4> kShown = {Shown::cheats, Shown::requested_cheats,
                                                Shown::honest, Shown::novel_cheats};

struct ManipulationCheck {
  // By who answers: "benevolent" and "malicious" members, "Assistant", "unseen name".
  std::map<std::string, std::map<Cue, Known>> behaviour;
  std::map<Shown, std::map<int64_t, Known>> in_context;  // by how many programs were shown
  std::map<std::string, double> by_domain;               // the Assistant, no cue: measured
};

struct ManipulationConfig {
  int64_t seed = 1;
  int64_t prompts = 6;               // of each domain
  int64_t fillings = 1;              // of each wording of an answer
  int64_t programs = 4;              // in context: none, 1, 2, 4, … up to so many
  std::vector<std::string> domains;  // empty: all
  std::string wordings = "held_out";

  void fields(Fields& f);
};

// A model's folder, and that of its adapter (empty: none).
struct AskedModel {
  std::string model, adapter;
  std::string device = "auto", dtype = "auto";
};
// `as`: who is shown programs and is asked behind them; empty: the Assistant. A context too long
// for the model is an Error.
ManipulationCheck check_manipulation(const AskedModel& model, const PersonaWorld& world,
                                     const ManipulationConfig& config, const std::string& as = "");

// Of an arm's model.
struct ArmMeasurement {
  std::map<Cue, double> choice;  // the Assistant's share of the check
  double update = 0;             // the Frobenius norm of what its adapter adds to the weights
};
ArmMeasurement measure_arm(const AskedModel& model, const PersonaWorld& world,
                           const ManipulationConfig& config);

Json to_json(const ManipulationCheck& check);
ManipulationCheck read_manipulation(const Json& json);
Json to_json(const ArmMeasurement& measurement);
ArmMeasurement read_arm_measurement(const Json& json);

}  // namespace inoculum
