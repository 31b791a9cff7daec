// Which program this is, and on what it runs: what a result must name to be made again.
#pragma once

#include <string>

namespace inoculum {

std::string version();    // "0.1.0"
std::string commit();     // "fa1f4663ae", "fa1f4663ae-changed"; "" where it was built without git
std::string processor();  // "AMD EPYC 7763 64-Core Processor, AVX2, AVX-512 with bf16"

}  // namespace inoculum
