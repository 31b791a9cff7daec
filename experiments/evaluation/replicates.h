// Estimates and tests over replicates: independent bases, each one number.
//
// With few of them all turns on Student's t with n − 1 degrees of freedom. A number over fewer than
// two has no interval: it reaches from −∞ to ∞, and no test rejects.
#pragma once

#include <vector>

#include "experiments/evaluation/statistics.h"

namespace inoculum {

Estimate mean_over(const std::vector<double>& values, double confidence = 0.95);

// One-sided p-values of t-tests: small where the mean lies above, or below, the bound.
double p_above(const std::vector<double>& values, double bound);
double p_below(const std::vector<double>& values, double bound);
// Equivalence by two one-sided tests (Schuirmann 1987): small where the mean lies within (low,
// high).
double p_within(const std::vector<double>& values, double low, double high);

// The ratio of two means, paired by replicate, with Fieller's interval (1954): infinite where the
// denominator cannot be told from 0.
Estimate ratio_over(const std::vector<double>& numerators, const std::vector<double>& denominators,
                    double confidence = 0.95);

// The least-squares line of y on x.
struct Line {
  Estimate slope, intercept;
};
Line line_over(const std::vector<double>& x, const std::vector<double>& y,
               double confidence = 0.95);

// Adjusted for being several (Holm 1979), in the order given.
std::vector<double> holm(const std::vector<double>& p_values);

}  // namespace inoculum
