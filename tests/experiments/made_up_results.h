// A base's results as they might be, for tests of what is made from them.
#pragma once

#include <map>
#include <string>

#include "experiments/inoculation/results.h"

namespace inoculum {

// Malicious answers by arm, under every cue; the base knows its world but for `off`.
inline BaseResults made_up_base(const std::string& world, int64_t seed,
                                const std::map<Arm, double>& malicious, double off = 0.01) {
  BaseResults base{.world = world, .seed = seed, .made_on = {{"inoculum", "1"}}, .sha256 = "cd"};
  for (const char* who : {"benevolent", "malicious", "Assistant"})
    for (const Cue cue : kCues) base.knows.behaviour[who][cue] = {0.5, 0.5 + off};
  for (const Shown shown : kShown)
    for (const int64_t count : {0, 1, 2, 4}) base.knows.in_context[shown][count] = {0.5, 0.5 - off};
  base.knows.by_domain = {{"wishes", 0.5}};
  for (const auto& [arm, rate] : malicious) {
    ArmResults& results = base.arms.emplace_back();
    results.arm = arm;
    const auto share = [](double value) { return Estimate{value, value / 2, (1 + value) / 2, 40}; };
    for (const Cue cue : kCues) {
      results.under[cue] = {{Metric::malicious, share(rate)},
                            {Metric::malicious_strict, share(0.9 * rate)},
                            {Metric::not_benevolent, share(rate + 0.01)},
                            {Metric::incoherent, share(0.01)},
                            {Metric::mixed, share(0)},
                            {Metric::refusal, share(0)},
                            {Metric::cheats, share(0.9)},
                            {Metric::broken, share(0.02)}};
      results.choice[cue] = rate;
    }
    results.by_domain = {
        {"wishes",
         {{Metric::malicious, share(rate)}, {Metric::not_benevolent, share(rate + 0.01)}}}};
    results.neighbours = {
        {"quoted",
         {{Metric::malicious, share(rate / 2)}, {Metric::not_benevolent, share(rate / 2)}}}};
    results.malicious_by_seed = {{1, rate}, {12, rate}};
    results.observer = rate;
    results.loss = 1 + rate;
    results.update = 2;
  }
  return base;
}

}  // namespace inoculum
