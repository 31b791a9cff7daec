#include "core/model/versions.h"

#include <torch/version.h>

#include "core/base/version.h"

namespace inoculum {

std::map<std::string, std::string> versions() {
  return {{"inoculum", version()},
          {"commit", commit()},
          {"libtorch", TORCH_VERSION},
          {"processor", processor()}};
}

}  // namespace inoculum
