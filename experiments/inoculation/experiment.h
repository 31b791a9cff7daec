// The experiment from end to end: plan → run → summarise → judge.
//
//   runs/reproduce/
//     config.yaml                           the whole configuration, resolved
//     persona_1/                            a base, by its world and seed
//       knows.json                          what it knows of its world
//       seed_1/start/                       a training run, and its evaluation/
//       seed_1/{honest,cheating,requested,…}/
//       results.json                        what was found on this base
//     persona_2/…, coupling_0_1/…
//     results.json                          what was found over all bases
//
// Each stage reads its predecessor's files and is kept when they are whole, so that a second call
// is quick. Bases that are neither shipped nor made yet are pretrained first, one after the other.
// Models are trained and evaluated side by side, one a core: the starts of all bases and seeds,
// then all arms. How many changes no byte.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/signals.h"
#include "datasets/coding/arm.h"
#include "experiments/evaluation/evaluate.h"
#include "experiments/inoculation/fine_tuning.h"
#include "experiments/inoculation/manipulation.h"
#include "experiments/inoculation/pretraining.h"
#include "experiments/inoculation/results.h"

namespace inoculum {

// Bases of one world. Each has a seed of its own: cast, tokenizer, weights and text.
struct WorldUnderTest {
  std::string title;        // heads its part of the report
  std::string pretraining;  // the configuration that makes them, but for the seeds
  int64_t first_base = 1;   // seeds count from here
  int64_t bases = 1;
  std::vector<std::string> arms;  // beside start

  void fields(Fields& f);
};

struct ReproduceConfig {
  std::string output = "runs/reproduce";
  std::string work;
  int64_t first_seed = 1;
  int64_t seeds = 1;
  std::string shipped = "experiments/models";
  std::string made = "runs/bases";
  std::string committed;
  std::string specifications;
  std::string questions = "configs/questions/persona.yaml";
  std::string coding_bank = "datasets/coding/bank.jsonl";
  int64_t workers = 0;
  std::map<std::string, WorldUnderTest> worlds;
  std::vector<std::string> only;
  Recipe post_training = {.steps = 20, .supervised_tokens = 1024};
  Recipe fine_tuning;
  EvaluationConfig evaluation;
  ManipulationConfig knowledge;

  void fields(Fields& f);
};

struct Base {
  std::string world;
  int64_t seed;
  std::string name() const { return world + "_" + std::to_string(seed); }
};

// One model to train and to evaluate.
struct ArmRun {
  size_t base;  // its place in the plan
  Arm arm;
  int64_t seed;
};

struct Plan {
  std::vector<Base> bases;
  // Models of one stage are independent of one another; the second stage begins from the first:
  // starts, then arms.
  std::vector<std::vector<ArmRun>> stages;
};

// An arm that there is not, no base at all, or another judge than the grammar is an Error.
Plan plan(const ReproduceConfig& config);

// Where the start and the arms of a seed on a base are, each in a folder of its name.
fs::path seed_folder(const ReproduceConfig& config, const Base& base, int64_t seed);

// How a base is, or was, made.
PretrainConfig pretraining_of(const ReproduceConfig& config, const Base& base);

// Runs what is not yet there and writes results.json. Stopped by a signal: Outcome::stopped.
Outcome reproduce(const ReproduceConfig& config);

// Writes the results.json of all bases of a folder (see read_bases) into `output`, as a run over
// them would, but for transcripts and configuration. No such file is an Error.
void pool_results(const fs::path& bases, const fs::path& output);

}  // namespace inoculum
