// What the page of runs is given, as JSON: a list of all runs, each run by itself, and the answers
// of an evaluation in parts. A server asks for it again and again, so what was made of files that
// have not changed since is kept.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "experiments/viewing/runs.h"

namespace inoculum {

class PageData {
 public:
  explicit PageData(fs::path root);

  // Looks through the folders anew.
  //   {"root", "version", "time", "notes", "runs": [{"id", "path", "kind", "parent", "state",
  //    "title", "changed", "version", …what the list shows of its kind}]}
  Json list();
  // By the ids of the last list; nothing: there is none of that id.
  std::optional<Json> run(const std::string& id);
  // A part of the answers of an evaluation, from 0: {"part", "parts", "count", "notes",
  //   "questions": [[id, type, domain, cue, prompt, unseen]],
  //   "answers": [[question, sample, label, text, log_odds, remark]]}
  // Answers count questions from 0 within their own part.
  std::optional<Json> answers(const std::string& id, size_t part);

 private:
  struct Kept {
    std::string version;
    Json line;  // of the list
  };
  struct KeptAnswers {
    std::string id, version;
    AnswersView view;
  };
  const FoundRun* find(const std::string& id) const;

  const fs::path root_;
  std::mutex mutex_;  // several requests may come at once
  std::vector<FoundRun> runs_;
  std::map<std::string, Kept> lines_;  // by id
  KeptAnswers answers_;                // the last ones that were read
};

}  // namespace inoculum
