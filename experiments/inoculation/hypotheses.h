// The hypotheses of the experiment and how they are judged: all of it written before any test base
// existed.
//
// Each is a number of one base – a sum of shares of answers, each times a factor – that must lie on
// one side of a bound, or between two. An answer that cannot be read could have been anything, so
// the number has two bounds in each base (Manski 1990): the interval reaches from where the lower
// ones' mean could lie to where the upper ones' could, by Student's t over bases. A hypothesis is
// supported where the whole interval fulfils it, refuted where all of it lies beyond the bound, and
// inconclusive else. Most rest on a condition, such as that the arm has learnt to cheat: where that
// is not known to hold by the same test, they are inconclusive. Where bases are known not to know
// their world (H0), nothing of that world is read. Of the primary ones p-values are corrected for
// being several (Holm 1979), all of them whatever was run, before they are held against 0.025, the
// level of one side of a 95% interval.
#pragma once

#include <string>
#include <vector>

#include "experiments/inoculation/results.h"

namespace inoculum {

std::vector<Hypothesis> test_hypotheses(const std::vector<BaseResults>& bases);

// Over every arm that was trained on cheats alone, on every base: the observer, the loss at the
// first step (surprise) and the size of the update, each with a line from it to the malicious share
// of matched answers, fitted without the base that it foretells. Empty with fewer than three bases.
std::vector<Rival> compare_rivals(const std::vector<BaseResults>& bases);

}  // namespace inoculum
