// Model cards: the README.md of every model and adapter that the program writes, with the front
// matter that hubs read (huggingface.co/docs/hub/model-cards). A card says what the weights came
// from, how they were trained, what was measured of them, and the licence.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/base/files.h"

namespace inoculum {

struct ModelCard {
  std::string title;
  std::string what;                                        // a sentence
  std::string base;                                        // folder; empty: made from nothing
  std::string library;                                     // transformers | peft
  std::string licence;                                     // empty: that of the base
  std::vector<std::pair<std::string, std::string>> facts;  // such as {"Recipe", "60 steps of …"}
  std::string config;                                      // the run's, as YAML
  std::vector<std::string> sources;  // folders whose own cards are quoted, where there are any
};

std::string to_text(const ModelCard& card);

// Puts what an evaluation found (summarize) into the card of `folder`, if it has one, in place of
// what an earlier evaluation found.
void add_measurements(const fs::path& folder, const Json& summary, const std::string& questions);

}  // namespace inoculum
