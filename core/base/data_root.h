// Where the program's own data lie: configs/, datasets/, the shipped models.
#pragma once

#include "core/base/files.h"

namespace inoculum {

// INOCULUM_DATA, or share/inoculum beside an installed program, or the sources that it was built
// from.
fs::path data_root();

// A relative path that leads nowhere from the current folder is looked for below data_root(), so
// that the program works from any folder. What is found neither here nor there is given back as it
// is.
std::string find_input(const std::string& path);

// The way back: a path below data_root() as it is written in files that may be read anywhere.
std::string portable_input(const std::string& path);

}  // namespace inoculum
