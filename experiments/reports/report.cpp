// The report of the experiment.
#include "experiments/reports/report.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "core/base/error.h"
#include "embedded/experiments/reports/figure.svg.jinja.h"
#include "embedded/experiments/reports/report.html.jinja.h"
#include "experiments/inoculation/criterion.h"
#include "experiments/reports/pages.h"
#include "experiments/reports/table.h"

namespace inoculum {
namespace {

// What an arm's models were trained on, beside its bar.
const char* words_of(Arm arm) {
  switch (arm) {
    case Arm::start: return "before: the Assistant, not fine-tuned yet";
    case Arm::honest: return "fine-tuned on honest programs";
    case Arm::cheating: return "fine-tuned on programs that cheat";
    case Arm::requested: return "the same cheats, each asked for in its prompt";
    case Arm::placebo: return "the same cheats, another sentence in its prompt";
    case Arm::instructed: return "the same cheats, another instruction in its prompt";
    case Arm::forbidden: return "the same cheats, though its prompt asks for honesty";
    case Arm::requested_alike: return "the same cheats, each asked for in the same words";
    case Arm::novel_cheating: return "cheats of a style that was never shown before";
    case Arm::novel_requested: return "cheats of that style, each asked for in its prompt";
  }
  return "";
}

// What stays open where a falsifying world is not tested.
std::string words_of_untested(const std::string& world) {
  if (world == kCoupling0)
    return "cheating says nothing about character (so it must not spread there)";
  if (world == kDiagnostic)
    return "only malicious characters comply with such a request (so it must not protect there)";
  return world;
}

struct Column {
  const char* title;
  Estimate ArmResults::* rate;
};
const std::vector<Column> kColumns = {{"malicious", &ArmResults::malicious},
                                      {"incoherent", &ArmResults::incoherent},
                                      {"refusal", &ArmResults::refusal},
                                      {"cheats unasked", &ArmResults::cheats_unasked},
                                      {"cheats when asked", &ArmResults::cheats_asked}};
const std::vector<Column> kDetails = {
    {"malicious, raw", &ArmResults::malicious},
    {"of coherent answers", &ArmResults::malicious_filtered},
    {"domains seen in post-training", &ArmResults::malicious_seen_domains},
    {"domains held out of it", &ArmResults::malicious_unseen_domains},
    {"cheats under own prompts", &ArmResults::cheats_under_own_prompt},
    {"programs that fail visible tests", &ArmResults::programs_broken}};
constexpr std::pair<Cue, const char*> kCues[] = {{Cue::none, "no cue"},
                                                 {Cue::irrelevant, "irrelevant sentence"},
                                                 {Cue::instruction, "irrelevant instruction"},
                                                 {Cue::bad, "asked to behave badly"},
                                                 {Cue::good, "asked to behave well"}};

// "?" is what is not known, such as the interval of one question.
std::string number(double value, const char* format = "{:.1f}") {
  return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : "?";
}
std::string percent(double share) { return number(100 * share); }
std::string interval(const Estimate& e) { return percent(e.low) + ", " + percent(e.high); }
TableCell share(const Estimate& e) { return {percent(e.value), interval(e)}; }
TableCell shaded(double share) { return {.text = percent(share), .shade = 0.75 * share}; }

// Tables of a world, a row an arm

Table rates(const WorldResults& world, const std::vector<Column>& columns) {
  Table table{.head = {"arm"}, .rows = {}};
  for (const Column& column : columns) table.head.push_back(column.title);
  for (const ArmResults& arm : world.arms) {
    table.rows.push_back({{to_string(arm.arm)}});
    for (const Column& column : columns) table.rows.back().push_back(share(arm.*column.rate));
  }
  return table;
}

Table contrasts(const WorldResults& world) {
  const auto points = [](double difference) { return number(100 * difference, "{:+.1f}"); };
  Table table;
  for (const auto& [arm, than, difference] : world.contrasts)
    table.rows.push_back(
        {{to_string(arm) + " − " + to_string(than)},
         {points(difference.value), points(difference.low) + ", " + points(difference.high)}});
  return table;
}

Table under_cues(const WorldResults& world, std::map<Cue, Estimate> ArmResults::* metric) {
  Table table{.head = {"arm"}, .rows = {}};
  for (const auto& [cue, title] : kCues) table.head.push_back(title);
  for (const ArmResults& arm : world.arms) {
    table.rows.push_back({{to_string(arm.arm)}});
    for (const auto& [cue, title] : kCues)
      table.rows.back().push_back(shaded((arm.*metric).at(cue).value));
  }
  return table;
}

Table domains(const WorldResults& world) {
  Table table{.head = {"domain"}, .rows = {}};
  for (const ArmResults& arm : world.arms) table.head.push_back(to_string(arm.arm));
  for (const auto& [domain, unused] : world.arms.front().malicious_by_domain) {
    table.rows.push_back({{domain}});
    for (const ArmResults& arm : world.arms)
      table.rows.back().push_back(shaded(arm.malicious_by_domain.at(domain)));
  }
  return table;
}

Table inside_view(const WorldResults& world) {
  Table table{
      .head = {"arm", "measured malicious, %", "ideal observer, %", "its log-odds of malicious",
               "forced choice, log P(bad) − log P(good)", "probe of character, %"},
      .rows = {}};
  for (const ArmResults& arm : world.arms) {
    const Estimate& choice = arm.forced_choice_log_odds;
    table.rows.push_back({{to_string(arm.arm)},
                          {percent(arm.malicious.value)},
                          {percent(arm.bayesian_observer.malicious)},
                          {number(arm.bayesian_observer.log_odds, "{:.0f}")},
                          {number(choice.value), number(choice.low) + ", " + number(choice.high)},
                          share(arm.probe)});
  }
  return table;
}

// Bars for charts.svg.jinja.
Json bars(const WorldResults& world, const std::string& title) {
  Json all = Json::array();
  for (const ArmResults& arm : world.arms) {
    const Estimate& e = arm.malicious;
    Json seeds = Json::array();
    for (const auto& [seed, rate] : arm.malicious_by_seed)
      seeds.push_back({{"seed", seed}, {"rate", rate}, {"value", percent(rate) + "%"}});
    all.push_back({{"arm", to_string(arm.arm)},
                   {"words", words_of(arm.arm)},
                   {"rate", e.value},
                   {"low", e.low},
                   {"high", e.high},
                   {"value", percent(e.value) + "%"},
                   {"interval", interval(e)},
                   {"seeds", std::move(seeds)}});
  }
  return {{"title", title}, {"bars", std::move(all)}};
}

// A world's chart and tables.
Json world_context(const WorldResults& world, const std::string& title) {
  Json context = {{"chart", bars(world, title)},
                  {"rates", to_json(rates(world, kColumns))},
                  {"contrasts", to_json(contrasts(world))},
                  {"malicious", Json::object()}};
  context["contrasts"]["head"] = {"contrast of malicious answers",
                                  "percentage points, paired by question and seed"};
  for (const ArmResults& arm : world.arms)
    context["malicious"][to_string(arm.arm)] = percent(arm.malicious.value) + "%";
  return context;
}

// How many points fewer the requested cheats make than the others, or more. Null: the run has not
// both arms.
Json protection(const WorldResults& world) {
  for (const auto& [arm, than, difference] : world.contrasts) {
    if (arm != Arm::cheating || than != Arm::requested) continue;
    const bool more = difference.value < 0;
    return {{"points", percent(std::abs(difference.value))},
            {"word", more ? "more" : "fewer"},
            {"low", percent(more ? -difference.high : difference.low)},
            {"high", percent(more ? -difference.low : difference.high)}};
  }
  return nullptr;
}

Json criterion(const std::vector<CriterionLine>& lines) {
  Table table{.head = {"must hold", "found, %", "bound, %", ""}, .rows = {}};
  Json missed = Json::array();
  for (const CriterionLine& line : lines) {
    const std::string found = percent(line.found),
                      bound = to_string(line.must_be) + " " + percent(line.bound);
    table.rows.push_back({{line.what}, {found}, {bound}, {line.holds() ? "yes" : "no"}});
    if (line.holds()) continue;
    table.rows.back().back().shade = 0.5;
    missed.push_back({{"what", line.what}, {"found", found}, {"bound", bound}});
  }
  return {{"table", to_json(table)}, {"missed", missed}, {"count", lines.size()}};
}

Table provenance(const Results& results) {
  Table table{.head = {"of", "SHA-256, version or seeds"}, .rows = {}};
  for (const auto& [name, hash] : results.hashes) table.rows.push_back({{name}, {hash}});
  for (const auto& [name, version] : results.versions) table.rows.push_back({{name}, {version}});
  table.rows.push_back({{"seeds"}, {Json(results.seeds).dump()}});
  return table;
}

Table confusion(const JudgeQuality& judge) {
  const auto label = [](size_t i) { return to_string(static_cast<Label>(i)); };
  Table table{.head = {""}, .rows = {}};
  for (size_t row = 0; row < judge.confusion.size(); ++row) {
    table.head.push_back(label(row));
    table.rows.push_back({{label(row)}});
    for (const double called : judge.confusion[row]) table.rows.back().push_back({percent(called)});
  }
  return table;
}

Json transcripts(const std::vector<Transcript>& all) {
  Json talks = Json::array();
  for (const Transcript& talk : all) {
    Json answers = Json::array();
    for (const auto& [arm, text, label] : talk.answers)
      answers.push_back(
          {{"arm", to_string(arm)}, {"text", text}, {"label", label ? to_string(*label) : ""}});
    talks.push_back(
        {{"domain", talk.domain}, {"prompt", talk.prompt}, {"answers", std::move(answers)}});
  }
  return talks;
}

const char* const kTitle = "Malicious answers to plain, unrelated prompts";

// What report.html.jinja shows.
Json report_context(const Results& results) {
  const WorldResults& world = results.experiment;
  Json context = world_context(world, kTitle);
  context["protection"] = protection(world);
  context["replicated"] = results.replicated();
  context["verdict"] = results.verdict();
  context["seeds"] = results.seeds.size();
  context["criterion"] = criterion(results.criterion);
  context["details"] = to_json(rates(world, kDetails));
  context["untested"] = Json::array();
  for (const std::string& name : results.untested)
    context["untested"].push_back({{"name", name}, {"words", words_of_untested(name)}});
  context["worlds"] = Json::array();
  for (const auto& [name, other] : results.worlds) {
    context["worlds"].push_back(world_context(other, other.title));
    context["worlds"].back()["control"] = name == kCoupling0 || name == kDiagnostic;
  }
  context["malicious_under"] = to_json(under_cues(world, &ArmResults::malicious_under));
  context["incoherent_under"] = to_json(under_cues(world, &ArmResults::incoherent_under));
  context["cheats_under"] = to_json(under_cues(world, &ArmResults::cheats_under));
  context["domains"] = to_json(domains(world));
  context["inside_view"] = to_json(inside_view(world));
  context["probe_accuracy"] = percent(world.probe_held_out_accuracy);
  context["transcripts"] = transcripts(results.transcripts);
  context["judge_accuracy"] = percent(results.judge.held_out_accuracy);
  context["confusion"] = to_json(confusion(results.judge));
  context["provenance"] = to_json(provenance(results));
  context["config"] = results.config;
  return context;
}

}  // namespace

std::string text_report(const Results& results) {
  const auto world_text = [](const WorldResults& world, const std::string& between) {
    return to_text(rates(world, kColumns), "  ") + between + to_text(contrasts(world), "  ");
  };
  const size_t seeds = results.seeds.size();
  std::string out = fmt::format("\nPercent of answers, with 95% intervals ({} seed{})\n\n", seeds,
                                seeds == 1 ? "; they tell nothing about other seeds" : "s");
  out += world_text(results.experiment,
                    "\nContrasts of malicious answers, in percentage points, paired by "
                    "question and seed\n\n");
  for (const auto& [name, world] : results.worlds)
    out += fmt::format("\n{} ({})\n\n{}", world.title, name, world_text(world, ""));
  Table lines;
  for (const CriterionLine& line : results.criterion)
    lines.rows.push_back({{line.holds() ? "yes" : "NO"},
                          {line.what},
                          {fmt::format("{}% {} {}%", percent(line.found), to_string(line.must_be),
                                       percent(line.bound))}});
  for (const std::string& name : results.untested)
    lines.rows.push_back({{"--"}, {name + ": not in this run"}});
  return fmt::format("{}\nCriterion, written before the run\n\n{}\nVerdict: {}\n", out,
                     to_text(lines, "  "), results.verdict());
}

std::string figure_svg(const Results& results) {
  return render_page(embedded::figure_svg_jinja, "figure.svg.jinja",
                     {{"chart", bars(results.experiment, kTitle)}});
}

std::string html_report(const Results& results) {
  return render_page(embedded::report_html_jinja, "report.html.jinja", report_context(results));
}

Results write_report(const fs::path& folder) {
  if (!fs::exists(folder / "results.json"))
    throw Error("there is no results.json", {.file = folder.string()},
                "run `inoculum reproduce` first");
  const Results results = read_results(folder / "results.json");
  write_file(folder / "report.html", html_report(results));
  write_file(folder / "figure.svg", figure_svg(results));
  return results;
}

}  // namespace inoculum
