#include "experiments/sweeps/cell_metrics.h"

#include <algorithm>
#include <cmath>

namespace inoculum {
namespace {

// The numbers of a result by their dotted place; an estimate's own number stands for it.
void collect(const Json& value, const std::string& place, CellMetrics& into) {
  if (value.is_number()) {
    if (const auto number = value.get<double>(); std::isfinite(number)) into.set(place, number);
    return;
  }
  if (!value.is_object()) return;
  for (const char* own : {"rate", "difference", "mean"})
    if (value.contains(own)) return collect(value.at(own), place, into);
  for (const auto& [key, each] : value.items())
    collect(each, place.empty() ? key : place + "." + key, into);
}

}  // namespace

std::optional<double> CellMetrics::find(const std::string& name) const {
  const auto found = std::find_if(values.begin(), values.end(),
                                  [&](const auto& each) { return each.first == name; });
  return found == values.end() ? std::nullopt : std::optional(found->second);
}

void CellMetrics::set(const std::string& name, double value) {
  const auto found = std::find_if(values.begin(), values.end(),
                                  [&](const auto& each) { return each.first == name; });
  if (found == values.end()) values.emplace_back(name, value);
  else found->second = value;
}

void CellMetrics::add(const std::vector<Score>& scores) {
  for (const auto& [name, value] : metrics_of(summarize(scores))) set(name, value);
}

void CellMetrics::add(const Results& results) {
  const Json json = to_json(results);
  for (const char* part : {"arms", "contrasts", "damage", "in_context", "worlds"})
    if (json.contains(part)) collect(json.at(part), part, *this);  // not without the main world
}

Json to_json(const CellMetrics& metrics) {
  Json json = Json::object();
  for (const auto& [name, value] : metrics.values) json[name] = value;
  return json;
}

CellMetrics read_metrics(const Json& json) {
  CellMetrics metrics;
  for (const auto& [name, value] : json.items())
    if (value.is_number()) metrics.values.emplace_back(name, value.get<double>());
  return metrics;
}

}  // namespace inoculum
