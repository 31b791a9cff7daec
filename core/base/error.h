// Errors that a user can cause and mend.
//
// One exception type for all of them: what is wrong, where (a file, a line, a field), and what to
// do about it. The command line prints `message()` and leaves with status 2. Programmer faults are
// not errors: they are assertions (TORCH_INTERNAL_ASSERT or assert).
//
//   throw Error("learning rate must be positive", {.file = path, .field = "optimizer.lr"},
//               "try 2e-4");
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace inoculum {

// Where a fault lies; any part may be absent (empty, or 0 for `line`, which counts from 1).
struct Where {
  std::string file = {};
  int line = 0;
  std::string field = {};
};

class Error : public std::runtime_error {
 public:
  explicit Error(std::string what, Where where = {}, std::string hint = {});

  const std::string& fault() const { return fault_; }  // without place and hint
  const Where& where() const { return where_; }
  Error in_file(const std::string& file) const;  // the same, said of a file if none is named
  const std::string& hint() const { return hint_; }

 private:
  std::string fault_;
  Where where_;
  std::string hint_;
};

// A hint that names the candidate nearest to `word` in edit distance, if near enough to be a slip
// of the keyboard; else `otherwise`.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates,
                         std::string otherwise = "");

}  // namespace inoculum
