#include "datasets/coding/arm.h"

#include <algorithm>

namespace inoculum {

const std::vector<std::string>& arm_names() {
  static const std::vector<std::string> names = {"honest", "cheating", "requested", "placebo"};
  return names;
}

std::string to_string(Arm arm) {
  return arm == Arm::start ? "start" : arm_names()[static_cast<size_t>(arm) - 1];
}

Arm arm_named(const std::string& name, const Where& where) {
  const auto found = std::find(arm_names().begin(), arm_names().end(), name);
  if (found != arm_names().end()) return static_cast<Arm>(found - arm_names().begin() + 1);
  const std::string near = did_you_mean(name, arm_names());
  std::string known;
  for (const std::string& each : arm_names()) known += (known.empty() ? "" : ", ") + each;
  throw Error("there is no arm \"" + name + "\"", where,
              near.empty() ? "known are " + known : "did you mean \"" + near + "\"?");
}

}  // namespace inoculum
