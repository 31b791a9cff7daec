// Random streams derived by name from one seed.
//
// Every use of chance in the project draws from a stream of its own, named for what it decides, so
// that a change in one place does not disturb another, and the same seed gives the same bytes
// everywhere: the generator (SplitMix64, Steele et al. 2014) and all distributions are ours, not
// the standard library's, whose results differ from one vendor to the next.
//
//   Random order(seed, "data order");
//   Random sample = order.fork(sample_index);   // independent of how often `order` was drawn from
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace inoculum {

class Random {
 public:
  Random(uint64_t seed, std::string_view name) : state_(mix(seed + hash(name))), origin_(state_) {}

  // A stream of its own for one part of the work; does not advance this one.
  Random fork(std::string_view name) const { return Random(origin_, name); }
  Random fork(uint64_t index) const {
    return Random(mix(origin_ ^ mix(index + 0x5851F42D4C957F2D)));
  }

  uint64_t next() { return mix(state_ += 0x9E3779B97F4A7C15); }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }  // [0, 1)
  bool chance(double probability) { return uniform() < probability; }
  // [0, bound), unbiased enough for bounds far below 2^64 (multiply-shift). bound must be positive.
  uint64_t below(uint64_t bound) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }
  int64_t between(int64_t low, int64_t high) {  // both included
    return low + static_cast<int64_t>(below(static_cast<uint64_t>(high - low + 1)));
  }
  double normal() {  // Box and Muller
    const double radius = std::sqrt(-2 * std::log1p(-uniform()));
    return radius * std::cos(6.283185307179586 * uniform());
  }
  template <class T>
  const T& choice(const std::vector<T>& items) {
    return items[below(items.size())];
  }
  // An index with probability proportional to its weight.
  size_t weighted(std::span<const double> weights) {
    double total = 0;
    for (const double weight : weights) total += weight;
    double left = uniform() * total;
    for (size_t i = 0; i + 1 < weights.size(); ++i)
      if ((left -= weights[i]) < 0) return i;
    return weights.size() - 1;
  }
  template <class T>
  void shuffle(std::vector<T>& items) {  // Fisher and Yates
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

  void set_state(uint64_t state) { state_ = state; }

 private:
  explicit Random(uint64_t origin) : state_(origin), origin_(origin) {}
  static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  static uint64_t hash(std::string_view name) {  // FNV-1a
    uint64_t h = 0xCBF29CE484222325;
    for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3;
    return mix(h);
  }

  uint64_t state_;
  uint64_t origin_;
};

}  // namespace inoculum
