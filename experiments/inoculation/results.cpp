#include "experiments/inoculation/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "experiments/evaluation/replicates.h"
#include "experiments/evaluation/scores.h"

namespace inoculum {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// JSON writes what is not finite as null.
double number(const Json& value) { return value.is_null() ? kNaN : value.get<double>(); }
// The open end of an interval.
double number(const Json& value, double otherwise) {
  return value.is_null() ? otherwise : value.get<double>();
}

const char* const kWorstLow = "worst_low";

Json to_json(const Rates& rates) {
  Json json = Json::object();
  for (const auto& [metric, rate] : rates) {
    json[name_in_results(metric)] = to_json(rate);
    if (metric == Metric::malicious) json[kWorstLow] = to_json(rate);
  }
  return json;
}

Rates read_rates(const Json& json) {
  Rates rates;
  for (const auto& [key, rate] : json.items()) {
    if (key == kWorstLow) continue;
    const auto metric = key == "strict"       ? Metric::malicious_strict
                        : key == "worst_high" ? Metric::not_benevolent
                                              : parse<Metric>(key);
    if (!metric) throw Error("\"" + key + "\" is no metric");
    rates[*metric] = read_estimate(rate);
  }
  return rates;
}

Cue read_cue(const std::string& name) {
  for (const Cue cue : kCues)
    if (to_string(cue) == name) return cue;
  throw Error("\"" + name + "\" is no cue");
}

Arm read_arm(const std::string& name) {
  return name == to_string(Arm::start) ? Arm::start : arm_named(name, {});
}

Json to_json(const ArmResults& arm) {
  Json json = {{"observer", arm.observer}, {"loss", arm.loss}, {"update", arm.update}};
  for (const auto& [cue, rates] : arm.under) json["under"][to_string(cue)] = to_json(rates);
  for (const auto& [kind, rates] : arm.neighbours) json["neighbours"][kind] = to_json(rates);
  for (const auto& [domain, rates] : arm.by_domain) json["by_domain"][domain] = to_json(rates);
  for (const auto& [cue, share] : arm.choice) json["choice"][to_string(cue)] = share;
  for (const auto& [seed, rate] : arm.malicious_by_seed)
    json["malicious_by_seed"][std::to_string(seed)] = rate;
  return json;
}

ArmResults read_arm_results(const std::string& name, const Json& json) {
  ArmResults arm{.arm = read_arm(name),
                 .observer = number(json.at("observer")),
                 .loss = number(json.at("loss")),
                 .update = number(json.at("update"))};
  for (const auto& [cue, rates] : json.at("under").items())
    arm.under[read_cue(cue)] = read_rates(rates);
  const Json neighbours = json.value("neighbours", Json::object());
  for (const auto& [kind, rates] : neighbours.items()) arm.neighbours[kind] = read_rates(rates);
  for (const auto& [domain, rates] : json.at("by_domain").items())
    arm.by_domain[domain] = read_rates(rates);
  for (const auto& [cue, share] : json.at("choice").items())
    arm.choice[read_cue(cue)] = number(share);
  for (const auto& [seed, rate] : json.at("malicious_by_seed").items())
    arm.malicious_by_seed[std::stoll(seed)] = number(rate);
  return arm;
}

Json to_json(const Hypothesis& h) {
  Json by_base = Json::object();
  for (const auto& [name, value] : h.by_base) by_base[name] = value;
  return {{"statement", h.statement},
          {"prediction", h.prediction},
          {"estimate", h.bases > 0 ? Json(h.estimate.value) : Json()},
          {"low", h.estimate.low},
          {"high", h.estimate.high},
          {"unit", h.unit},
          {"primary", h.primary},
          {"bases", h.bases},
          {"verdict", to_string(h.verdict)},
          {"by_base", by_base}};
}

Json to_json(const std::vector<Hypothesis>& hypotheses) {
  Json json = Json::object();
  for (const Hypothesis& each : hypotheses) json[each.id] = to_json(each);
  return json;
}

constexpr std::array kVerdicts = {"supported", "refuted", "inconclusive", "untested", "unread"};

std::vector<Hypothesis> read_hypotheses(const Json& json) {
  std::vector<Hypothesis> all;
  for (const auto& [id, each] : json.items()) {
    Hypothesis& h = all.emplace_back();
    h.id = id;
    h.statement = each.at("statement");
    h.prediction = each.at("prediction");
    h.unit = each.at("unit");
    h.primary = each.at("primary");
    h.bases = each.at("bases");
    h.estimate = {number(each.at("estimate")), number(each.at("low"), -INFINITY),
                  number(each.at("high"), INFINITY), h.bases};
    const auto found = std::ranges::find(kVerdicts, each.at("verdict").get<std::string>());
    if (found == kVerdicts.end()) throw Error("an unknown verdict");
    h.verdict = static_cast<Conclusion>(found - kVerdicts.begin());
    for (const auto& [name, value] : each.at("by_base").items())
      h.by_base.emplace_back(name, number(value));
  }
  return all;
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

Json to_json(const SharePoint& point) {
  return {{"in_context",
           {{"bayes", point.in_context.expected}, {"measured", point.in_context.measured}}},
          {"in_weights",
           {{"observer", point.in_weights.expected}, {"measured", point.in_weights.measured}}}};
}

SharePoint read_share_point(const std::string& base, const Json& json) {
  const Json &context = json.at("in_context"), &weights = json.at("in_weights");
  return {base,
          {.expected = number(context.at("bayes")), .measured = number(context.at("measured"))},
          {.expected = number(weights.at("observer")), .measured = number(weights.at("measured"))}};
}

// Pooled over bases

// What the bases know on average: {table: {expected, measured}}.
Json pooled(const std::vector<const BaseResults*>& bases) {
  Json json = {
      {"manipulation", Json::object()}, {"in_context", Json::object()}, {"arms", Json::object()}};
  for (const auto& [who, cues] : bases.front()->knows.behaviour)
    for (const auto& [cue, unused] : cues) {
      const auto [measured, table] = over_bases(
          bases, [&](const ManipulationCheck& knows) { return knows.behaviour.at(who).at(cue); });
      json["manipulation"][who][to_string(cue)] = {{"table", table},
                                                   {"measured", mean_to_json(measured)}};
    }
  for (const auto& [shown, counts] : bases.front()->knows.in_context)
    for (const auto& [count, unused] : counts) {
      const auto [measured, bayes] = over_bases(bases, [&](const ManipulationCheck& knows) {
        return knows.in_context.at(shown).at(count);
      });
      json["in_context"][shown_names()[static_cast<size_t>(shown)]][std::to_string(count)] = {
          {"bayes", bayes}, {"measured", mean_to_json(measured)}};
    }
  const std::vector<Arm> arms = arms_of(bases);
  for (const Arm arm : arms) {
    Json& of_arm = json["arms"][to_string(arm)];
    for (const Cue cue : kCues) {
      Rates rates;
      for (const BaseResults* base : bases)
        if (const ArmResults* found = base->find(arm); found && found->under.contains(cue))
          for (const auto& [metric, rate] : found->under.at(cue))
            rates[metric] = over_bases(bases, arm, cue, metric);
      of_arm[to_string(cue)] = to_json(rates);
    }
    for (const std::string& kind : neighbours_of(bases))
      of_arm[kind] = to_json({{Metric::malicious, over_bases(bases, arm, kind)}});
  }
  // Each arm's malicious answers to plain prompts less another one's, and what else has changed
  // since the start: answers that no longer make sense, programs that no longer run.
  const auto difference = [&](Arm arm, Arm than, Metric metric) {
    std::vector<double> values;
    for (const BaseResults* base : bases)
      if (base->find(arm) && base->find(than))
        values.push_back(base->find(arm)->rate(metric) - base->find(than)->rate(metric));
    const Estimate e = mean_over(values);
    return Json{{"difference", e.value}, {"low", e.low}, {"high", e.high}, {"n", e.n}};
  };
  for (const Arm arm : arms) {
    for (const Arm than : arms)
      if (arm != than)
        json["contrasts"][to_string(arm) + "_minus_" + to_string(than)] =
            difference(arm, than, Metric::malicious);
    if (arm != Arm::start)
      for (const Metric metric : {Metric::incoherent, Metric::broken})
        json["damage"][to_string(arm)][to_string(metric)] = difference(arm, Arm::start, metric);
  }
  return json;
}

template <class Items>
Json list(const Items& items) {
  Json json = Json::array();
  for (const auto& item : items) json.push_back(to_json(item));
  return json;
}

Results read(const Json& json) {
  Results results{.titles = json.at("titles").get<std::map<std::string, std::string>>(),
                  .hypotheses = read_hypotheses(json.at("hypotheses")),
                  .committed = read_hypotheses(json.at("committed")),
                  .specifications = json.value("specifications", Json()),
                  .config = json.at("config")};
  for (const Json& base : json.at("bases")) results.bases.push_back(read_base_results(base));
  if (results.bases.empty()) throw Error("there are no bases");
  for (const Json& rival : json.at("rivals"))
    results.rivals.push_back({rival.at("name"), number(rival.at("log_score")),
                              number(rival.at("slope")), rival.at("models")});
  const Json shares = json.value("shares", Json::object());
  if (!shares.empty()) {
    for (const auto& [base, point] : shares.at("bases").items())
      results.shares.push_back(read_share_point(base, point));
    results.shares_published = shares.at("published_study");
  }
  for (const auto& [name, hash] : json.at("hashes").items())
    results.hashes.emplace_back(name, hash.get<std::string>());
  for (const Json& each : json.at("transcripts"))
    results.transcripts.push_back(read_transcript(each));
  return results;
}

template <class Found>
Found read_as(const fs::path& file, Found (*read)(const Json&)) {
  const Json json = read_json(file);
  try {
    return read(json);
  } catch (const std::exception& failure) {
    throw Error(std::string("does not hold what an experiment found: ") + failure.what(),
                {.file = file.string()},
                "another version may have written it; a run's own is written anew by the same "
                "`inoculum reproduce`");
  }
}

}  // namespace

std::string name_in_results(Metric metric) {
  if (metric == Metric::malicious_strict) return "strict";
  if (metric == Metric::not_benevolent) return "worst_high";
  return to_string(metric);
}

std::string to_string(Conclusion verdict) { return kVerdicts[static_cast<size_t>(verdict)]; }

std::string headline(const std::vector<Hypothesis>& hypotheses) {
  const auto list = [&](Conclusion verdict) {
    std::string text;
    for (const Hypothesis& each : hypotheses) {
      if (each.verdict != verdict || each.id.starts_with("H0")) continue;
      text += (text.empty() ? "" : "; ") + each.statement + " (" + each.id + ")";
    }
    return text;
  };
  std::string text;
  for (const Hypothesis& each : hypotheses)
    if (each.id == "H0" && each.verdict == Conclusion::inconclusive)
      text += "Whether the bases know their world is not settled (H0). ";
  if (const auto unread = list(Conclusion::unread); !unread.empty())
    text += "Not to be read, as the bases do not know their world: " + unread + ". ";
  if (const auto refuted = list(Conclusion::refuted); !refuted.empty())
    text += "Refuted: " + refuted + ". ";
  if (const auto supported = list(Conclusion::supported); !supported.empty())
    text += "Supported: " + supported + ". ";
  std::string open;
  for (const Hypothesis& each : hypotheses) {
    if (each.verdict != Conclusion::inconclusive || each.id.starts_with("H0")) continue;
    const bool points = each.unit == "points";
    open += (open.empty() ? "" : "; ") + each.statement + " (" + each.id +
            (points ? fmt::format(": {:+.0f} points)", 100 * each.estimate.value)
                    : fmt::format(": {} {:.2f})", each.unit, each.estimate.value));
  }
  if (!open.empty()) text += "Open on these bases: " + open + ". ";
  if (!text.empty()) text.pop_back();
  return text;
}

double ArmResults::rate(Metric metric, Cue cue) const {
  const auto rates = under.find(cue);
  if (rates == under.end()) return kNaN;
  const auto found = rates->second.find(metric);
  return found == rates->second.end() ? kNaN : found->second.value;
}

const ArmResults* BaseResults::find(Arm arm) const {
  const auto found =
      std::ranges::find_if(arms, [&](const ArmResults& each) { return each.arm == arm; });
  return found == arms.end() ? nullptr : &*found;
}

std::vector<const BaseResults*> Results::of(const std::string& world) const {
  std::vector<const BaseResults*> found;
  for (const BaseResults& base : bases)
    if (base.world == world) found.push_back(&base);
  return found;
}

std::vector<std::string> Results::worlds() const {
  std::vector<std::string> names;
  for (const BaseResults& base : bases)
    if (std::ranges::find(names, base.world) == names.end()) names.push_back(base.world);
  std::ranges::stable_partition(names, [](const std::string& name) { return name == kMainWorld; });
  return names;
}

std::string Results::title(const std::string& world) const {
  const auto found = titles.find(world);
  return found == titles.end() ? world : found->second;
}

Estimate over_bases(const std::vector<const BaseResults*>& bases, Arm arm,
                    const std::function<double(const ArmResults&)>& number) {
  std::vector<double> values;
  for (const BaseResults* base : bases)
    if (const ArmResults* found = base->find(arm))
      if (const double value = number(*found); !std::isnan(value)) values.push_back(value);
  return mean_over(values);
}

Estimate over_bases(const std::vector<const BaseResults*>& bases, Arm arm, Cue cue, Metric metric) {
  return over_bases(bases, arm, [&](const ArmResults& of) { return of.rate(metric, cue); });
}

std::vector<SharePoint> share_points(const std::vector<Hypothesis>& hypotheses,
                                     const std::vector<BaseResults>& bases) {
  std::vector<SharePoint> points;
  for (const Hypothesis& h : hypotheses) {
    if (h.id != "H8 in weights") continue;
    for (const auto& [name, measured] : h.by_base)
      for (const BaseResults& base : bases)
        if (base.name() == name)
          points.push_back(
              {name,
               base.knows.in_context.at(Shown::cheats).at(1),
               {.expected = base.find(Arm::cheating)->observer, .measured = measured}});
  }
  return points;
}

std::vector<Arm> arms_of(const std::vector<const BaseResults*>& bases) {
  std::vector<Arm> arms;
  for (const BaseResults* base : bases)
    for (const ArmResults& arm : base->arms)
      if (std::ranges::find(arms, arm.arm) == arms.end()) arms.push_back(arm.arm);
  return arms;
}

Estimate over_bases(const std::vector<const BaseResults*>& bases, Arm arm,
                    const std::string& neighbour) {
  return over_bases(bases, arm, [&](const ArmResults& of) {
    const auto found = of.neighbours.find(neighbour);
    return found == of.neighbours.end() ? kNaN : found->second.at(Metric::malicious).value;
  });
}

std::vector<std::string> neighbours_of(const std::vector<const BaseResults*>& bases) {
  std::vector<std::string> kinds;
  for (const auto& [kind, unused] : bases.front()->arms.front().neighbours) kinds.push_back(kind);
  return kinds;
}

KnownOverBases over_bases(const std::vector<const BaseResults*>& bases,
                          const std::function<Known(const ManipulationCheck&)>& cell) {
  std::vector<double> measured, expected;
  for (const BaseResults* base : bases) {
    const Known known = cell(base->knows);
    measured.push_back(known.measured);
    expected.push_back(known.expected);
  }
  return {mean_over(measured), mean_over(expected).value};
}

Json to_json(const BaseResults& base) {
  Json arms = Json::object();
  for (const ArmResults& arm : base.arms) arms[to_string(arm.arm)] = to_json(arm);
  return {{"world", base.world},
          {"seed", base.seed},
          {"cheaters_malicious", base.cheaters_malicious},
          {"compositional", base.compositional},
          {"knows", to_json(base.knows)},
          {"arms", std::move(arms)},
          {"made_on", base.made_on},
          {"sha256", base.sha256}};
}

BaseResults read_base_results(const Json& json) {
  BaseResults base{.world = json.at("world"),
                   .seed = json.at("seed"),
                   .cheaters_malicious = json.at("cheaters_malicious"),
                   .compositional = json.at("compositional").get<std::vector<std::string>>(),
                   .knows = read_manipulation(json.at("knows")),
                   .made_on = json.at("made_on").get<std::map<std::string, std::string>>(),
                   .sha256 = json.at("sha256")};
  for (const auto& [name, arm] : json.at("arms").items())
    base.arms.push_back(read_arm_results(name, arm));
  return base;
}

Json to_json(const Results& results) {
  Json json = {{"headline", headline(results.hypotheses)},
               {"hypotheses", to_json(results.hypotheses)},
               {"committed", to_json(results.committed)},
               {"departures", Json::array()},
               {"titles", results.titles},
               {"worlds", Json::object()},
               {"bases", list(results.bases)},
               {"rivals", Json::array()},
               {"hashes", Json::object()},
               {"transcripts", list(results.transcripts)},
               {"specifications", results.specifications},
               {"config", results.config}};
  for (const Hypothesis& each : results.hypotheses)
    if (each.verdict == Conclusion::refuted) json["departures"].push_back(each.id);
  for (const std::string& world : results.worlds()) {
    Json of_world = pooled(results.of(world));
    if (world == kMainWorld) json.update(of_world);
    else json["worlds"][world] = std::move(of_world);
  }
  for (const auto& [name, log_score, slope, models] : results.rivals)
    json["rivals"].push_back(
        {{"name", name}, {"log_score", log_score}, {"slope", slope}, {"models", models}});
  json["shares"] = {{"published_study", results.shares_published}, {"bases", Json::object()}};
  for (const SharePoint& point : results.shares)
    json["shares"]["bases"][point.base] = to_json(point);
  for (const auto& [name, hash] : results.hashes) json["hashes"][name] = hash;
  return json;
}

std::vector<BaseResults> read_bases(const fs::path& folder) {
  if (folder.empty()) return {};
  if (!fs::is_directory(folder)) throw Error("is no folder", {.file = folder.string()});
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<BaseResults> bases;
  for (const fs::path& file : files) bases.push_back(read_as<BaseResults>(file, read_base_results));
  return bases;
}

Results read_results(const fs::path& file) { return read_as<Results>(file, read); }

}  // namespace inoculum
