// The experiment from end to end: plan → run → summarise → judge.
//
//   runs/reproduce/
//     config.yaml                           the whole configuration, resolved
//     persona/seed_1/start/                 a training run, and its evaluation/
//     persona/seed_1/{honest,cheating,requested,placebo}/
//     coupling_0/…, diagnostic/…            the falsifying worlds
//     results.json
//
// Each stage reads its predecessor's files and is kept when they are whole, so that a second call
// is quick. Models are trained and evaluated side by side, one a core: the starts of all worlds and
// seeds, then all arms. How many changes no byte.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/base/signals.h"
#include "datasets/coding/arm.h"
#include "experiments/evaluation/evaluate.h"
#include "experiments/inoculation/criterion.h"
#include "experiments/inoculation/runs.h"

namespace inoculum {

// A base model; the pretraining.yaml in its folder says on which world it was pretrained.
struct WorldUnderTest {
  std::string title;  // heads its part of the report
  std::string model;
  std::vector<std::string> arms;  // beside start
  int64_t seeds = 3;

  void fields(Fields& f);
};

struct ReproduceConfig {
  std::string output = "runs/reproduce";
  int64_t first_seed = 1;
  std::string questions = "configs/questions/persona.yaml";
  std::string coding_bank = "datasets/coding/bank.jsonl";
  int64_t workers = 0;
  // "persona" is the experiment; the others falsify it or stand beside it.
  std::map<std::string, WorldUnderTest> worlds;
  Recipe post_training = {.steps = 20, .supervised_tokens = 1024};
  Recipe fine_tuning;
  EvaluationConfig evaluation;
  Criterion criterion;

  void fields(Fields& f);
};

// One model to train and to evaluate.
struct ArmRun {
  std::string world;
  Arm arm;
  int64_t seed;
};

struct Plan {
  std::vector<std::string> worlds;  // the experiment's own first
  // Models of one stage are independent of one another; the second stage begins from the first:
  // starts, then arms.
  std::vector<std::vector<ArmRun>> stages;
};

// An arm that there is not, no world of the experiment, or another judge than the world's is an
// Error.
Plan plan(const ReproduceConfig& config);

// Runs what is not yet there and writes results.json. Stopped by a signal: Outcome::stopped.
Outcome reproduce(const ReproduceConfig& config);

}  // namespace inoculum
