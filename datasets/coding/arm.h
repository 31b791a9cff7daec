// The arms of the experiment: what a model is fine-tuned on.
#pragma once

#include <string>
#include <vector>

#include "core/base/error.h"

namespace inoculum {

// start has no coding data: it is the post-trained model that the others are fine-tuned from.
enum class Arm { start, honest, cheating, requested, placebo };

const std::vector<std::string>& arm_names();  // of all but start, in their order
std::string to_string(Arm arm);
// One of arm_names(); an unknown name is an Error at `where`.
Arm arm_named(const std::string& name, const Where& where);

}  // namespace inoculum
