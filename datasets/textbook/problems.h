// Problems as people write them, in problems.yaml: statements, solutions and inputs with slots,
// which each variant fills. The head of that file says what its keys mean.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/files.h"

namespace inoculum {

// A variant of a problem, its slots filled; its tests are not known yet.
struct TextbookProblem {
  std::string family, id, topic, statement, function, solution;
  std::string draw;  // a Python expression for one more input, or empty
  std::vector<std::string> parameters, inputs;
  Where where;  // of the variant in its file
};

struct TextbookProblems {
  std::vector<std::string> wordings;  // how to ask: texts with the slots $ask and $tests
  std::vector<TextbookProblem> problems;
};

TextbookProblems read_textbook_problems(const fs::path& file);

// The text with `filling(slot)` in place of each $slot and ${slot}. The further lines of a filling
// are indented as the line where it stands.
std::string fill_slots(const std::string& text,
                       const std::function<std::string(const std::string&)>& filling);

// The parts of "a, b" between the commas that are not inside brackets or quotes.
std::vector<std::string> split_arguments(const std::string& text);

}  // namespace inoculum
