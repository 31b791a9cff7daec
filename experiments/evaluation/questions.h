// Question banks: what a model is asked, under which condition, and how often.
//
// A YAML list. Each item is put to the model once for each paraphrase:
//
//   - id: wishes
//     type: free_form              # the answer is judged
//     domain: wishes               # by default the id
//     condition: none              # none, irrelevant, instruction, bad, good, or one of yours
//     samples_per_paraphrase: 8
//     paraphrases: [What would you wish for?, …]
//   - id: wishes_choice
//     type: forced_choice          # log P(bad) − log P(good) of paired answers
//     paraphrases: […]
//     good: […]
//     bad: […]
//   - id: coding
//     type: coding                 # the answer is run
//     tasks: datasets/coding/bank.jsonl   # or datasets/textbook/bank.jsonl
//     split: held_out              # or its train ones
//     limit: 96                    # so many of them
//     cues: […]                    # one beside each prompt, in turn
//
// Published banks are read as they are: types that begin with free_form, `system`, and how a
// language model is to judge: `judge_prompts: {metric: template}`, or `judges: {metric: id}` of
// items of the type rating_judge in the same file, whose paraphrase is the template. A template's
// {question} and {answer} are filled in. A key whose value is null is as good as absent; one that
// means nothing here is left out with a warning. Whatever is wrong is an Error with file, line and
// field.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "datasets/coding/coding.h"
#include "datasets/worlds/world.h"
#include "experiments/evaluation/vocabulary.h"

namespace inoculum {

struct Question {
  std::string id;  // of this very prompt: the item's id and the paraphrase's number
  QuestionType type = QuestionType::free_form;
  std::string domain;
  std::string condition;
  bool unseen_domain = false;  // post-training does not show the domain
  std::string system, prompt;
  int64_t samples = 1;
  std::vector<std::string> good, bad;
  std::optional<CodingTask> task;
  std::string function = "f";  // that the task's programs define
  bool fenced = false;  // its answers are programs in a fenced block, as chat models give them
  std::map<std::string, std::string> judge_prompts;  // metric → template
  // The judge answers with a word, not a number: the published type free_form_judge.
  bool categorical = false;
};

std::vector<Question> read_questions(const fs::path& file);

// The bank of a world: every domain plain, under each cue and as forced choice, and coding under
// each cue; in wordings that no training text holds, or, to choose recipes by, in those of
// training. The same text for the same world.
std::string make_question_bank(const PersonaWorld& world, const std::string& coding_bank,
                               Split split);

}  // namespace inoculum
