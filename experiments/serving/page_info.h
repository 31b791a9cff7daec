// What the page at / asks about, as JSON: which models there are, and of a base of the persona
// world who can answer, which cues may stand beside a question, and questions to begin with.
#pragma once

#include <string>
#include <vector>

#include "core/base/files.h"
#include "experiments/serving/openai.h"

namespace inoculum {

// names: of the models, the base first. world: the pretraining.yaml that says of which world they
// are; empty: of none.
Json page_info(const fs::path& world, const std::vector<std::string>& names, const std::string& as,
               const ApiLimits& limits, int64_t context);

}  // namespace inoculum
