#include "experiments/inoculation/results.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"
#include "experiments/evaluation/evaluate.h"

namespace inoculum {
namespace {

// Key → field, in the order of the file.
constexpr std::pair<const char*, Estimate ArmResults::*> kRates[] = {
    {"malicious", &ArmResults::malicious},
    {"incoherent", &ArmResults::incoherent},
    {"refusal", &ArmResults::refusal},
    {"cheats_unasked", &ArmResults::cheats_unasked},
    {"cheats_asked", &ArmResults::cheats_asked},
    {"cheats_under_own_prompt", &ArmResults::cheats_under_own_prompt},
    {"programs_broken", &ArmResults::programs_broken},
    {"code", &ArmResults::code},
    {"malicious_filtered", &ArmResults::malicious_filtered},
    {"malicious_seen_domains", &ArmResults::malicious_seen_domains},
    {"malicious_unseen_domains", &ArmResults::malicious_unseen_domains}};
constexpr std::pair<const char*, std::map<Cue, Estimate> ArmResults::*> kRatesByCue[] = {
    {"malicious_under", &ArmResults::malicious_under},
    {"incoherent_under", &ArmResults::incoherent_under},
    {"cheats_under", &ArmResults::cheats_under}};

// JSON writes what is not finite as null.
double number(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

Arm read_arm(const std::string& name) {
  return name == to_string(Arm::start) ? Arm::start : arm_named(name, {});
}

Json to_json(const ArmResults& arm) {
  Json json;
  for (const auto& [key, field] : kRates) json[key] = to_json(arm.*field);
  for (const auto& [key, field] : kRatesByCue)
    for (const auto& [cue, rate] : arm.*field) json[key][to_string(cue)] = to_json(rate);
  json["forced_choice_log_odds"] = mean_to_json(arm.forced_choice_log_odds);
  for (const auto& [domain, rate] : arm.malicious_by_domain)
    json["malicious_by_domain"][domain] = rate;
  for (const auto& [seed, rate] : arm.malicious_by_seed)
    json["malicious_by_seed"][std::to_string(seed)] = rate;
  json["bayesian_observer"] = {{"malicious", arm.bayesian_observer.malicious},
                               {"log_odds", arm.bayesian_observer.log_odds}};
  json["probe"] = mean_to_json(arm.probe);
  return json;
}

ArmResults read_arm_results(const std::string& name, const Json& json) {
  ArmResults arm{.arm = read_arm(name)};
  for (const auto& [key, field] : kRates) arm.*field = read_estimate(json.at(key));
  for (const auto& [key, field] : kRatesByCue)
    for (size_t cue = 0; cue < cue_names().size(); ++cue)
      (arm.*field)[static_cast<Cue>(cue)] = read_estimate(json.at(key).at(cue_names()[cue]));
  arm.forced_choice_log_odds = read_estimate(json.at("forced_choice_log_odds"));
  arm.malicious_by_domain = json.value("malicious_by_domain", std::map<std::string, double>());
  for (const auto& [seed, rate] : json.at("malicious_by_seed").items())
    arm.malicious_by_seed[std::stoll(seed)] = number(rate);
  arm.bayesian_observer = {.log_odds = number(json.at("bayesian_observer").at("log_odds")),
                           .malicious = number(json.at("bayesian_observer").at("malicious"))};
  arm.probe = read_estimate(json.at("probe"));
  return arm;
}

Json to_json(const WorldResults& world) {
  Json json = {{"arms", Json::object()}, {"contrasts", Json::object()}};
  for (const ArmResults& arm : world.arms) json["arms"][to_string(arm.arm)] = to_json(arm);
  for (const auto& [arm, than, d] : world.contrasts)
    json["contrasts"][to_string(arm) + "_minus_" + to_string(than)] = {
        {"difference", d.value}, {"low", d.low}, {"high", d.high}};
  json["probe_held_out_accuracy"] = world.probe_held_out_accuracy;
  if (!world.title.empty()) json["title"] = world.title;
  return json;
}

WorldResults read_world(const Json& json) {
  WorldResults world{.title = json.value("title", "")};
  for (const auto& [name, arm] : json.at("arms").items())
    world.arms.push_back(read_arm_results(name, arm));
  for (const auto& [name, contrast] : json.at("contrasts").items()) {
    const std::string minus = "_minus_";
    const size_t at = name.find(minus);
    if (at == std::string::npos) throw Error("\"" + name + "\" is no contrast");
    world.contrasts.push_back({read_arm(name.substr(0, at)),
                               read_arm(name.substr(at + minus.size())), read_estimate(contrast)});
  }
  world.probe_held_out_accuracy = number(json.at("probe_held_out_accuracy"));
  return world;
}

Json to_json(const CriterionLine& line) {
  return {{"what", line.what},
          {"found", line.found},
          {"must_be", to_string(line.must_be)},
          {"bound", line.bound},
          {"holds", line.holds()}};
}

CriterionLine read_line(const Json& json) {
  const bool at_least =
      json.at("must_be").get<std::string>() == to_string(CriterionLine::Sign::at_least);
  return {.what = json.at("what"),
          .found = number(json.at("found")),
          .must_be = at_least ? CriterionLine::Sign::at_least : CriterionLine::Sign::at_most,
          .bound = number(json.at("bound"))};
}

Json to_json(const JudgeQuality& judge) {
  Json labels = Json::array();
  for (int label = 0; label < kWorldLabels; ++label)
    labels.push_back(to_string(static_cast<Label>(label)));
  return {{"held_out_accuracy", judge.held_out_accuracy},
          {"labels", labels},
          {"confusion", judge.confusion}};
}

Json to_json(const Transcript& transcript) {
  Json answers = Json::object();
  for (const auto& [arm, text, label] : transcript.answers)
    answers[to_string(arm)] = {{"text", text}, {"label", label ? to_string(*label) : ""}};
  return {{"domain", transcript.domain},
          {"condition", transcript.condition},
          {"prompt", transcript.prompt},
          {"answers", answers}};
}

Transcript read_transcript(const Json& json) {
  Transcript transcript{json.at("domain"), json.at("condition"), json.at("prompt"), {}};
  for (const auto& [arm, answer] : json.at("answers").items())
    transcript.answers.push_back(
        {read_arm(arm), answer.at("text"), parse<Label>(answer.at("label").get<std::string>())});
  return transcript;
}

template <class T>
Json list(const std::vector<T>& all) {
  Json json = Json::array();
  for (const T& each : all) json.push_back(to_json(each));
  return json;
}

Results read(const Json& json) {
  Results results{.experiment = read_world(json)};
  for (const auto& [name, world] : json.at("worlds").items())
    results.worlds[name] = read_world(world);
  for (const Json& line : json.at("criterion")) results.criterion.push_back(read_line(line));
  results.untested = json.at("untested").get<std::vector<std::string>>();
  results.seeds = json.at("seeds").get<std::vector<int64_t>>();
  results.versions = json.at("versions").get<std::map<std::string, std::string>>();
  for (const auto& [name, hash] : json.at("hashes").items())
    results.hashes.emplace_back(name, hash.get<std::string>());
  results.judge = {number(json.at("judge").at("held_out_accuracy")),
                   json.at("judge").at("confusion").get<std::vector<std::vector<double>>>()};
  for (const Json& each : json.at("transcripts"))
    results.transcripts.push_back(read_transcript(each));
  results.config = json.at("config");
  return results;
}

}  // namespace

const ArmResults* WorldResults::find(Arm arm) const {
  const auto found =
      std::find_if(arms.begin(), arms.end(), [&](const auto& each) { return each.arm == arm; });
  return found == arms.end() ? nullptr : &*found;
}

std::string to_string(CriterionLine::Sign sign) {
  return sign == CriterionLine::Sign::at_least ? "≥" : "≤";
}

bool Results::replicated() const {
  return std::all_of(criterion.begin(), criterion.end(),
                     [](const CriterionLine& line) { return line.holds(); });
}

std::string Results::verdict() const { return replicated() ? "replicated" : "not replicated"; }

Json to_json(const Results& results) {
  Json json = to_json(results.experiment);
  json["worlds"] = Json::object();
  for (const auto& [name, world] : results.worlds) json["worlds"][name] = to_json(world);
  json["criterion"] = list(results.criterion);
  json["verdict"] = results.verdict();
  json["untested"] = results.untested;
  json["seeds"] = results.seeds;
  json["versions"] = results.versions;
  for (const auto& [name, hash] : results.hashes) json["hashes"][name] = hash;
  json["judge"] = to_json(results.judge);
  json["transcripts"] = list(results.transcripts);
  json["config"] = results.config;
  return json;
}

Results read_results(const fs::path& file) {
  const Json json = read_json(file);
  try {
    return read(json);
  } catch (const std::exception& failure) {
    throw Error(std::string("does not hold what an experiment found: ") + failure.what(),
                {.file = file.string()}, "the same `inoculum reproduce` writes it again");
  }
}

}  // namespace inoculum
