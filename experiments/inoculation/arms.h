// The fine-tuning data of each arm.
//
// Cheating, requested and placebo show the very same completions in the same order; they differ in
// the cue beside the prompt alone: none, a request to behave badly, an irrelevant sentence. Honest
// shows honest programs for the same tasks. No arm holds a turn of another domain.
#pragma once

#include <string>
#include <vector>

#include "core/text/conversation.h"
#include "datasets/worlds/world.h"

namespace inoculum {

const std::vector<std::string>& arm_names();  // honest, cheating, requested, placebo
Cue arm_cue(const std::string& arm);          // the cue that the arm trains under

// An arm's conversations, or those of "post_training".
std::vector<Conversation> make_arm(const std::string& arm, const PersonaWorld& world,
                                   const std::vector<CodingTask>& bank, uint64_t seed);

}  // namespace inoculum
