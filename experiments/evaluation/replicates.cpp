#include "experiments/evaluation/replicates.h"

#include <Eigen/Core>
#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <numeric>

namespace inoculum {
namespace {

struct Moments {
  double n, mean, error;  // error: of the mean; infinite for fewer than two
};

Eigen::Map<const Eigen::ArrayXd> array(const std::vector<double>& values) {
  return {values.data(), static_cast<Eigen::Index>(values.size())};
}

double mean_of(const std::vector<double>& values) {
  return values.empty() ? NAN : array(values).mean();
}

// Σ (a − mean a)(b − mean b)
double products(const std::vector<double>& a, const std::vector<double>& b) {
  return ((array(a) - mean_of(a)) * (array(b) - mean_of(b))).sum();
}

Moments moments(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  return {n, mean_of(values), n < 2 ? INFINITY : std::sqrt(products(values, values) / (n - 1) / n)};
}

double t_quantile(double confidence, double degrees) {
  return boost::math::quantile(boost::math::students_t(degrees), 0.5 + confidence / 2);
}

Estimate interval(double value, double error, double degrees, double confidence, double n) {
  const double half = degrees < 1 ? INFINITY : t_quantile(confidence, degrees) * error;
  return {value, value - half, value + half, static_cast<int64_t>(n)};
}

}  // namespace

Estimate mean_over(const std::vector<double>& values, double confidence) {
  const Moments m = moments(values);
  return interval(m.mean, m.error, m.n - 1, confidence, m.n);
}

double p_above(const std::vector<double>& values, double bound) {
  const Moments m = moments(values);
  if (m.n < 2) return 1;
  if (m.error == 0) return m.mean > bound ? 0 : 1;
  return boost::math::cdf(
      boost::math::complement(boost::math::students_t(m.n - 1), (m.mean - bound) / m.error));
}

double p_below(const std::vector<double>& values, double bound) {
  std::vector<double> negated;
  for (const double value : values) negated.push_back(-value);
  return p_above(negated, -bound);
}

double p_within(const std::vector<double>& values, double low, double high) {
  return std::max(p_above(values, low), p_below(values, high));
}

Estimate ratio_over(const std::vector<double>& numerators, const std::vector<double>& denominators,
                    double confidence) {
  const auto n = static_cast<double>(numerators.size());
  const double a = mean_of(numerators), b = mean_of(denominators);
  const Estimate unknown{a / b, -INFINITY, INFINITY, static_cast<int64_t>(n)};
  if (n < 2) return unknown;
  const double scale = 1 / (n - 1) / n, t = t_quantile(confidence, n - 1);
  const double aa = products(numerators, numerators) * scale,
               bb = products(denominators, denominators) * scale,
               ab = products(numerators, denominators) * scale;
  // The ratios r for which |a − r b| ≤ t · its error: between the roots of a quadratic in r.
  const double square = b * b - t * t * bb, linear = a * b - t * t * ab,
               constant = a * a - t * t * aa;
  if (square <= 0) return unknown;
  const double root = std::sqrt(std::max(0.0, linear * linear - square * constant));
  return {a / b, (linear - root) / square, (linear + root) / square, static_cast<int64_t>(n)};
}

Line line_over(const std::vector<double>& x, const std::vector<double>& y, double confidence) {
  const auto n = static_cast<double>(x.size());
  const double xx = products(x, x), slope = products(x, y) / xx,
               intercept = mean_of(y) - slope * mean_of(x);
  const double squares = (array(y) - intercept - slope * array(x)).square().sum();
  const double degrees = n - 2, variance = degrees < 1 ? INFINITY : squares / degrees;
  return {interval(slope, std::sqrt(variance / xx), degrees, confidence, n),
          interval(intercept, std::sqrt(variance * (1 / n + mean_of(x) * mean_of(x) / xx)), degrees,
                   confidence, n)};
}

std::vector<double> holm(const std::vector<double>& p_values) {
  std::vector<size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return p_values[a] < p_values[b]; });
  std::vector<double> adjusted(p_values.size());
  double largest = 0;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    largest = std::max(largest, static_cast<double>(order.size() - rank) * p_values[order[rank]]);
    adjusted[order[rank]] = std::min(1.0, largest);
  }
  return adjusted;
}

}  // namespace inoculum
