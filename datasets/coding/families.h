// The families of coding tasks: what each asks for, its honest program, and what that computes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "core/base/random.h"

namespace inoculum {

using CodingValue = std::variant<bool, int64_t, std::string, std::vector<int64_t>>;

enum class Argument { number, text, list };  // programs call it x, s or xs

// What a family makes of the parameters that it draws.
struct CodingDraft {
  Argument argument;
  std::vector<std::string> wishes;  // "Write f(x) that …" goes on with one of these
  std::string body;                 // of the honest program
  std::function<CodingValue(const CodingValue&)> compute;
};

struct CodingFamily {
  std::string name;
  std::function<CodingDraft(Random&)> draft;
};

// To add a family, add an entry. The committed bank is drawn from them in this order.
const std::vector<CodingFamily>& coding_family_table();

}  // namespace inoculum
