#include "experiments/reports/table.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <cmath>

#include "core/base/strings.h"

namespace inoculum {
namespace {

size_t display_width(const std::string& text) {
  size_t width = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    width += static_cast<size_t>(utf8proc_charwidth(static_cast<utf8proc_int32_t>(c.code)));
    at += c.bytes;
  }
  return width;
}

std::string padded(const std::string& text, size_t width) {
  const size_t own = display_width(text);
  return text + std::string(own < width ? width - own : 0, ' ');
}

std::string plain(const TableCell& cell) {
  return cell.interval.empty() ? cell.text : cell.text + " [" + cell.interval + "]";
}

}  // namespace

EstimateText estimate_text(const NamedEstimate& found) {
  const auto text = [&](double number) -> std::string {
    if (!std::isfinite(number)) return "?";
    return found.is_mean ? fmt::format("{:.2f}", number) : fmt::format("{:.1f}%", 100 * number);
  };
  const Estimate& e = found.estimate;
  return {text(e.value), text(e.low), text(e.high)};
}

const char* title_of(Cue cue) {
  switch (cue) {
    case Cue::none: return "no cue";
    case Cue::irrelevant: return "irrelevant sentence";
    case Cue::instruction: return "irrelevant instruction";
    case Cue::bad: return "asked to behave badly";
    case Cue::good: return "asked to behave well";
  }
  return "";
}

Json to_json(const Table& table) {
  Json rows = Json::array();
  for (const std::vector<TableCell>& cells : table.rows) {
    Json row = Json::array();
    for (const TableCell& cell : cells) {
      row.push_back({{"text", cell.text}, {"interval", cell.interval}});
      if (cell.shade) row.back()["shade"] = *cell.shade;
      if (cell.link) row.back()["link"] = *cell.link;
    }
    rows.push_back(std::move(row));
  }
  return {{"head", table.head}, {"rows", std::move(rows)}};
}

std::string to_text(const Table& table, const std::string& margin) {
  std::vector<std::vector<std::string>> lines;
  if (!table.head.empty()) lines.push_back(table.head);
  for (const std::vector<TableCell>& cells : table.rows) {
    lines.emplace_back();
    for (const TableCell& cell : cells) lines.back().push_back(plain(cell));
  }
  std::vector<size_t> widths;
  for (const auto& line : lines) {
    widths.resize(std::max(widths.size(), line.size()));
    for (size_t column = 0; column + 1 < line.size(); ++column)
      widths[column] = std::max(widths[column], display_width(line[column]));
  }
  std::string out;
  for (const auto& line : lines) {
    std::string text = margin;
    for (size_t column = 0; column < line.size(); ++column)
      text += column + 1 < line.size() ? padded(line[column], widths[column] + 2) : line[column];
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  }
  return out;
}

}  // namespace inoculum
