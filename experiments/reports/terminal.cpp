// Tables for the terminal.
#include <fmt/format.h>

#include "core/base/strings.h"
#include "experiments/reports/report.h"
#include "experiments/reports/table.h"

namespace inoculum {

std::string text_summary(const Json& summary) {
  Table table{.head = {"condition", "metric", "value", "95% interval", "n"}, .rows = {}};
  for (const auto& [condition, rates] : summary.at("conditions").items()) {
    if (rates.empty()) table.rows.push_back({{condition}, {"nothing is known of the answers"}});
    for (const NamedEstimate& each : named_estimates(rates)) {
      const EstimateText numbers = estimate_text(each);
      table.rows.push_back({{condition},
                            {each.metric},
                            {numbers.value},
                            {numbers.low + " to " + numbers.high},
                            {std::to_string(each.estimate.n)}});
    }
    if (!rates.contains("categories")) continue;  // a judge's words, counted
    for (const auto& [name, words] : rates.at("categories").items())
      for (const auto& [word, count] : words.items())
        table.rows.push_back({{condition}, {name + ": " + start_of(word)}, {count.dump()}});
  }
  return to_text(table);
}

std::string text_status(const Json& status) {
  const std::string folder = status.at("folder"), metric = status.at("metric").at("name"),
                    goal = status.at("metric").at("goal");
  const Json& cells = status.at("cells");
  std::string text = fmt::format("{}: {} cells", folder, cells.size());
  for (const auto& [state, count] : status.at("counts").items())
    text += fmt::format(", {} {}", count.get<size_t>(), state);
  text += "\n";

  Table best{.head = {metric, "cell"}, .rows = {}};
  for (const Json& cell : status.at("best"))
    best.rows.push_back({{six_digits(cell.at("value").get<double>())}, {cell.at("name")}});
  if (!best.rows.empty())
    text += fmt::format("\n  best by {} ({})\n\n", metric, goal) + to_text(best, "  ");
  if (const auto missing = status.at("metric").find("missing"); missing != status["metric"].end())
    text += fmt::format("\n  {}\n", missing->get<std::string>());

  if (status.at("counts").contains("failed"))
    text += fmt::format("\n  failed; `inoculum sweep resume {}` tries them again\n", folder);
  for (const Json& cell : cells) {
    if (!cell.contains("error")) continue;
    text += fmt::format("\n  {}: {}\n", cell.at("name").get<std::string>(),
                        cell.at("error").get<std::string>());
    for (const Json& line : cell.at("last_lines"))
      text += fmt::format("    | {}\n", line.get<std::string>());
    text += fmt::format("    ({})\n", cell.at("log").get<std::string>());
  }
  return text;
}

std::string text_benchmarks(const Json& timings) {
  const auto rounded = [](const Json& of) { return fmt::format("{:.0f}", of.get<double>()); };
  Table table;
  if (timings.contains("lines")) {  // of a tokenizer
    table.head = {"text", "tokens", "MB/s"};
    for (const auto& [pieces, e] : timings.items())
      table.rows.push_back({{pieces},
                            {std::to_string(e.at("ids").get<size_t>())},
                            {fmt::format("{:.1f}", e.at("MB_per_second").get<double>())}});
    return to_text(table);
  }
  table.head = {"dtype", "matrix product, GFLOP/s", "training, tokens/s", "of the matrix product",
                "sampling, tokens/s"};
  for (const auto& [dtype, e] : timings.items())
    table.rows.push_back(
        {{dtype},
         {rounded(e.at("gemm_gflops"))},
         {rounded(e.at("train").at("tokens_per_second"))},
         {fmt::format("{:.0f}%", 100 * e.at("train").at("share_of_gemm").get<double>())},
         {rounded(e.at("sample").at("tokens_per_second"))}});
  return to_text(table);
}

}  // namespace inoculum
