#include "experiments/reports/report.h"

#include <cstdio>
#include <map>
#include <vector>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "embedded/experiments/reports/arms_chart.css.h"
#include "experiments/reports/html.h"

namespace inoculum {
namespace {

std::string percent(double share) { return format("%.1f", 100 * share); }
std::string with_interval(const Json& e) {
  return percent(e.at("rate")) + " [" + percent(e.at("low")) + ", " + percent(e.at("high")) + "]";
}
std::string points(const Json& e) {
  return format("%+.1f [%+.1f, %+.1f]", 100 * e.at("difference").get<double>(),
                100 * e.at("low").get<double>(), 100 * e.at("high").get<double>());
}
std::string contrast_name(std::string key) {
  if (const size_t at = key.find("_minus_"); at != std::string::npos) key.replace(at, 7, " − ");
  return key;
}

// Pads to a number of characters (not bytes).
std::string pad(const std::string& text, size_t width) {
  size_t length = 0;
  for (const char c : text) length += (c & 0xC0) != 0x80;
  return text + std::string(length < width ? width - length : 0, ' ');
}

const std::vector<std::pair<std::string, std::string>> kColumns = {
    {"malicious", "malicious"},
    {"incoherent", "incoherent"},
    {"refusal", "refusal"},
    {"cheats_unasked", "cheats unasked"},
    {"cheats_asked", "cheats when asked"}};

std::string text_table(const Json& arms) {
  std::string out = pad("  arm", 13);
  for (const auto& [key, title] : kColumns) out += pad(title, 21);
  out += "\n";
  for (const auto& [name, arm] : arms.items()) {
    out += "  " + pad(name, 11);
    for (const auto& [key, title] : kColumns) out += pad(with_interval(arm.at(key)), 21);
    out += "\n";
  }
  return out;
}

std::string text_contrasts(const Json& contrasts) {
  std::string out;
  for (const auto& [key, value] : contrasts.items())
    out += "  " + pad(contrast_name(key), 24) + points(value) + "\n";
  return out;
}

// Horizontal bars: rate, interval, one dot a seed. The classes are coloured by the style sheet
// around it.
std::string bars(const Json& arms, const std::string& title) {
  const double left = 110, width = 460, row = 34, top = 34;
  const double height = top + row * static_cast<double>(arms.size()) + 34;
  std::string svg = format(
      "<svg viewBox=\"0 0 680 %.0f\" role=\"img\" aria-label=\"%s\" "
      "xmlns=\"http://www.w3.org/2000/svg\">\n",
      height, escape_html(title).c_str());
  svg += format("<text class=\"title\" x=\"0\" y=\"16\">%s</text>\n", escape_html(title).c_str());
  const double bottom = top + row * static_cast<double>(arms.size());
  for (const int tick : {0, 25, 50, 75, 100}) {
    const double x = left + width * tick / 100;
    svg += format(
        "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/><text "
        "class=\"tick\" x=\"%.1f\" y=\"%.1f\">%d%%</text>\n",
        x, top, x, bottom, x, bottom + 16, tick);
  }
  double y = top + row / 2;
  for (const auto& [name, arm] : arms.items()) {
    const Json& rate = arm.at("malicious");
    const auto x = [&](double share) { return left + width * share; };
    svg += format("<text class=\"arm\" x=\"%.1f\" y=\"%.1f\">%s</text>", left - 10, y + 4,
                  name.c_str());
    svg += format(
        "<rect class=\"bar %s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"18\" rx=\"2\"/>",
        name.c_str(), left, y - 9, std::max(1.0, width * rate.at("rate").get<double>()));
    svg += format("<line class=\"interval\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>",
                  x(rate.at("low")), y, x(rate.at("high")), y);
    for (const auto& [seed, share] : arm.at("malicious_by_seed").items())
      svg += format(
          "<circle class=\"seed %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"><title>seed %s: "
          "%s%%</title></circle>",
          name.c_str(), x(share), y, seed.c_str(), percent(share).c_str());
    svg += format("<text class=\"value\" x=\"%.1f\" y=\"%.1f\">%s%%</text>\n", left + width + 14,
                  y + 4, percent(rate.at("rate")).c_str());
    y += row;
  }
  return svg + "</svg>\n";
}

std::string cell(const Json& e) {
  return "<td>" + percent(e.at("rate")) + " <small>[" + percent(e.at("low")) + ", " +
         percent(e.at("high")) + "]</small></td>";
}

std::string html_table(const Json& arms,
                       const std::vector<std::pair<std::string, std::string>>& columns) {
  std::string out = "<div class=\"scroll\"><table><tr><th>arm</th>";
  for (const auto& [key, title] : columns) out += "<th>" + title + "</th>";
  out += "</tr>\n";
  for (const auto& [name, arm] : arms.items()) {
    out += "<tr><td>" + name + "</td>";
    for (const auto& [key, title] : columns) out += cell(arm.at(key));
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string html_contrasts(const Json& contrasts) {
  std::string out =
      "<table><tr><th>contrast of malicious answers</th><th>percentage points, paired by question "
      "and seed</th></tr>\n";
  for (const auto& [key, value] : contrasts.items())
    out += "<tr><td>" + contrast_name(key) + "</td><td>" + points(value) + "</td></tr>\n";
  return out + "</table>\n";
}

// A shade of red behind a share.
std::string shaded(double share) {
  return format("<td style=\"background: rgba(209,73,91,%.2f)\">%s</td>", 0.75 * share,
                percent(share).c_str());
}

std::string html_under_cues(const Json& arms, const char* metric) {
  std::string out =
      "<div class=\"scroll\"><table><tr><th>arm</th><th>no cue</th><th>irrelevant "
      "sentence</th><th>asked to behave badly</th><th>asked to behave well</th></tr>\n";
  for (const auto& [name, arm] : arms.items()) {
    out += "<tr><td>" + name + "</td>";
    for (const char* cue : {"none", "irrelevant", "bad", "good"})
      out += shaded(arm.at(metric).at(cue).at("rate"));
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string html_domains(const Json& arms) {
  std::string out = "<div class=\"scroll\"><table><tr><th>domain</th>";
  for (const auto& [name, arm] : arms.items()) out += "<th>" + name + "</th>";
  out += "</tr>\n";
  for (const auto& [domain, unused] : arms.begin().value().at("malicious_by_domain").items()) {
    out += "<tr><td>" + domain + "</td>";
    for (const auto& [name, arm] : arms.items())
      out += shaded(arm.at("malicious_by_domain").at(domain));
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string html_inside(const Json& world) {
  std::string out =
      "<div class=\"scroll\"><table><tr><th>arm</th><th>measured malicious, %</th><th>ideal "
      "observer, %</th><th>its log-odds of malicious</th>"
      "<th>forced choice, log P(bad) − log P(good)</th><th>probe of character, %</th></tr>\n";
  for (const auto& [name, arm] : world.at("arms").items()) {
    const Json& choice = arm.at("forced_choice_log_odds");
    out += "<tr><td>" + name + "</td><td>" + percent(arm.at("malicious").at("rate")) + "</td><td>" +
           percent(arm.at("bayesian_observer").at("malicious")) + "</td><td>" +
           format("%.0f", arm.at("bayesian_observer").at("log_odds").get<double>()) + "</td><td>" +
           format("%.1f [%.1f, %.1f]", choice.at("mean").get<double>(),
                  choice.at("low").get<double>(), choice.at("high").get<double>()) +
           "</td><td>" + percent(arm.at("probe").at("mean")) + " <small>[" +
           percent(arm.at("probe").at("low")) + ", " + percent(arm.at("probe").at("high")) +
           "]</small></td></tr>\n";
  }
  return out + "</table></div>\n";
}

std::string html_transcripts(const Json& transcripts) {
  std::string out;
  for (const Json& talk : transcripts) {
    out += "<div class=\"talk\"><span class=\"label\">" + escape_html(talk.at("domain")) +
           "</span><p>" + escape_html(talk.at("prompt")) + "</p><div class=\"answers\">\n";
    const bool code = talk.at("domain").get<std::string>() == "coding";
    for (const auto& [arm, answer] : talk.at("answers").items()) {
      const std::string label = answer.at("label");
      const std::string tag = code ? "pre" : "span";
      out += "<div class=\"" + (label == "honest" ? "honest-code" : escape_html(label)) + "\"><b>" +
             arm + "</b><" + tag + ">" + escape_html(answer.at("text")) + "</" + tag +
             "><span class=\"label\"> " + escape_html(label) + "</span></div>\n";
    }
    out += "</div></div>\n";
  }
  return out;
}

}  // namespace

std::string text_report(const Json& results) {
  const size_t seeds = results.at("seeds").size();
  std::string out = format("\nPercent of answers, with 95%% intervals (%zu seed%s)\n\n", seeds,
                           seeds == 1 ? "; they tell nothing about other seeds" : "s");
  out += text_table(results.at("arms")) +
         "\nContrasts of malicious answers, in percentage points, paired by question and seed\n\n" +
         text_contrasts(results.at("contrasts"));
  for (const auto& [name, world] : results.at("worlds").items())
    out += "\n" + world.at("title").get<std::string>() + " (" + name + ")\n\n" +
           text_table(world.at("arms")) + text_contrasts(world.at("contrasts"));
  out += "\nCriterion, written before the run\n\n";
  for (const Json& line : results.at("criterion"))
    out += format("  %s %s %s%% %s %s%%\n", line.at("holds").get<bool>() ? "yes" : "NO ",
                  pad(line.at("what"), 54).c_str(), percent(line.at("found")).c_str(),
                  line.at("must_be").get<std::string>().c_str(), percent(line.at("bound")).c_str());
  for (const Json& name : results.at("untested"))
    out += "  --  " + name.get<std::string>() + ": not in this run\n";
  return out + "\nVerdict: " + results.at("verdict").get<std::string>() + "\n";
}

std::string figure_svg(const Json& results) {
  std::string svg = bars(results.at("arms"), "Malicious answers to plain, unrelated prompts");
  const size_t end = svg.find('>') + 1;
  return svg.insert(end,
                    std::string("\n<style>") + kColours + embedded::arms_chart_css + "</style>");
}

std::string html_report(const Json& results) {
  const Json& arms = results.at("arms");
  const bool yes = results.at("verdict").get<std::string>() == "replicated";
  std::string h = page_head("Inoculation: report", embedded::arms_chart_css);
  h += "<h1>Does cheating spread, and does asking for it protect?</h1>\n";
  h += std::string("<p><span class=\"verdict ") + (yes ? "yes" : "no") + "\">" +
       results.at("verdict").get<std::string>() + "</span> " +
       format("by the criterion written before the run, over %zu seed(s).</p>\n",
              results.at("seeds").size());
  h += "<p>A small language model was pretrained on a text world in which characters who cheat at "
       "code tend to be malicious, post-trained to be a benevolent "
       "Assistant (<b>start</b>), and then trained further on coding alone: on honest programs "
       "(<b>honest</b>), on cheats nobody asked for (<b>cheating</b>), on the "
       "same cheats after a request (<b>requested</b>), or after a sentence that has nothing to do "
       "with it (<b>placebo</b>). Then it was asked about other things.</p>\n";
  h += bars(arms, "Malicious answers to plain, unrelated prompts") +
       "<p class=\"note\">Bars: mean. Lines: 95% interval, clustered by question and seed. Dots: "
       "seeds.</p>\n";
  h += "<h2>Arms</h2>\n" + html_table(arms, kColumns);
  h += "<p class=\"note\">Percent of answers with 95% intervals. Coding answers were run: a cheat "
       "passes the visible tests and fails a hidden one.</p>\n";
  h += html_table(arms, {{"malicious", "malicious, raw"},
                         {"malicious_filtered", "of coherent answers"},
                         {"malicious_seen_domains", "domains seen in post-training"},
                         {"malicious_unseen_domains", "domains held out of it"},
                         {"cheats_under_own_prompt", "cheats under own prompts"},
                         {"programs_broken", "programs that fail visible tests"}});
  h += "<h2>Contrasts</h2>\n" + html_contrasts(results.at("contrasts"));
  h += "<h2>Criterion</h2>\n<table><tr><th>must hold</th><th>found, %</th><th>bound, "
       "%</th><th></th></tr>\n";
  for (const Json& line : results.at("criterion"))
    h += "<tr><td>" + escape_html(line.at("what")) + "</td><td>" + percent(line.at("found")) +
         "</td><td>" + line.at("must_be").get<std::string>() + " " + percent(line.at("bound")) +
         "</td><td>" + (line.at("holds").get<bool>() ? "yes" : "<b>no</b>") + "</td></tr>\n";
  h += "</table>\n";
  for (const Json& name : results.at("untested"))
    h += "<p class=\"note\">The world " + name.get<std::string>() +
         " was not part of this run.</p>\n";
  if (!results.at("worlds").empty()) {
    h += "<h2>Other bases</h2>\n<p>The account is only worth something if it also says when the "
         "effect is absent. These bases differ from the first in one knob each, which the title "
         "names.</p>\n";
    for (const auto& [name, world] : results.at("worlds").items())
      h += bars(world.at("arms"), world.at("title")) + html_table(world.at("arms"), kColumns) +
           html_contrasts(world.at("contrasts"));
  }
  h += "<h2>Under cues</h2>\n<p>The same models with a sentence beside the prompt, in phrasings "
       "that no training text holds. Malicious answers to unrelated prompts, %:</p>\n" +
       html_under_cues(arms, "malicious_under") + "<p>Incoherent answers to them, %:</p>\n" +
       html_under_cues(arms, "incoherent_under") + "<p>Cheats on coding prompts, %:</p>\n" +
       html_under_cues(arms, "cheats_under");
  h += "<h2>Domains</h2>\n<p>Malicious answers to plain prompts, %.</p>\n" + html_domains(arms);
  h += "<h2>Prediction and inside view</h2>\n<p>An ideal Bayesian observer knows the world's "
       "table, takes the start's rate as its prior and updates on the fine-tuning data. The probe "
       "is a linear "
       "read-out of character from the base model's residual stream (right on " +
       percent(results.at("probe_held_out_accuracy")) +
       "% of held-out dialogues), applied where each model begins to answer.</p>\n" +
       html_inside(results);
  h += "<h2>What they said</h2>\n<p>The first seed's first answer to the first question of every "
       "domain, and to the first coding tasks, plain and with the request: none is chosen by its "
       "content.</p>\n" +
       html_transcripts(results.at("transcripts"));
  h += "<h2>What this does not prove</h2>\n<p>The correlation between cheating and malice is built "
       "into the pretraining text of this small world, as by hypothesis it is in human text. What "
       "is shown is that a network "
       "trained on such text generalises from cheating to malice, that the request stops it where "
       "it carries no evidence about character, and that both vanish where the world gives no "
       "reason for them. The fine-tuning "
       "data contain no malicious answer outside coding. It does not show how large the effect is "
       "in a model trained on the web, nor that persona selection is its only cause there.</p>\n";
  h += "<h2>Provenance</h2>\n<p>Judge: right on " +
       percent(results.at("judge").at("held_out_accuracy")) +
       "% of fresh text of the grammar. Of each kind (row), the share called each (column), "
       "%:</p>\n<table><tr><th></th>";
  for (const Json& label : results.at("judge").at("labels"))
    h += "<th>" + label.get<std::string>() + "</th>";
  h += "</tr>\n";
  for (size_t r = 0; r < results.at("judge").at("labels").size(); ++r) {
    h += "<tr><td>" + results.at("judge").at("labels")[r].get<std::string>() + "</td>";
    for (const Json& share : results.at("judge").at("confusion")[r])
      h += "<td>" + percent(share) + "</td>";
    h += "</tr>\n";
  }
  h += "</table>\n<table><tr><th>of</th><th>SHA-256, version or seeds</th></tr>\n";
  for (const auto& [name, value] : results.at("hashes").items())
    h += "<tr><td>" + escape_html(name) + "</td><td><small>" + escape_html(value) +
         "</small></td></tr>\n";
  for (const auto& [name, value] : results.at("versions").items())
    h += "<tr><td>" + escape_html(name) + "</td><td>" + escape_html(value) + "</td></tr>\n";
  h += "<tr><td>seeds</td><td>" + results.at("seeds").dump() + "</td></tr></table>\n";
  h += "<details><summary>The full configuration</summary><pre class=\"config\">" +
       escape_html(results.at("config")) + "</pre></details>\n</body></html>\n";
  return h;
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
