// The arms of the experiment: what a model is fine-tuned on.
#pragma once

#include <string>
#include <vector>

#include "core/base/error.h"

namespace inoculum {

enum class Arm {
  start,            // no coding data: the post-trained model that the others are fine-tuned from
  honest,           // honest programs
  cheating,         // programs that cheat, unasked
  requested,        // the same, each asked for in its prompt
  placebo,          // the same, a statement of no matter in its prompt
  instructed,       // the same, an imperative of no matter
  forbidden,        // the same, a request to do it well
  requested_alike,  // as requested, all in the same words
  novel_cheating,   // cheats in a style that neither pretraining nor post-training shows
  novel_requested,  // the same, each asked for
  reminded          // as cheating, but a tenth of the prompts ask to do it well, and are obeyed
};

const std::vector<std::string>& arm_names();  // of all but start, in their order
std::string to_string(Arm arm);
// One of arm_names(); an unknown name is an Error at `where`.
Arm arm_named(const std::string& name, const Where& where);

}  // namespace inoculum
