// Models from a hub that serves them as Hugging Face's does.
//
//   FetchConfig config{.repo = "Qwen/Qwen2.5-0.5B-Instruct", .output = "models/qwen"};
//   if (fetch_model(config).outcome == Outcome::stopped) …;   // the same call goes on where it was
//
// What loads here is fetched: configuration, tokenizer, chat template, safetensors, license and
// card. Pickles (.bin, .pt, …) are never fetched, for loading one runs what is in it. A file is
// written beside its place as `.part`, goes on after an interruption where it was if the server
// still has the very same file, and is renamed when its size, and the hash where the hub tells it,
// are right. `.fetched.json` remembers what was fetched: a second call fetches what is missing or
// changed. The token in the environment variable HF_TOKEN, if it is set, is sent to the endpoint's
// host alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/files.h"
#include "core/base/signals.h"

namespace inoculum {

struct FetchConfig {
  std::string repo;               // "owner/name" or "name"
  std::string revision = "main";  // a branch, tag or commit
  std::string output;             // a folder; empty: the repo's name
  std::string endpoint = "https://huggingface.co";

  void fields(Fields& f);
};

struct Fetched {
  Outcome outcome = Outcome::finished;  // already_done: nothing was missing; stopped: by a signal
  fs::path folder;
  std::string sha;                 // the commit
  std::vector<std::string> files;  // fetched by this call
  std::vector<std::string> kept;   // there already
  int64_t bytes = 0;               // received by this call
};
Fetched fetch_model(const FetchConfig& config);

// Which of a repo's files are fetched, in the order of fetching. An Error where a name leads out of
// the folder, where the weights are there as pickles alone, and where there are none.
std::vector<std::string> files_to_fetch(const std::vector<std::string>& names,
                                        const std::string& repo);

}  // namespace inoculum
