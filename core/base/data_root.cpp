#include "core/base/data_root.h"

#include "core/base/process.h"

namespace inoculum {

fs::path data_root() {
  if (std::string chosen = environment("INOCULUM_DATA"); !chosen.empty()) return chosen;
  const fs::path installed =
      fs::path(this_program()).parent_path().parent_path() / "share/inoculum";
  return fs::is_directory(installed) ? installed : fs::path(INOCULUM_SOURCES);
}

std::string find_input(const std::string& path) {
  if (path.empty() || fs::path(path).is_absolute() || fs::exists(path)) return path;
  const fs::path shipped = data_root() / path;
  return fs::exists(shipped) ? shipped.lexically_normal().string() : path;
}

std::string portable_input(const std::string& path) {
  const std::string root = (data_root() / "").lexically_normal().string();
  return path.starts_with(root) ? path.substr(root.size()) : path;
}

}  // namespace inoculum
