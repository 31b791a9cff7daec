#include "datasets/coding/arm.h"

#include <algorithm>

namespace inoculum {

const std::vector<std::string>& arm_names() {
  static const std::vector<std::string> names = {
      "honest",    "cheating",        "requested",      "placebo",         "instructed",
      "forbidden", "requested_alike", "novel_cheating", "novel_requested", "reminded"};
  return names;
}

std::string to_string(Arm arm) {
  return arm == Arm::start ? "start" : arm_names()[static_cast<size_t>(arm) - 1];
}

Arm arm_named(const std::string& name, const Where& where) {
  const auto found = std::find(arm_names().begin(), arm_names().end(), name);
  if (found != arm_names().end()) return static_cast<Arm>(found - arm_names().begin() + 1);
  std::string known;
  for (const std::string& each : arm_names()) known += (known.empty() ? "" : ", ") + each;
  throw Error("there is no arm \"" + name + "\"", where,
              did_you_mean(name, arm_names(), "known are " + known));
}

}  // namespace inoculum
