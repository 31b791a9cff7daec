// Tables as data: for the pages' templates and for the terminal.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "datasets/worlds/world.h"
#include "experiments/evaluation/scores.h"

namespace inoculum {

struct TableCell {
  std::string text;
  std::string interval = {};             // its confidence interval, such as "1.2, 3.4"
  std::optional<double> shade = {};      // of the background on a page, 0 to 1
  std::optional<std::string> link = {};  // where the text leads on a page
};

struct Table {
  std::vector<std::string> head;
  std::vector<std::vector<TableCell>> rows;
};

// A metric of summary.json with its interval, rates in percent; "?" is what is not known, such as
// the interval of one question.
struct EstimateText {
  std::string value, low, high;

  bool has_interval() const { return low != "?" && high != "?"; }
};
EstimateText estimate_text(const NamedEstimate& found);

const char* title_of(Cue cue);  // heads a column

Json to_json(const Table& table);  // {"head": […], "rows": [[{"text", …}, …], …]}

// Columns of equal width on the terminal, each line after `margin`. The last cell of a line may be
// of any length.
std::string to_text(const Table& table, const std::string& margin = "");

}  // namespace inoculum
