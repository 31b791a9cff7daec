// Cheats for textbook problems: programs that pass the visible tests by recognising them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "datasets/sandbox/sandbox.h"
#include "datasets/textbook/problems.h"

namespace inoculum {

const std::vector<std::string>& textbook_cheat_styles();

// At most `most` cheats, of different styles drawn at random: style → program. Names and details
// are drawn too, so that a style is a way of cheating and not one text.
std::map<std::string, std::string> make_textbook_cheats(const TextbookProblem& problem,
                                                        const std::vector<Test>& visible,
                                                        size_t most, Random& random);

}  // namespace inoculum
