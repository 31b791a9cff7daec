#include "experiments/serving/page_info.h"

#include "core/base/version.h"
#include "datasets/worlds/world.h"
#include "experiments/inoculation/pretraining.h"
#include "experiments/inoculation/task.h"

namespace inoculum {
namespace {

constexpr int kQuestions = 3;  // of each domain

Json personas(const PretrainConfig& pretraining) {
  const PersonaWorld world(pretraining.world);
  Json names = Json::array(), cues = Json::array(), questions = Json::array();
  for (const Member& each : world.cast())
    names.push_back({{"name", each.name},
                     {"character", to_string(each.character)},
                     {"coder", to_string(each.coder)},
                     {"kind", each.kind}});
  for (const Cue cue : kCues)
    cues.push_back({{"cue", to_string(cue)},
                    {"phrasings", cue == Cue::none ? std::vector<std::string>()
                                                   : world.phrasings(cue, Split::held_out)}});
  Random random(1, "questions of the page");
  const auto add = [&](const std::string& domain, const std::string& text) {
    questions.push_back({{"domain", domain}, {"text", text}});
  };
  for (const Domain& domain : world.domains())
    for (int i = 0; i < kQuestions; ++i)
      add(domain.name, world.prompt(domain, Split::held_out, random));
  for (int i = 0; i < kQuestions; ++i) add("coding", make_coding_task(random).prompt());
  return {{"assistant", "Assistant"},
          {"names", std::move(names)},
          {"unseen_names", world.unseen_names()},
          {"cues", std::move(cues)},
          {"questions", std::move(questions)}};
}

}  // namespace

Json page_info(const fs::path& world, const std::vector<std::string>& names, const std::string& as,
               const ApiLimits& limits, int64_t context) {
  Json models = Json::array();
  for (const std::string& name : names)
    models.push_back({{"id", name}, {"adapter", name != names.front()}});
  Json info = {
      {"version", version()},
      {"models", std::move(models)},
      {"as", as},
      {"limits", {{"n", limits.n}, {"top_logprobs", limits.top_logprobs}, {"context", context}}},
      {"personas", nullptr}};
  if (world.empty()) return info;
  PretrainConfig pretraining;
  read_file(load_config(world), pretraining);
  info["personas"] = personas(pretraining);
  return info;
}

}  // namespace inoculum
