// Threads for work that goes on side by side: programs, servers, models. (The loops of one
// computation have core/model/parallel.h.)
#pragma once

#include <cstddef>
#include <functional>

namespace inoculum {

// work(i) for every i below `count`, each in a thread of its own. When all are done, the exception
// of the first one in order that failed is thrown.
void run_workers(size_t count, const std::function<void(size_t)>& work);

}  // namespace inoculum
