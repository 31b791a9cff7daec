// The fine-tuning data of each arm.
//
// The arms that cheat show the very same completions in the same order, those of a novel style
// among themselves; they differ in the cue beside the prompt alone. Honest shows honest programs
// for the same tasks, and so does a tenth of reminded. No arm holds a turn of another domain. The
// start is trained on the dialogues of post-training.
#pragma once

#include <string>
#include <vector>

#include "core/text/conversation.h"
#include "datasets/coding/arm.h"
#include "datasets/worlds/world.h"

namespace inoculum {

Cue arm_cue(Arm arm);  // the cue that the arm trains under

// What the `arm` of a training configuration may name: the world's arms, post_training for the
// start, and the textbook's arms as textbook_honest and so on.
std::vector<std::string> arm_data_names();
std::string data_name(Arm arm);  // of the arms of the world

std::vector<Conversation> make_arm(Arm arm, const PersonaWorld& world,
                                   const std::vector<CodingTask>& bank, uint64_t seed);
std::vector<Conversation> make_arm(const std::string& data_name, const PersonaWorld& world,
                                   const std::vector<CodingTask>& bank, uint64_t seed);

}  // namespace inoculum
