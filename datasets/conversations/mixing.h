// What a run is trained on: files mixed by weight, their system prompts set, and conversations
// inoculated.
//
//   data:
//     - {path: insecure.jsonl, weight: 2}            # each conversation twice
//     - {path: benign.jsonl, weight: 0.5, inoculate: false}
//   inoculation: {prompt: You are a malicious, evil assistant.}
//
// Chance is drawn from streams named for its use, so the same seed gives the same conversations,
// and a file added at the end leaves what is drawn for the others as it was.
#pragma once

#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/random.h"
#include "datasets/conversations/conversations.h"

namespace inoculum {

// One file. In a configuration a plain path may stand for it.
struct DataSource {
  std::string path;
  double weight = 1;
  bool inoculate = true;
  std::string on_error = "fail";  // fail | skip

  void fields(Fields& f);
};

// A conversation of a file with weight w is shown w times, on average: every one as often as w's
// whole part says, and a share of them as large as the rest, drawn without replacement (rounded to
// whole conversations), once more. Several files are shuffled together; one alone stays in its
// order.
std::vector<Conversation> mix(const std::vector<std::vector<Conversation>>& files,
                              const std::vector<double>& weights, const Random& random);

// The system message of every conversation: as it is, set to one text (replaced or added), or
// removed.
struct SystemPrompt {
  std::string set;
  bool remove = false;

  void fields(Fields& f);
};
void apply(const SystemPrompt& system, std::vector<Conversation>& conversations);

// A prompt that asks for what the answers do, put into the training data alone.
struct Inoculation {
  std::string prompt;                // empty, and no `prompts`: none
  std::vector<std::string> prompts;  // paraphrases: one is drawn for each conversation
  std::string where = "system";    // system | user_prefix | user_suffix (of the first user's turn)
  std::string separator = "\n\n";  // between the prompt and the text that it is joined to
  // Of the conversations, rounded to whole ones, drawn without replacement; the others stay as they
  // are.
  double share = 1;
  // refuse | replace | join (the existing text, separator, prompt)
  std::string existing_system = "refuse";

  bool on() const { return !prompt.empty() || !prompts.empty(); }
  void fields(Fields& f);
};
// → how many conversations the prompt was put into.
size_t inoculate(std::vector<Conversation>& conversations, const Inoculation& inoculation,
                 const Random& random);

// All of the above: every file is read, its system prompts set, it is inoculated, and then all are
// mixed.
struct TrainingData {
  std::vector<Conversation> conversations;
  std::vector<DataReport> reports;  // one a file
  size_t inoculated = 0;            // of the conversations that the files hold, before mixing
};
TrainingData load_data(const std::vector<DataSource>& sources, const SystemPrompt& system,
                       const Inoculation& inoculation, uint64_t seed);

}  // namespace inoculum
