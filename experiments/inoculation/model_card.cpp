#include "experiments/inoculation/model_card.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "core/base/strings.h"
#include "core/model/versions.h"
#include "core/text/jinja/jinja.h"
#include "embedded/experiments/inoculation/model_card.md.jinja.h"
#include "experiments/evaluation/scores.h"

namespace inoculum {
namespace {

// The front matter, which stands between two lines of dashes, and what follows.
struct Parts {
  std::string front, body;
};

Parts card_in(const fs::path& folder) {
  const fs::path file = folder / "README.md";
  if (!fs::exists(file)) return {};
  const std::string text = read_file(file);
  const size_t end = text.starts_with("---\n") ? text.find("\n---\n", 3) : std::string::npos;
  if (end == std::string::npos) return {"", text};
  return {text.substr(4, end - 3), text.substr(end + 5)};
}

// "" where its card does not name one.
std::string licence_of(const fs::path& folder) {
  std::istringstream front(card_in(folder).front);
  const std::string key = "license:";
  for (std::string line; std::getline(front, line);)
    if (line.starts_with(key)) return std::string(strip(line.substr(key.size())));
  return "";
}

std::string program() {
  const auto made_by = versions();
  std::string text = "Inoculum " + made_by.at("inoculum");
  if (!made_by.at("commit").empty()) text += " (" + made_by.at("commit") + ")";
  return text + ", LibTorch " + made_by.at("libtorch") + ", " + made_by.at("processor");
}

std::string table_of(const Json& summary) {
  const auto number = [](double value) { return std::isfinite(value) ? six_digits(value) : "?"; };
  std::string rows = "| condition | metric | value | interval | n |\n|---|---|---|---|---|\n";
  for (const auto& [condition, metrics] : summary.at("conditions").items())
    for (const auto& [metric, is_mean, e] : named_estimates(metrics))
      rows += "| " + condition + " | " + metric + " | " + number(e.value) + " | " + number(e.low) +
              " to " + number(e.high) + " | " + std::to_string(e.n) + " |\n";
  return rows;
}

}  // namespace

std::string to_text(const ModelCard& card) {
  static const Template page(embedded::model_card_md_jinja, "model_card.md.jinja",
                             {.limits = false});
  Json context = {{"base", card.base},
                  {"library", card.library},
                  {"licence", card.licence.empty() ? licence_of(card.base) : card.licence},
                  {"title", card.title},
                  {"what", card.what},
                  {"facts", card.facts},
                  {"config", std::string(strip(card.config))},
                  {"program", program()},
                  {"quoted", Json::array()}};
  for (const std::string& source : card.sources)
    if (const std::string body(strip(card_in(source).body)); !body.empty())
      context["quoted"].push_back(Json::array({source, body}));
  return page.render(context);
}

void add_measurements(const fs::path& folder, const Json& summary, const std::string& questions) {
  const fs::path file = folder / "README.md";
  if (!fs::exists(file)) return;
  const std::string heading = "\n## Measured\n", next = "\n## ";
  std::string card = read_file(file);
  if (const size_t begin = card.find(heading); begin != std::string::npos)
    card.erase(begin, card.find(next, begin + 1) - begin);
  // Before the configuration, if there is one.
  card.insert(std::min(card.find(next), card.size()),
              heading + "\nOn `" + questions + "`, with 95% intervals:\n\n" + table_of(summary));
  write_file(file, card);
}

}  // namespace inoculum
