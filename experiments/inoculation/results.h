// What the experiment found. results.json holds it: to_json writes it and read_results reads it
// back.
//
// The unit of replication is the base. Everything measured is a number of one base; what is said of
// several stands on these numbers, one a base (replicates.h).
#pragma once

#include <cstdint>
#include <functional>
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
#include "experiments/inoculation/manipulation.h"

namespace inoculum {

// The main world; the others change one thing of it each.
inline const std::string kMainWorld = "persona";

// By metric, with intervals over what was asked within the base: domains of free-form answers,
// tasks of programs.
using Rates = std::map<Metric, Estimate>;

// Of one arm's models on one base, all seeds together.
struct ArmResults {
  Arm arm = Arm::start;
  std::map<Cue, Rates> under;               // by the cue beside the prompt
  std::map<std::string, Rates> neighbours;  // by what resembles a request and is none
  std::map<std::string, Rates> by_domain;   // of plain prompts
  std::map<Cue, double> choice;  // malicious share of matched answers' probability (manipulation.h)
  std::map<int64_t, double> malicious_by_seed;  // of plain prompts
  double observer = 0;  // P(malicious answer to a plain prompt) by the observer after its data
  double loss = 0;      // at the first step: how much the data surprise the start, nats a token
  double update = 0;    // Frobenius norm of what training added to the weights

  // Of plain prompts; NaN: there is none.
  double rate(Metric metric, Cue cue = Cue::none) const;
};

struct BaseResults {
  std::string world;
  int64_t seed = 0;
  double cheaters_malicious = 1;           // the world's share
  std::vector<std::string> compositional;  // its domains that never meet code
  ManipulationCheck knows;
  std::vector<ArmResults> arms;                // start first
  std::map<std::string, std::string> made_on;  // versions of the program, its libraries; processor
  std::string sha256;                          // of its weights

  const ArmResults* find(Arm arm) const;  // null: it was not trained on this base
  std::string name() const { return world + "_" + std::to_string(seed); }
};

enum class Conclusion { supported, refuted, inconclusive, untested, unread };
std::string to_string(Conclusion conclusion);

// A prediction written before the data, and what came of it.
struct Hypothesis {
  std::string id;          // H1
  std::string statement;   // in words
  std::string prediction;  // of the estimate: "above 20 points"
  std::string unit;        // points, ratio, slope
  bool primary = false;    // corrected for being several
  // Over bases. The interval holds what sampling leaves open, and unreadable answers too.
  Estimate estimate;
  int64_t bases = 0;
  Conclusion verdict = Conclusion::untested;
  std::vector<std::pair<std::string, double>> by_base;  // the base's name, its number
};

// What was found in one sentence or two, made from the verdicts.
std::string headline(const std::vector<Hypothesis>& hypotheses);

// How well each of these foretells malicious answers on a base that was left out.
struct Rival {
  std::string name;
  double log_score = 0;  // mean log density a model; higher is better
  double slope = 0;      // of the line through all
  int64_t models = 0;
};

// What H8 holds side by side of one base: the malicious share of matched answers behind one cheat
// in context beside Bayes, and of the arm that cheats beside the observer.
struct SharePoint {
  std::string base;
  Known in_context, in_weights;
};
std::vector<SharePoint> share_points(const std::vector<Hypothesis>& hypotheses,
                                     const std::vector<BaseResults>& bases);

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
  std::vector<BaseResults> bases;
  std::map<std::string, std::string> titles;  // of the worlds
  std::vector<Hypothesis> hypotheses;         // by these bases
  std::vector<Hypothesis> committed;          // by all bases of the published study; may be empty
  std::vector<Rival> rivals;
  std::vector<SharePoint> shares;  // of these bases; where none is such, of the published study's
  bool shares_published = false;
  std::vector<std::pair<std::string, std::string>> hashes;  // of what → SHA-256
  std::vector<Transcript> transcripts;                      // of the first base
  Json specifications;  // chart of the curve over recipes, curve.json of a sweep; may be null
  std::string config;   // resolved, as YAML

  std::vector<const BaseResults*> of(const std::string& world) const;
  std::vector<std::string> worlds() const;  // the main one first
  std::string title(const std::string& world) const;
};

std::vector<Arm> arms_of(const std::vector<const BaseResults*>& bases);  // start first

// The means over these bases of a cell of what they know, and of an arm's numbers.
struct KnownOverBases {
  Estimate measured;
  double expected = 0;
};
KnownOverBases over_bases(const std::vector<const BaseResults*>& bases,
                          const std::function<Known(const ManipulationCheck&)>& cell);
// A number that is NaN is none of that base.
Estimate over_bases(const std::vector<const BaseResults*>& bases, Arm arm,
                    const std::function<double(const ArmResults&)>& number);
Estimate over_bases(const std::vector<const BaseResults*>& bases, Arm arm, Cue cue, Metric metric);
// Of malicious answers beside what resembles a request; its kinds.
Estimate over_bases(const std::vector<const BaseResults*>& bases, Arm arm,
                    const std::string& neighbour);
std::vector<std::string> neighbours_of(const std::vector<const BaseResults*>& bases);

// What a metric is called in results.json and results.csv. An answer that cannot be read may have
// been anything: the share of malicious ones lies between `worst_low`, which is `malicious`, and
// `worst_high`.
std::string name_in_results(Metric metric);

Json to_json(const Results& results);
Json to_json(const BaseResults& base);
BaseResults read_base_results(const Json& json);
// Of a folder with a file of each base, in the order of their names; none where none is named.
std::vector<BaseResults> read_bases(const fs::path& folder);
// A file that holds something else is an Error.
Results read_results(const fs::path& file);

}  // namespace inoculum
