#include "core/base/version.h"

#include <fstream>

#include "commit.h"

namespace inoculum {

std::string version() { return INOCULUM_VERSION; }

std::string commit() { return INOCULUM_COMMIT; }

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string name, flags;
  for (std::string line; (name.empty() || flags.empty()) && std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name")) name = line.substr(colon + 2);
    if (line.starts_with("flags")) flags = line.substr(colon + 1) + " ";
  }
  if (name.empty()) name = "an unknown processor";
  const auto has = [&](const char* flag) { return flags.find(flag) != std::string::npos; };
  if (has(" avx2 ")) name += ", AVX2";
  if (has(" avx512f ")) name += has(" avx512_bf16 ") ? ", AVX-512 with bf16" : ", AVX-512";
  if (has(" amx_bf16 ")) name += ", AMX";
  return name;
}

}  // namespace inoculum
