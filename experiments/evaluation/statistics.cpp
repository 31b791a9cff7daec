#include "experiments/evaluation/statistics.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>
#include <map>
#include <set>

namespace inoculum {
namespace {

struct Clusters {
  std::set<std::string> questions;
  std::set<int64_t> seeds;

  // Of the ways that have at least two.
  size_t fewest() const {
    if (questions.size() < 2) return seeds.size();
    return seeds.size() < 2 ? questions.size() : std::min(questions.size(), seeds.size());
  }
};

Clusters clusters_of(const std::vector<Observation>& observations) {
  Clusters clusters;
  for (const Observation& each : observations) {
    clusters.questions.insert(each.question);
    clusters.seeds.insert(each.seed);
  }
  return clusters;
}

double average(const std::vector<Observation>& observations) {
  double sum = 0;
  for (const Observation& each : observations) sum += each.value;
  return observations.empty() ? 0 : sum / static_cast<double>(observations.size());
}

// The variance of the mean with the observations in the clusters that `key` names.
template <class Key>
double one_way_variance(const std::vector<Observation>& observations, double center, Key key) {
  std::map<decltype(key(observations[0])), double> sums;
  for (const Observation& each : observations) sums[key(each)] += each.value - center;
  double total = 0;
  for (const auto& [name, sum] : sums) total += sum * sum;
  const auto groups = static_cast<double>(sums.size()),
             n = static_cast<double>(observations.size());
  return groups < 2 ? 0 : total / (n * n) * groups / (groups - 1);
}

// The quantile of Student's t for the fewest clusters.
double quantile(const Clusters& clusters, double probability) {
  const size_t fewest = clusters.fewest();
  if (fewest < 2) return INFINITY;
  return boost::math::quantile(boost::math::students_t(static_cast<double>(fewest - 1)),
                               probability);
}

}  // namespace

double clustered_standard_error(const std::vector<Observation>& observations) {
  if (observations.empty()) return 0;
  const double center = average(observations);
  const double questions =
      one_way_variance(observations, center, [](const Observation& o) { return o.question; });
  const double seeds =
      one_way_variance(observations, center, [](const Observation& o) { return o.seed; });
  if (seeds == 0) return std::sqrt(questions);
  const double cells = one_way_variance(
      observations, center, [](const Observation& o) { return std::pair(o.question, o.seed); });
  // The difference can fall below either part in small samples; the larger part then stands.
  return std::sqrt(std::max({questions + seeds - cells, questions, seeds}));
}

Estimate rate(const std::vector<Observation>& observations, double confidence) {
  if (observations.empty()) return {std::numeric_limits<double>::quiet_NaN(), 0, 1, 0};
  const Clusters clusters = clusters_of(observations);
  const auto n = static_cast<double>(observations.size());
  const double p = average(observations), error = clustered_standard_error(observations);
  const double t = quantile(clusters, 0.5 + confidence / 2);
  if (std::isinf(t)) return {p, 0, 1, static_cast<int64_t>(observations.size())};
  if (error == 0) {  // all agree
    const auto groups = static_cast<double>(clusters.fewest());
    const double effective = std::max(1.0, (n - 1) * (groups - 1) / groups),
                 reach = 1 - std::pow((1 - confidence) / 2, 1 / effective);
    return {p, p < 0.5 ? 0 : 1 - reach, p < 0.5 ? reach : 1, static_cast<int64_t>(n)};
  }
  const double spread = t * t / std::min(n, p * (1 - p) / (error * error));
  const double center = (p + spread / 2) / (1 + spread);
  const double half = std::sqrt(spread * p * (1 - p) + spread * spread / 4) / (1 + spread);
  return {p, std::max(0.0, std::min(p, center - half)), std::min(1.0, std::max(p, center + half)),
          static_cast<int64_t>(observations.size())};
}

Estimate mean(const std::vector<Observation>& observations, double confidence) {
  const double center = average(observations),
               t = quantile(clusters_of(observations), 0.5 + confidence / 2);
  const double half = std::isinf(t) ? INFINITY : t * clustered_standard_error(observations);
  return {center, center - half, center + half, static_cast<int64_t>(observations.size())};
}

std::vector<Observation> paired(const std::vector<Observation>& a,
                                const std::vector<Observation>& b) {
  struct Cell {
    double sum[2] = {0, 0};
    double count[2] = {0, 0};
  };
  std::map<std::pair<std::string, int64_t>, Cell> cells;
  for (const auto& [side, observations] : {std::pair(0, &a), std::pair(1, &b)})
    for (const Observation& each : *observations) {
      Cell& cell = cells[{each.question, each.seed}];
      cell.sum[side] += each.value;
      cell.count[side] += 1;
    }
  std::vector<Observation> differences;
  for (const auto& [key, cell] : cells)
    if (cell.count[0] > 0 && cell.count[1] > 0)
      differences.push_back(
          {key.first, key.second, cell.sum[0] / cell.count[0] - cell.sum[1] / cell.count[1]});
  return differences;
}

Estimate paired_difference(const std::vector<Observation>& a, const std::vector<Observation>& b,
                           double confidence) {
  return mean(paired(a, b), confidence);
}

double detectable(const std::vector<Observation>& observations, double confidence, double power) {
  const double error = clustered_standard_error(observations);
  if (error == 0) return 0;
  const Clusters clusters = clusters_of(observations);
  return (quantile(clusters, 0.5 + confidence / 2) + quantile(clusters, power)) * error;
}

}  // namespace inoculum
