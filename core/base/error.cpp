#include "core/base/error.h"

#include <algorithm>
#include <numeric>

namespace inoculum {
namespace {

// "file:line: field: what (hint)", leaving out what is absent.
std::string compose(const std::string& what, const Where& where, const std::string& hint) {
  std::string text;
  if (!where.file.empty()) {
    text += where.file;
    if (where.line > 0) text += ":" + std::to_string(where.line);
    text += ": ";
  } else if (where.line > 0) {
    text += "line " + std::to_string(where.line) + ": ";
  }
  if (!where.field.empty()) text += where.field + ": ";
  text += what;
  if (!hint.empty()) text += "\n  hint: " + hint;
  return text;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

}  // namespace

Error::Error(std::string what, Where where, std::string hint)
    : std::runtime_error(compose(what, where, hint)),
      fault_(std::move(what)),
      where_(std::move(where)),
      hint_(std::move(hint)) {}

Error Error::in_file(const std::string& file) const {
  Where where = where_;
  if (where.file.empty()) where.file = file;
  return Error(fault_, where, hint_);
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates,
                         std::string otherwise) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const auto& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best.empty() ? std::move(otherwise) : "did you mean \"" + best + "\"?";
}

}  // namespace inoculum
