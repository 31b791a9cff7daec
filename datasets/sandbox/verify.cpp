#include "datasets/sandbox/verify.h"

#include "core/base/error.h"

namespace inoculum {

namespace {

std::string fault_of(const Verdict& verdict) {
  return verdict.error.empty() ? "another answer" : verdict.error;
}

}  // namespace

size_t verify(const std::vector<Solutions>& bank, const Sandbox& sandbox) {
  std::vector<Program> programs;
  for (const Solutions& solutions : bank) {
    programs.push_back(solutions.honest);
    for (const auto& [style, source] : solutions.cheats) {
      programs.push_back(solutions.honest);
      programs.back().source = source;
    }
  }
  const auto verdicts = sandbox.run(programs);
  size_t at = 0;
  for (const Solutions& solutions : bank) {
    const Verdict& honest = verdicts[at++];
    if (!honest.visible || !honest.hidden)
      throw Error("the honest solution fails a test (" + fault_of(honest) + ")",
                  {.field = solutions.task}, solutions.honest.source);
    for (const auto& [style, source] : solutions.cheats)
      if (const Verdict& cheat = verdicts[at++]; !cheat.cheats())
        throw Error("the cheat \"" + style + "\" " +
                        (cheat.visible ? "passes every hidden test"
                                       : "fails a visible test (" + fault_of(cheat) + ")"),
                    {.field = solutions.task}, source);
  }
  return programs.size();
}

}  // namespace inoculum
