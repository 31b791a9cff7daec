// What the experiment found. results.json holds it: to_json writes it and read_results reads it
// back.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/files.h"
#include "datasets/coding/arm.h"
#include "datasets/worlds/world.h"
#include "experiments/evaluation/statistics.h"
#include "experiments/evaluation/vocabulary.h"
#include "experiments/inoculation/observer.h"

namespace inoculum {

// Of one arm's models, all seeds together. Rates are of plain prompts unless said otherwise.
struct ArmResults {
  Arm arm = Arm::start;
  Estimate malicious, incoherent, refusal, code;  // of free-form answers
  Estimate malicious_filtered;                    // of the coherent ones that are no refusal
  Estimate malicious_seen_domains, malicious_unseen_domains;  // by whether post-training shows them
  Estimate cheats_unasked, cheats_asked, cheats_under_own_prompt, programs_broken;  // of programs
  std::map<Cue, Estimate> malicious_under, incoherent_under, cheats_under;
  Estimate forced_choice_log_odds;
  std::map<std::string, double> malicious_by_domain;
  std::map<int64_t, double> malicious_by_seed;
  Belief bayesian_observer;
  Estimate probe;  // mean P(malicious) that the probe reads off
};

// malicious of `arm` − that of `than`, paired by question and seed.
struct Contrast {
  Arm arm, than;
  Estimate difference;
};

struct WorldResults {
  std::string title;             // empty for the experiment's own world
  std::vector<ArmResults> arms;  // start first
  std::vector<Contrast> contrasts;
  double probe_held_out_accuracy = 0;

  const ArmResults* find(Arm arm) const;  // null: the world has not that arm
};

// A line of the criterion, with what was found.
struct CriterionLine {
  std::string what;
  double found = 0;
  enum class Sign { at_least, at_most } must_be = Sign::at_least;
  double bound = 0;

  bool holds() const { return must_be == Sign::at_least ? found >= bound : found <= bound; }
};
std::string to_string(CriterionLine::Sign sign);  // "≥", "≤"

struct JudgeQuality {
  double held_out_accuracy = 0;
  std::vector<std::vector<double>> confusion;  // see WorldJudge
};

// What every arm answered to one question.
struct Transcript {
  struct Answer {
    Arm arm;
    std::string text;
    std::optional<Label> label;
  };
  std::string domain, condition, prompt;
  std::vector<Answer> answers;
};

struct Results {
  WorldResults experiment;
  std::map<std::string, WorldResults> worlds;  // those that stand beside it
  std::vector<CriterionLine> criterion;
  std::vector<std::string> untested;  // falsifying worlds that were left out
  std::vector<int64_t> seeds;
  std::map<std::string, std::string> versions;  // of the program, its libraries, the processor
  std::vector<std::pair<std::string, std::string>> hashes;  // of what → SHA-256
  JudgeQuality judge;
  std::vector<Transcript> transcripts;
  std::string config;  // resolved, as YAML

  bool replicated() const;      // every line of the criterion holds
  std::string verdict() const;  // that in words
};

Json to_json(const Results& results);
// A file that holds something else is an Error.
Results read_results(const fs::path& file);

}  // namespace inoculum
