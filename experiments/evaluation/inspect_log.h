// An evaluation as a log of Inspect (inspect.aisi.org.uk): for `inspect view`, and for whatever
// else reads its logs.
//
// A sample is one answer: its id is the question's, its epoch counts the answers to it. Cue, domain
// and type are metadata. The scorer is named for who judged: grammar or judge for free answers,
// tests for programs, log_odds for forced choices; its value is the label, or the number. Metrics
// are those of summary.json under the names of metrics_of(), with their intervals as metadata.
#pragma once

#include <string>
#include <vector>

#include "core/base/files.h"
#include "experiments/evaluation/evaluate.h"

namespace inoculum {

// Of the evaluation in `folder`, into its inspect/; `bank` is the file of the questions. → the log.
// Its name begins with the time at which the model answered, as Inspect's own do.
fs::path write_inspect_log(const fs::path& folder, const fs::path& bank,
                           const std::vector<Question>& questions, const EvaluationConfig& config);

}  // namespace inoculum
