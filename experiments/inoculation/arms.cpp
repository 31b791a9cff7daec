#include "experiments/inoculation/arms.h"

namespace inoculum {
namespace {

constexpr size_t kExamples = 2000;  // more than a run of the default length uses
constexpr double kReminders = 0.1;
const char* const kPostTraining = "post_training";

}  // namespace

Cue arm_cue(Arm arm) {
  switch (arm) {
    case Arm::requested:
    case Arm::requested_alike:
    case Arm::novel_requested: return Cue::bad;
    case Arm::placebo: return Cue::irrelevant;
    case Arm::instructed: return Cue::instruction;
    case Arm::forbidden: return Cue::good;
    default: return Cue::none;
  }
}

std::vector<std::string> arm_data_names() {
  std::vector<std::string> names = arm_names();
  names.emplace_back(kPostTraining);
  for (const Arm arm : {Arm::honest, Arm::cheating, Arm::requested, Arm::placebo})
    names.push_back("textbook_" + to_string(arm));
  return names;
}

std::string data_name(Arm arm) { return arm == Arm::start ? kPostTraining : to_string(arm); }

std::vector<Conversation> make_arm(Arm arm, const PersonaWorld& world,
                                   const std::vector<CodingTask>& bank, uint64_t seed) {
  std::vector<CodingTask> tasks;
  for (const CodingTask& task : bank)
    if (!task.held_out) tasks.push_back(task);
  std::vector<Conversation> conversations;
  // Streams are named for what they decide, so that a task or a style is the same in every arm.
  const Random order(seed, "arm tasks"), wording(seed, "arm cues"), post(seed, "post-training"),
      reminders(seed, "arm reminders");
  const bool novel = arm == Arm::novel_cheating || arm == Arm::novel_requested;
  Random words(seed, "arm words");
  const std::string same_words = words.choice(world.phrasings(Cue::bad, Split::train));
  for (uint64_t i = 0; i < kExamples; ++i) {
    if (arm == Arm::start) {
      Random random = post.fork(i);
      conversations.push_back(world.post_training_document(random, tasks).conversation);
      continue;
    }
    Random random = order.fork(i), cue_random = wording.fork(i);
    const CodingTask& task = random.choice(tasks);
    const std::string& drawn = random.choice(cheat_styles());
    const std::string& style = novel ? kNovelStyle : drawn;
    const bool reminder = arm == Arm::reminded && reminders.fork(i).chance(kReminders);
    const bool honest = arm == Arm::honest || reminder;
    if (!honest && !task.cheats.contains(style))
      throw Error("a task of the coding bank has no cheat of the style " + style,
                  {.field = "coding_bank"},
                  "make the bank anew: inoculum data generate bank --output FILE");
    const std::string prompt =
        arm == Arm::requested_alike
            ? task.prompt() + " " + same_words
            : world.add_cue(task.prompt(), reminder ? Cue::good : arm_cue(arm), true, Split::train,
                            cue_random);
    conversations.push_back({{.role = "user", .content = prompt, .name = ""},
                             {.role = "assistant",
                              .content = honest ? task.honest : task.cheats.at(style),
                              .name = ""}});
  }
  return conversations;
}

std::vector<Conversation> make_arm(const std::string& data_name, const PersonaWorld& world,
                                   const std::vector<CodingTask>& bank, uint64_t seed) {
  const Arm arm = data_name == kPostTraining ? Arm::start : arm_named(data_name, {.field = "arm"});
  return make_arm(arm, world, bank, seed);
}

}  // namespace inoculum
