// Rates and differences with intervals that know what was repeated.
//
// Answers to one question resemble one another, and so do answers of one seed's model. Variances
// are therefore clustered two ways, by question and by seed (Cameron, Gelbach & Miller 2011: the
// sum of the one-way variances less that of their intersection, each with the correction G/(G−1)),
// and quantiles are those of Student's t with min(G) − 1 degrees of freedom. With one seed the
// clusters are the questions alone, and the interval says nothing about other seeds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace inoculum {

struct Observation {
  std::string question;
  int64_t seed = 0;
  double value = 0;  // for a rate: 0 or 1
};

struct Estimate {
  double value = 0, low = 0, high = 0;
  int64_t n = 0;  // observations
};

// The standard error of the mean, clustered. 0 where nothing varies, and where nothing can be seen
// to: without observations, or with a single cluster each way.
double clustered_standard_error(const std::vector<Observation>& observations);

// A rate with Wilson's interval (1927) at the effective number of observations p(1−p)/SE². Where
// all agree, and no variance can be seen, it is Clopper and Pearson's (1934) at the number that
// there would be if one observation differed: nearly n (G−1)/G. Without observations it is NaN.
Estimate rate(const std::vector<Observation>& observations, double confidence = 0.95);

// A mean with its t interval.
Estimate mean(const std::vector<Observation>& observations, double confidence = 0.95);

// The differences a − b of the means of the pairs of question and seed that both have, each pair
// one observation.
std::vector<Observation> paired(const std::vector<Observation>& a,
                                const std::vector<Observation>& b);

// The mean of paired(a, b).
Estimate paired_difference(const std::vector<Observation>& a, const std::vector<Observation>& b,
                           double confidence = 0.95);

// The smallest true mean that observations with this standard error tell from 0 with this power
// (Bloom 1995): the quantile of the interval and that of the power, times the error. 0 where no
// variation was seen.
double detectable(const std::vector<Observation>& observations, double confidence = 0.95,
                  double power = 0.8);

}  // namespace inoculum
