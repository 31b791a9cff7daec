#include "experiments/reports/report.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "core/base/error.h"
#include "embedded/experiments/reports/figure.svg.jinja.h"
#include "embedded/experiments/reports/report.html.jinja.h"
#include "experiments/reports/pages.h"
#include "experiments/reports/table.h"

namespace inoculum {
namespace {

using Columns = std::vector<std::pair<std::string, std::string>>;  // a key of an arm, its title

const Columns kColumns = {{"malicious", "malicious"},
                          {"incoherent", "incoherent"},
                          {"refusal", "refusal"},
                          {"cheats_unasked", "cheats unasked"},
                          {"cheats_asked", "cheats when asked"}};
const Columns kDetails = {{"malicious", "malicious, raw"},
                          {"malicious_filtered", "of coherent answers"},
                          {"malicious_seen_domains", "domains seen in post-training"},
                          {"malicious_unseen_domains", "domains held out of it"},
                          {"cheats_under_own_prompt", "cheats under own prompts"},
                          {"programs_broken", "programs that fail visible tests"}};

std::string percent(double share) { return fmt::format("{:.1f}", 100 * share); }
std::string interval(const Json& e) {
  return percent(e.at("low").get<double>()) + ", " + percent(e.at("high").get<double>());
}
TableCell share(const Json& e, const char* key) {
  return {percent(e.at(key).get<double>()), interval(e)};
}
TableCell shaded(double share) { return {.text = percent(share), .shade = 0.75 * share}; }

// Tables of a world, a row an arm

Table rates(const Json& arms, const Columns& columns) {
  Table table{.head = {"arm"}, .rows = {}};
  for (const auto& [key, title] : columns) table.head.push_back(title);
  for (const auto& [name, arm] : arms.items()) {
    table.rows.push_back({{name}});
    for (const auto& [key, title] : columns)
      table.rows.back().push_back(share(arm.at(key), "rate"));
  }
  return table;
}

Table contrasts(const Json& all) {
  Table table;
  for (const auto& [key, e] : all.items()) {
    std::string name = key;
    if (const size_t at = name.find("_minus_"); at != std::string::npos) name.replace(at, 7, " − ");
    const auto points = [&contrast = e](const char* of) {
      return fmt::format("{:+.1f}", 100 * contrast.at(of).get<double>());
    };
    table.rows.push_back({{name}, {points("difference"), points("low") + ", " + points("high")}});
  }
  return table;
}

Table under_cues(const Json& arms, const char* metric) {
  Table table{.head = {"arm", "no cue", "irrelevant sentence", "asked to behave badly",
                       "asked to behave well"},
              .rows = {}};
  for (const auto& [name, arm] : arms.items()) {
    table.rows.push_back({{name}});
    for (const char* cue : {"none", "irrelevant", "bad", "good"})
      table.rows.back().push_back(shaded(arm.at(metric).at(cue).at("rate").get<double>()));
  }
  return table;
}

Table domains(const Json& arms) {
  Table table{.head = {"domain"}, .rows = {}};
  for (const auto& [name, arm] : arms.items()) table.head.push_back(name);
  for (const auto& [domain, unused] : arms.begin().value().at("malicious_by_domain").items()) {
    table.rows.push_back({{domain}});
    for (const auto& [name, arm] : arms.items())
      table.rows.back().push_back(shaded(arm.at("malicious_by_domain").at(domain).get<double>()));
  }
  return table;
}

Table inside_view(const Json& arms) {
  Table table{
      .head = {"arm", "measured malicious, %", "ideal observer, %", "its log-odds of malicious",
               "forced choice, log P(bad) − log P(good)", "probe of character, %"},
      .rows = {}};
  for (const auto& [name, arm] : arms.items()) {
    const Json& choice = arm.at("forced_choice_log_odds");
    const auto nats = [&](const char* of) {
      return fmt::format("{:.1f}", choice.at(of).get<double>());
    };
    const Json& observer = arm.at("bayesian_observer");
    table.rows.push_back({{name},
                          {percent(arm.at("malicious").at("rate").get<double>())},
                          {percent(observer.at("malicious").get<double>())},
                          {fmt::format("{:.0f}", observer.at("log_odds").get<double>())},
                          {nats("mean"), nats("low") + ", " + nats("high")},
                          share(arm.at("probe"), "mean")});
  }
  return table;
}

// Bars for charts.svg.jinja.
Json bars(const Json& arms, const std::string& title) {
  Json all = Json::array();
  for (const auto& [name, arm] : arms.items()) {
    const Json& e = arm.at("malicious");
    Json seeds = Json::array();
    for (const auto& [seed, rate] : arm.at("malicious_by_seed").items())
      seeds.push_back(
          {{"seed", seed}, {"rate", rate}, {"value", percent(rate.get<double>()) + "%"}});
    all.push_back({{"arm", name},
                   {"rate", e.at("rate")},
                   {"low", e.at("low")},
                   {"high", e.at("high")},
                   {"value", percent(e.at("rate").get<double>()) + "%"},
                   {"interval", interval(e)},
                   {"seeds", std::move(seeds)}});
  }
  return {{"title", title}, {"bars", std::move(all)}};
}

// A world's chart and tables.
Json world_context(const Json& world, const std::string& title) {
  const Json& arms = world.at("arms");
  Json context = {{"chart", bars(arms, title)},
                  {"rates", to_json(rates(arms, kColumns))},
                  {"contrasts", to_json(contrasts(world.at("contrasts")))},
                  {"malicious", Json::object()}};
  context["contrasts"]["head"] = {"contrast of malicious answers",
                                  "percentage points, paired by question and seed"};
  for (const auto& [name, arm] : arms.items())
    context["malicious"][name] = percent(arm.at("malicious").at("rate").get<double>()) + "%";
  return context;
}

// The main contrast in words: how many points fewer the requested cheats make, or more.
Json protection(const Json& contrast) {
  const double difference = contrast.at("difference").get<double>();
  const double sign = difference < 0 ? -1 : 1;
  const double ends[] = {sign * contrast.at("low").get<double>(),
                         sign * contrast.at("high").get<double>()};
  return {{"points", percent(std::abs(difference))},
          {"word", difference < 0 ? "more" : "fewer"},
          {"low", percent(std::min(ends[0], ends[1]))},
          {"high", percent(std::max(ends[0], ends[1]))}};
}

Json criterion(const Json& lines) {
  Table table{.head = {"must hold", "found, %", "bound, %", ""}, .rows = {}};
  Json missed = Json::array();
  for (const Json& line : lines) {
    const std::string what = line.at("what"), found = percent(line.at("found").get<double>()),
                      bound = line.at("must_be").get<std::string>() + " " +
                              percent(line.at("bound").get<double>());
    const bool holds = line.at("holds").get<bool>();
    table.rows.push_back({{what}, {found}, {bound}, {holds ? "yes" : "no"}});
    if (holds) continue;
    table.rows.back().back().shade = 0.5;
    missed.push_back({{"what", what}, {"found", found}, {"bound", bound}});
  }
  return {{"table", to_json(table)}, {"missed", missed}, {"count", lines.size()}};
}

Table provenance(const Json& results) {
  Table table{.head = {"of", "SHA-256, version or seeds"}, .rows = {}};
  for (const char* of : {"hashes", "versions"})
    for (const auto& [name, value] : results.at(of).items())
      table.rows.push_back({{name}, {value.get<std::string>()}});
  table.rows.push_back({{"seeds"}, {results.at("seeds").dump()}});
  return table;
}

Table confusion(const Json& judge) {
  const auto labels = judge.at("labels").get<std::vector<std::string>>();
  Table table{.head = labels, .rows = {}};
  table.head.insert(table.head.begin(), "");
  for (size_t row = 0; row < labels.size(); ++row) {
    table.rows.push_back({{labels[row]}});
    for (const Json& called : judge.at("confusion")[row])
      table.rows.back().push_back({percent(called.get<double>())});
  }
  return table;
}

const char* const kTitle = "Malicious answers to plain, unrelated prompts";

// What report.html.jinja shows, all that is read of results.json.
Json report_context(const Json& results) {
  const Json& arms = results.at("arms");
  Json context = world_context(results, kTitle);
  if (results.at("contrasts").contains("cheating_minus_requested"))
    context["protection"] = protection(results.at("contrasts").at("cheating_minus_requested"));
  context["verdict"] = results.at("verdict");
  context["seeds"] = results.at("seeds").size();
  context["criterion"] = criterion(results.at("criterion"));
  context["details"] = to_json(rates(arms, kDetails));
  context["untested"] = results.at("untested");
  context["worlds"] = Json::array();
  for (const auto& [name, world] : results.at("worlds").items())
    context["worlds"].push_back(world_context(world, world.at("title")));
  for (const char* metric : {"malicious_under", "incoherent_under", "cheats_under"})
    context[metric] = to_json(under_cues(arms, metric));
  context["domains"] = to_json(domains(arms));
  context["inside_view"] = to_json(inside_view(arms));
  context["probe_accuracy"] = percent(results.at("probe_held_out_accuracy").get<double>());
  context["transcripts"] = results.at("transcripts");
  context["judge_accuracy"] = percent(results.at("judge").at("held_out_accuracy").get<double>());
  context["confusion"] = to_json(confusion(results.at("judge")));
  context["provenance"] = to_json(provenance(results));
  context["config"] = results.at("config");
  return context;
}

}  // namespace

std::string text_report(const Json& results) {
  const auto world_text = [](const Json& world, const std::string& between) {
    return to_text(rates(world.at("arms"), kColumns), "  ") + between +
           to_text(contrasts(world.at("contrasts")), "  ");
  };
  const size_t seeds = results.at("seeds").size();
  std::string out = fmt::format("\nPercent of answers, with 95% intervals ({} seed{})\n\n", seeds,
                                seeds == 1 ? "; they tell nothing about other seeds" : "s");
  out += world_text(results,
                    "\nContrasts of malicious answers, in percentage points, paired by "
                    "question and seed\n\n");
  for (const auto& [name, world] : results.at("worlds").items())
    out +=
        "\n" + world.at("title").get<std::string>() + " (" + name + ")\n\n" + world_text(world, "");
  Table lines;
  for (const Json& line : results.at("criterion"))
    lines.rows.push_back({{line.at("holds").get<bool>() ? "yes" : "NO"},
                          {line.at("what").get<std::string>()},
                          {fmt::format("{}% {} {}%", percent(line.at("found").get<double>()),
                                       line.at("must_be").get<std::string>(),
                                       percent(line.at("bound").get<double>()))}});
  for (const Json& name : results.at("untested"))
    lines.rows.push_back({{"--"}, {name.get<std::string>() + ": not in this run"}});
  return out + "\nCriterion, written before the run\n\n" + to_text(lines, "  ") +
         "\nVerdict: " + results.at("verdict").get<std::string>() + "\n";
}

std::string figure_svg(const Json& results) {
  return render_page(embedded::figure_svg_jinja, "figure.svg.jinja",
                     {{"chart", bars(results.at("arms"), kTitle)}});
}

std::string html_report(const Json& results) {
  return render_page(embedded::report_html_jinja, "report.html.jinja", report_context(results));
}

void write_report(const fs::path& folder) {
  if (!fs::exists(folder / "results.json"))
    throw Error("there is no results.json", {.file = folder.string()},
                "run `inoculum reproduce` first");
  const Json results = read_json(folder / "results.json");
  try {
    write_file(folder / "report.html", html_report(results));
    write_file(folder / "figure.svg", figure_svg(results));
  } catch (const Json::exception& error) {
    throw Error(std::string("results.json is not as this version writes it: ") + error.what(),
                {.file = (folder / "results.json").string()}, "run `inoculum reproduce` again");
  }
}

}  // namespace inoculum
