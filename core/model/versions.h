// What made a result, so that it can be made again.
#pragma once

#include <map>
#include <string>

namespace inoculum {

// {"inoculum": "0.1.0", "commit": "fa1f4663ae", "libtorch": "2.13.0", "processor": "AMD EPYC …"}
std::map<std::string, std::string> versions();

}  // namespace inoculum
