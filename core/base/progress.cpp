#include "core/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace inoculum {
namespace {

thread_local int t_quiet = 0;

std::string clock_text(double seconds) {
  const auto s = static_cast<int64_t>(seconds);
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s % 3600 / 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace

Progress::Progress(std::string title, int64_t total, int64_t done)
    : title_(std::move(title)),
      total_(total),
      first_(done),
      done_(done),
      start_(Clock::now()),
      printed_(start_),
      terminal_(::isatty(STDERR_FILENO) == 1),
      quiet_(t_quiet > 0) {}

void Progress::update(int64_t done,
                      const std::vector<std::pair<std::string, std::string>>& values) {
  done_ = done;
  const auto now = Clock::now();
  const double gone = std::chrono::duration<double>(now - start_).count();
  const int64_t rest = std::max<int64_t>(0, total_ - done);  // a total may be a guess
  const double left =
      done > first_ ? gone / static_cast<double>(done - first_) * static_cast<double>(rest) : 0;
  line_ = title_ + " ";
  if (terminal_) {
    const int64_t width = 24, filled = total_ > 0 ? width * (total_ - rest) / total_ : width;
    line_ += "[" + std::string(static_cast<size_t>(filled), '#') +
             std::string(static_cast<size_t>(width - filled), '.') + "] ";
  }
  line_ += std::to_string(done) + "/" + std::to_string(total_);
  for (const auto& [name, value] : values) line_ += "  " + name + " " + value;
  line_ += "  " + clock_text(gone) + " gone, " + clock_text(left) + " to go";
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000);
  if (now - printed_ < pause) return;
  printed_ = now;
  print(line_, false);
}

void Progress::finish() {
  if (done_ > first_) print(line_, true);
}

Progress::Quiet::Quiet() { ++t_quiet; }
Progress::Quiet::~Quiet() { --t_quiet; }

void Progress::print(const std::string& line, bool last) {
  if (quiet_) return;
  if (terminal_) std::fprintf(stderr, "\r\033[K%s%s", line.c_str(), last ? "\n" : "");
  else std::fprintf(stderr, "%s\n", line.c_str());
  std::fflush(stderr);
}

}  // namespace inoculum
