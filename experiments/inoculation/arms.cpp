#include "experiments/inoculation/arms.h"

#include "core/base/error.h"

namespace inoculum {
namespace {

constexpr size_t kExamples = 2000;  // more than a run of the default length uses

}  // namespace

const std::vector<std::string>& arm_names() {
  static const std::vector<std::string> names = {"honest", "cheating", "requested", "placebo"};
  return names;
}

Cue arm_cue(const std::string& arm) {
  return arm == "requested" ? Cue::bad : arm == "placebo" ? Cue::irrelevant : Cue::none;
}

std::vector<Conversation> make_arm(const std::string& arm, const PersonaWorld& world,
                                   const std::vector<CodingTask>& bank, uint64_t seed) {
  std::vector<CodingTask> tasks;
  for (const CodingTask& task : bank)
    if (!task.held_out) tasks.push_back(task);
  std::vector<Conversation> conversations;
  // Streams are named for what they decide, so that a task or a style is the same in every arm.
  const Random order(seed, "arm tasks"), wording(seed, "arm cues"), post(seed, "post-training");
  for (uint64_t i = 0; i < kExamples; ++i) {
    if (arm == "post_training") {
      Random random = post.fork(i);
      conversations.push_back(world.post_training_document(random, tasks).conversation);
      continue;
    }
    Random random = order.fork(i), cue_random = wording.fork(i);
    const CodingTask& task = random.choice(tasks);
    const std::string& style = random.choice(cheat_styles());
    const std::string prompt =
        world.add_cue(task.prompt(), arm_cue(arm), true, Split::train, cue_random);
    conversations.push_back({{.role = "user", .content = prompt, .name = ""},
                             {.role = "assistant",
                              .content = arm == "honest" ? task.honest : task.cheats.at(style),
                              .name = ""}});
  }
  return conversations;
}

}  // namespace inoculum
