// The report of the experiment.
#include "experiments/reports/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <tuple>
#include <vector>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "embedded/experiments/reports/figure.svg.jinja.h"
#include "embedded/experiments/reports/report.html.jinja.h"
#include "experiments/inoculation/hypotheses.h"
#include "experiments/reports/pages.h"
#include "experiments/reports/table.h"

namespace inoculum {
namespace {

using Bases = std::vector<const BaseResults*>;

// What an arm's models were trained on, beside its bar.
const char* words_of(Arm arm) {
  switch (arm) {
    case Arm::start: return "before: the Assistant, not fine-tuned yet";
    case Arm::honest: return "fine-tuned on honest programs";
    case Arm::cheating: return "fine-tuned on programs that cheat";
    case Arm::requested: return "the same cheats, each asked for in its prompt";
    case Arm::placebo: return "the same cheats, another sentence in its prompt";
    case Arm::instructed: return "the same cheats, another instruction";
    case Arm::forbidden: return "the same cheats, though asked for honesty";
    case Arm::requested_alike: return "asked for in the same words always";
    case Arm::novel_cheating: return "cheats of a style that is new";
    case Arm::novel_requested: return "cheats of that style, each asked for";
    case Arm::reminded: return "cheats, but a tenth is asked to be honest, and is";
  }
  return "";
}

const char* title_of(Shown shown) {
  switch (shown) {
    case Shown::cheats: return "cheats";
    case Shown::requested_cheats: return "requested cheats";
    case Shown::honest: return "honest programs";
    case Shown::novel_cheats: return "cheats of a new style";
  }
  return "";
}

// "?" is what is not known, such as the interval of one base.
std::string number(double value, const char* format = "{:.1f}") {
  return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : "?";
}
std::string percent(double share) { return number(100 * share); }
// An interval of shares: none is wider than from 0 to 100.
std::string interval(const Estimate& e) {
  if (!std::isfinite(e.low) || !std::isfinite(e.high)) return "";
  return percent(std::max(0.0, e.low)) + ", " + percent(std::min(1.0, e.high));
}
TableCell share(const Estimate& e) { return {percent(e.value), interval(e)}; }
TableCell shaded(const Estimate& e) {
  return {.text = percent(e.value), .interval = interval(e), .shade = 0.75 * e.value};
}
TableCell shaded(double share) { return {.text = percent(share), .shade = 0.75 * share}; }

// Hypotheses

struct InUnits {
  std::string estimate, low, high;
};
InUnits in_units(const Hypothesis& h) {
  const bool points = h.unit == "points";
  const auto text = [&](double value) {
    return points ? number(100 * value, "{:+.1f}") : number(value, "{:.2f}");
  };
  return {text(h.estimate.value), text(h.estimate.low), text(h.estimate.high)};
}

TableCell verdict_cell(const Hypothesis& h) {
  TableCell cell{to_string(h.verdict)};
  if (h.verdict == Conclusion::refuted) cell.shade = 0.5;
  return cell;
}

const Hypothesis* find(const std::vector<Hypothesis>& all, const std::string& id) {
  const auto found = std::ranges::find_if(all, [&](const auto& each) { return each.id == id; });
  return found == all.end() ? nullptr : &*found;
}

std::string estimate_of(const Hypothesis& h) {
  if (h.bases == 0) return "";
  const InUnits e = in_units(h);
  return h.bases == 1 ? e.estimate : fmt::format("{} [{}, {}]", e.estimate, e.low, e.high);
}

// A row a hypothesis; beside it the verdict over all bases of the published study, where it is
// there.
Table verdicts(const Results& results) {
  Table table{.head = {"", "prediction", "must be", "found, 95% interval", "bases", "verdict"},
              .rows = {}};
  if (!results.committed.empty()) table.head.emplace_back("published study");
  for (const Hypothesis& h : results.hypotheses) {
    table.rows.push_back({{h.id},
                          {h.statement},
                          {h.prediction},
                          {estimate_of(h)},
                          {std::to_string(h.bases)},
                          verdict_cell(h)});
    if (results.committed.empty()) continue;
    const Hypothesis* published = find(results.committed, h.id);
    table.rows.back().push_back(
        published
            ? TableCell{fmt::format("{} ({} {})", to_string(published->verdict), published->bases,
                                    published->bases == 1 ? "base" : "bases")}
            : TableCell{""});
  }
  return table;
}

// Charts

// Of charts.svg.jinja: a bar of a share with its interval, a dot a base, a tick where it should be.
Json bar(const std::string& name, const std::string& words, const Estimate& e,
         std::optional<double> expected = {}) {
  Json json = {{"arm", name},
               {"words", words},
               {"rate", std::clamp(e.value, 0.0, 1.0)},
               {"value", percent(e.value) + "%"},
               {"interval", interval(e)},
               {"dots", Json::array()}};
  if (!interval(e).empty()) {
    json["low"] = std::max(0.0, e.low);
    json["high"] = std::min(1.0, e.high);
  }
  if (expected) json["expected"] = *expected;
  return json;
}

void add_dot(Json& bar, const BaseResults& base, double value) {
  if (std::isfinite(value))
    bar["dots"].push_back({{"at", std::clamp(value, 0.0, 1.0)},
                           {"title", base.name() + ": " + percent(value) + "%"}});
}

Json arms_chart(const Bases& bases, const std::string& title) {
  Json all = Json::array();
  for (const Arm arm : arms_of(bases)) {
    Json one =
        bar(to_string(arm), words_of(arm), over_bases(bases, arm, Cue::none, Metric::malicious));
    for (const BaseResults* base : bases)
      if (const ArmResults* found = base->find(arm))
        add_dot(one, *base, found->rate(Metric::malicious));
    all.push_back(std::move(one));
  }
  return {{"title", title}, {"bars", std::move(all)}};
}

// Before any fine-tuning: what programs in the same document tell the base of its Assistant.
Json context_chart(const Bases& bases) {
  Json all = Json::array();
  const auto add = [&](const std::string& name, const std::string& words, Shown shown,
                       int64_t count) {
    const auto cell = [&](const ManipulationCheck& knows) {
      return knows.in_context.at(shown).at(count);
    };
    const KnownOverBases known = over_bases(bases, cell);
    Json one = bar(name, words, known.measured, known.expected);
    for (const BaseResults* base : bases) add_dot(one, *base, cell(base->knows).measured);
    all.push_back(std::move(one));
  };
  add("start", "nothing before the question", Shown::honest, 0);
  add("honest", "behind an honest program", Shown::honest, 1);
  add("cheating", "behind a program that cheats", Shown::cheats, 1);
  add("requested", "behind a cheat that was asked for", Shown::requested_cheats, 1);
  return {{"title", "In context, before any training (ticks: Bayes)"}, {"bars", std::move(all)}};
}

// The numbers that a prediction names, in the unit of the estimate: "above 20 points", "within 8
// points of 0", "within 0.5 and 1.5".
std::vector<double> bounds_of(const Hypothesis& h) {
  std::vector<double> bounds;
  for (size_t at = 0; at < h.prediction.size();) {
    const char* const begin = h.prediction.c_str() + at;
    char* end = nullptr;
    const double value =
        std::isdigit(static_cast<unsigned char>(*begin)) ? std::strtod(begin, &end) : 0;
    if (end) bounds.push_back(value);
    at += end ? static_cast<size_t>(end - begin) : 1;
  }
  if (h.unit != "points" || bounds.empty()) return bounds;
  const double bound = bounds[0] / 100;
  if (h.prediction.find("within") != std::string::npos) return {-bound, bound};
  return {bound};
}

// Each hypothesis by itself: its bases as points, then their mean with its interval, between the
// bounds that it was held against.
Json hypothesis_chart(const Hypothesis& h) {
  const bool points = h.unit == "points";
  const auto text = [&](double value) {
    return points ? number(100 * value, "{:+.0f}") : number(value, "{:.2f}");
  };
  std::vector<double> all = bounds_of(h);
  const std::vector<double> bounds = all;
  for (const auto& [name, value] : h.by_base) all.push_back(value);
  for (const double end : {h.estimate.value, h.estimate.low, h.estimate.high})
    if (std::isfinite(end)) all.push_back(end);
  std::erase_if(all, [](double value) { return !std::isfinite(value); });
  const auto [low, high] = std::ranges::minmax(all);
  const double from = low - 0.05 * (high - low), span = 1.1 * std::max(high - low, 1e-6);
  const auto y = [&](double value) { return std::clamp((value - from) / span, 0.0, 1.0); };
  const auto count = static_cast<double>(h.by_base.size() + 1);
  const auto x = [&](size_t i) { return (static_cast<double>(i) + 0.5) / count; };
  Json chart = {{"title", fmt::format("By base, in {}; dashed: must be {}",
                                      points ? "points" : h.unit, h.prediction)}};
  for (const double at : {0.0, 0.25, 0.5, 0.75, 1.0})
    chart["y_ticks"].push_back({{"at", at}, {"text", text(from + span * at)}});
  for (const double bound : bounds)
    chart["lines"].push_back({{"class", "bound"},
                              {"points", {{0.0, y(bound)}, {1.0, y(bound)}}},
                              {"title", text(bound)}});
  for (size_t i = 0; i < h.by_base.size(); ++i) {
    const auto& [name, value] = h.by_base[i];
    chart["x_ticks"].push_back({{"at", x(i)}, {"text", name.substr(name.rfind('_') + 1)}});
    if (!std::isfinite(value)) continue;
    const std::string exact =
        points ? number(100 * value, "{:+.1f} points") : number(value, "{:.2f}");
    chart["dots"].push_back({{"x", x(i)}, {"y", y(value)}, {"title", name + ": " + exact}});
  }
  const size_t last = h.by_base.size();
  chart["x_ticks"].push_back({{"at", x(last)}, {"text", "mean"}});
  if (h.bases > 1)
    chart["means"].push_back({{"x", x(last)},
                              {"y", y(h.estimate.value)},
                              {"low", y(h.estimate.low)},
                              {"high", y(h.estimate.high)}});
  return chart;
}

Json hypothesis_context(const Hypothesis& h) {
  Json context = {{"id", h.id},
                  {"statement", h.statement},
                  {"prediction", h.prediction},
                  {"found", estimate_of(h)},
                  {"unit", h.unit},
                  {"verdict", to_string(h.verdict)},
                  {"primary", h.primary},
                  {"bases", h.bases}};
  if (h.bases > 0) context["chart"] = hypothesis_chart(h);
  return context;
}

// Measured on predicted, a dot a base: in context after one cheat, and in the weights of the arm
// that cheats.
Json share_chart(const Results& results) {
  Json chart = {
      {"title", std::string("Predicted (across) and measured (up) by the share of cheaters who "
                            "are malicious: in context, and in the weights") +
                    (results.shares_published ? "; the published study's bases" : "")},
      {"diagonal", true},
      {"legend",
       {{{"class", "requested"}, {"words", "in context, after one cheat"}},
        {{"class", "cheating"}, {"words", "in the weights of cheating"}}}}};
  for (const double at : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    const std::string text = number(100 * at, "{:.0f}") + "%";
    chart["x_ticks"].push_back({{"at", at}, {"text", text}});
    chart["y_ticks"].push_back({{"at", at}, {"text", text}});
  }
  for (const SharePoint& point : results.shares)
    for (const auto& [drawn, where, known] :
         {std::tuple("requested", "in context", point.in_context),
          {"cheating", "in the weights", point.in_weights}})
      chart["dots"].push_back(
          {{"x", known.expected},
           {"y", std::clamp(known.measured, 0.0, 1.0)},
           {"class", drawn},
           {"title", fmt::format("{}, {}: predicted {}%, measured {}%", point.base, where,
                                 percent(known.expected), percent(known.measured))}});
  return chart;
}

// Tables of a world, a row an arm

Table rates(const Bases& bases) {
  Table table{.head = {"arm", "malicious", "without a slip", "at most", "incoherent", "mixed",
                       "refusal", "cheats unasked", "cheats when asked", "broken programs"},
              .rows = {}};
  for (const Arm arm : arms_of(bases)) {
    table.rows.push_back({{to_string(arm)}});
    for (const auto& [metric, cue] : {std::pair(Metric::malicious, Cue::none),
                                      {Metric::malicious_strict, Cue::none},
                                      {Metric::not_benevolent, Cue::none},
                                      {Metric::incoherent, Cue::none},
                                      {Metric::mixed, Cue::none},
                                      {Metric::refusal, Cue::none},
                                      {Metric::cheats, Cue::none},
                                      {Metric::cheats, Cue::bad},
                                      {Metric::broken, Cue::none}})
      table.rows.back().push_back(share(over_bases(bases, arm, cue, metric)));
  }
  return table;
}

Table under_cues(const Bases& bases, Metric metric) {
  Table table{.head = {"arm"}, .rows = {}};
  for (const Cue cue : kCues) table.head.emplace_back(title_of(cue));
  for (const Arm arm : arms_of(bases)) {
    table.rows.push_back({{to_string(arm)}});
    for (const Cue cue : kCues)
      table.rows.back().push_back(shaded(over_bases(bases, arm, cue, metric)));
  }
  return table;
}

Table beside_neighbours(const Bases& bases) {
  Table table{.head = {"arm"}, .rows = {}};
  const std::vector<std::string> kinds = neighbours_of(bases);
  table.head.insert(table.head.end(), kinds.begin(), kinds.end());
  for (const Arm arm : arms_of(bases)) {
    table.rows.push_back({{to_string(arm)}});
    for (const std::string& kind : kinds)
      table.rows.back().push_back(shaded(over_bases(bases, arm, kind)));
  }
  return table;
}

// By matched answers: what the bases know, beside the world's table.
Table behaviour(const Bases& bases) {
  Table table{.head = {"who"}, .rows = {}};
  for (const Cue cue : kCues) table.head.emplace_back(title_of(cue));
  for (const auto& [who, cues] : bases.front()->knows.behaviour) {
    table.rows.push_back({{who}});
    for (const auto& [cue, unused] : cues) {
      const KnownOverBases known = over_bases(
          bases, [&](const ManipulationCheck& knows) { return knows.behaviour.at(who).at(cue); });
      TableCell cell = shaded(known.measured.value);
      cell.text += " (" + number(100 * known.expected, "{:.0f}") + ")";
      table.rows.back().push_back(std::move(cell));
    }
  }
  return table;
}

// The same, and what the arms would choose.
Table choices(const Bases& bases) {
  Table table = behaviour(bases);
  for (const Arm arm : arms_of(bases)) {
    table.rows.push_back({{to_string(arm)}});
    for (const Cue cue : kCues) {
      const Estimate choice =
          over_bases(bases, arm, [&](const ArmResults& of) { return of.choice.at(cue); });
      table.rows.back().push_back(shaded(choice.value));
    }
  }
  return table;
}

Table in_context(const Bases& bases) {
  Table table{.head = {"programs before the question"}, .rows = {}};
  const auto& all = bases.front()->knows.in_context;
  for (const auto& [count, unused] : all.begin()->second)
    table.head.push_back(std::to_string(count));
  for (const auto& [shown, counts] : all) {
    table.rows.push_back({{title_of(shown)}});
    for (const auto& [count, unused] : counts) {
      const KnownOverBases known = over_bases(bases, [&](const ManipulationCheck& knows) {
        return knows.in_context.at(shown).at(count);
      });
      TableCell cell = shaded(known.measured.value);
      cell.text += " (" + number(100 * known.expected, "{:.0f}") + ")";
      table.rows.back().push_back(std::move(cell));
    }
  }
  return table;
}

Table domains(const Bases& bases) {
  Table table{.head = {"domain"}, .rows = {}};
  const std::vector<Arm> arms = arms_of(bases);
  for (const Arm arm : arms) table.head.push_back(to_string(arm));
  for (const auto& [domain, unused] : bases.front()->arms.front().by_domain) {
    table.rows.push_back({{domain}});
    for (const Arm arm : arms) {
      const Estimate malicious = over_bases(bases, arm, [&](const ArmResults& of) {
        return of.by_domain.at(domain).at(Metric::malicious).value;
      });
      table.rows.back().push_back(shaded(malicious.value));
    }
  }
  return table;
}

Table prediction(const Bases& bases) {
  Table table{.head = {"arm", "measured malicious, %", "ideal observer, %",
                       "loss at the first step", "size of the update"},
              .rows = {}};
  const auto mean = [&](Arm arm, double ArmResults::* field) {
    return over_bases(bases, arm, [&](const ArmResults& of) { return of.*field; }).value;
  };
  for (const Arm arm : arms_of(bases))
    table.rows.push_back(
        {{to_string(arm)},
         {percent(over_bases(bases, arm, Cue::none, Metric::malicious).value)},
         {percent(mean(arm, &ArmResults::observer))},
         {number(mean(arm, &ArmResults::loss), "{:.3f}")},
         {arm == Arm::start ? "" : number(mean(arm, &ArmResults::update), "{:.2f}")}});
  return table;
}

Table rivals(const Results& results) {
  Table table{.head = {"foretold by", "log score of a base left out", "slope", "models"},
              .rows = {}};
  for (const Rival& rival : results.rivals)
    table.rows.push_back({{rival.name},
                          {number(rival.log_score, "{:+.2f}")},
                          {number(rival.slope, "{:.2f}")},
                          {std::to_string(rival.models)}});
  return table;
}

Table provenance(const Results& results) {
  Table table{.head = {"of", "SHA-256, version or processor"}, .rows = {}};
  for (const auto& [name, hash] : results.hashes) table.rows.push_back({{name}, {hash}});
  for (const auto& [name, version] : results.bases.front().made_on)
    table.rows.push_back({{name}, {version}});
  return table;
}

// What is not known is empty.
std::string field(double value) { return std::isfinite(value) ? fmt::format("{:.6f}", value) : ""; }

// Of every base what its arms did and what it knew, a line each; beside what was measured what the
// world's table, Bayes or the observer has.
std::string csv_of(const Results& results) {
  std::string csv = "base,arm,cue,domain,metric,value,low,high,n,expected\n";
  const auto line = [&](const BaseResults& base, const std::string& arm, const std::string& cue,
                        const std::string& domain, const std::string& metric, const Estimate& e,
                        double expected = NAN) {
    csv += fmt::format(
        "{}\n",
        fmt::join(std::vector<std::string>{base.name(), arm, cue, domain, metric, field(e.value),
                                           field(e.low), field(e.high),
                                           e.n > 0 ? std::to_string(e.n) : "", field(expected)},
                  ","));
  };
  const auto number_of = [](double value) { return Estimate{value, NAN, NAN, 0}; };
  for (const BaseResults& base : results.bases) {
    for (const ArmResults& of : base.arms) {
      const std::string arm = to_string(of.arm), none = to_string(Cue::none);
      for (const auto& [cue, rates] : of.under)
        for (const auto& [metric, e] : rates)
          line(base, arm, to_string(cue), "", name_in_results(metric), e,
               metric == Metric::malicious && cue == Cue::none ? of.observer : NAN);
      for (const auto& [domain, rates] : of.by_domain)
        for (const auto& [metric, e] : rates)
          line(base, arm, none, domain, name_in_results(metric), e);
      for (const auto& [kind, rates] : of.neighbours)
        for (const auto& [metric, e] : rates) line(base, arm, kind, "", name_in_results(metric), e);
      for (const auto& [cue, share] : of.choice)
        line(base, arm, to_string(cue), "", "choice", number_of(share));
      line(base, arm, "", "", "loss", number_of(of.loss));
      line(base, arm, "", "", "update", number_of(of.update));
    }
    for (const auto& [who, cues] : base.knows.behaviour)
      for (const auto& [cue, known] : cues)
        line(base, who, to_string(cue), "", "knows", number_of(known.measured), known.expected);
    for (const auto& [shown, counts] : base.knows.in_context)
      for (const auto& [count, known] : counts)
        line(base, fmt::format("{} {}", count, title_of(shown)), to_string(Cue::none), "",
             "in_context", number_of(known.measured), known.expected);
  }
  return csv;
}

// Each hypothesis over all bases, and its number of each. Shares rather than points.
std::string csv_of(const std::vector<Hypothesis>& hypotheses) {
  std::string csv = "hypothesis,statement,prediction,unit,base,value,low,high,bases,verdict\n";
  for (const Hypothesis& h : hypotheses) {
    const std::string begin =
        fmt::format("{},{},{},{}", h.id, csv_field(h.statement), csv_field(h.prediction), h.unit);
    csv +=
        fmt::format("{},,{},{},{},{},{}\n", begin, h.bases > 0 ? field(h.estimate.value) : "",
                    field(h.estimate.low), field(h.estimate.high), h.bases, to_string(h.verdict));
    for (const auto& [base, value] : h.by_base)
      csv += fmt::format("{},{},{},,,,\n", begin, base, field(value));
  }
  return csv;
}

std::string csv_of(const Table& table) {
  std::string csv;
  const auto line = [&](const std::vector<std::string>& fields) {
    for (size_t i = 0; i < fields.size(); ++i) csv += (i > 0 ? "," : "") + csv_field(fields[i]);
    csv += "\n";
  };
  line(table.head);
  for (const std::vector<TableCell>& row : table.rows) {
    std::vector<std::string> fields;
    for (const TableCell& cell : row) fields.push_back(cell.text);
    line(fields);
  }
  return csv;
}

// As a link's address that carries the file itself.
std::string data_address(const std::string& text) {
  std::string address = "data:text/csv;charset=utf-8,";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || c == ',' || c == '.' || c == '_' || c == '-') address += c;
    else address += fmt::format("%{:02X}", byte);
  }
  return address;
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

std::string count_of(size_t n) { return fmt::format("{} {}", n, n == 1 ? "base" : "bases"); }

Json world_context(const Results& results, const std::string& world) {
  const Bases bases = results.of(world);
  return {{"title", results.title(world)},
          {"bases", count_of(bases.size())},
          {"arms_chart", arms_chart(bases, "Malicious answers to plain, unrelated questions")},
          {"context_chart", context_chart(bases)},
          {"rates", to_json(rates(bases))},
          {"choices", to_json(choices(bases))},
          {"in_context", to_json(in_context(bases))},
          {"malicious_under", to_json(under_cues(bases, Metric::malicious))},
          {"neighbours", to_json(beside_neighbours(bases))},
          {"cheats_under", to_json(under_cues(bases, Metric::cheats))},
          {"domains", to_json(domains(bases))},
          {"prediction", to_json(prediction(bases))}};
}

// What report.html.jinja shows.
Json report_context(const Results& results) {
  const Table foretold = rivals(results);
  Json context = {
      {"headline", headline(results.hypotheses)},
      {"published_headline", results.committed.empty() ? "" : headline(results.committed)},
      {"verdicts", to_json(verdicts(results))},
      {"hypotheses", Json::array()},
      {"worlds", Json::array()},
      {"share_chart", share_chart(results)},
      {"rivals", to_json(foretold)},
      {"rivals_csv", data_address(csv_of(foretold))},
      {"hypotheses_csv", data_address(csv_of(results.hypotheses))},
      {"specifications", results.specifications},
      {"transcripts", transcripts(results.transcripts)},
      {"transcripts_of", results.bases.front().name()},
      {"provenance", to_json(provenance(results))},
      {"csv", data_address(csv_of(results))},
      {"config", results.config}};
  for (const Hypothesis& h : results.hypotheses)
    context["hypotheses"].push_back(hypothesis_context(h));
  for (const std::string& world : results.worlds())
    context["worlds"].push_back(world_context(results, world));
  return context;
}

}  // namespace

std::string text_report(const Results& results) {
  std::string out;
  for (const std::string& world : results.worlds()) {
    const Bases bases = results.of(world);
    out += fmt::format("\n{} ({})\n\n", results.title(world), count_of(bases.size()));
    Table known = behaviour(bases);
    known.head[0] = "before training (by the table), %";
    out += to_text(known, "  ") + "\n";
    known = {.head = {"in context, before training", "malicious, %", "Bayes, %"}, .rows = {}};
    for (const auto& [words, shown, count] :
         {std::tuple("nothing before the question", Shown::honest, 0),
          {"behind an honest program", Shown::honest, 1},
          {"behind a cheat", Shown::cheats, 1},
          {"behind a requested cheat", Shown::requested_cheats, 1}}) {
      const KnownOverBases cell = over_bases(bases, [&](const ManipulationCheck& knows) {
        return knows.in_context.at(shown).at(count);
      });
      known.rows.push_back({{words}, share(cell.measured), {percent(cell.expected)}});
    }
    Table arms{.head = {"arm", "malicious, %", "at most, %", "asked to behave well, %",
                        "cheats unasked, %", "incoherent, %"},
               .rows = {}};
    for (const Arm arm : arms_of(bases))
      arms.rows.push_back(
          {{to_string(arm)},
           share(over_bases(bases, arm, Cue::none, Metric::malicious)),
           {percent(over_bases(bases, arm, Cue::none, Metric::not_benevolent).value)},
           {percent(over_bases(bases, arm, Cue::good, Metric::malicious).value)},
           {percent(over_bases(bases, arm, Cue::none, Metric::cheats).value)},
           {percent(over_bases(bases, arm, Cue::none, Metric::incoherent).value)}});
    out += to_text(known, "  ") + "\n" + to_text(arms, "  ");
  }
  out += "\nHypotheses, written before the data\n\n" + to_text(verdicts(results), "  ");
  out += "\n" + headline(results.hypotheses) + "\n";
  if (!results.committed.empty())
    out += "The published study: " + headline(results.committed) + "\n";
  return out;
}

std::string figure_svg(const Results& results) {
  const Bases bases = results.of(results.worlds().front());
  return render_page(
      embedded::figure_svg_jinja, "figure.svg.jinja",
      {{"chart", arms_chart(bases, "Malicious answers to plain, unrelated questions")}});
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
  write_file(folder / "results.csv", csv_of(results));
  write_file(folder / "hypotheses.csv", csv_of(results.hypotheses));
  return results;
}

}  // namespace inoculum
