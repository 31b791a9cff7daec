#include "training/checkpoints.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/model/checkpoint.h"

namespace inoculum {

Checkpoints::Checkpoints(const fs::path& run, int64_t keep)
    : folder_(run / "checkpoints"), keep_(static_cast<size_t>(std::max<int64_t>(1, keep))) {}

int64_t Checkpoints::restore(Optimizer& optimizer) const {
  const std::vector<fs::path> found = find();
  if (found.empty()) return 0;
  optimizer.load(load_tensors(found.back() / "state.safetensors"));
  return read_json(found.back() / "state.json").at("step").get<int64_t>();
}

void Checkpoints::save(int64_t step, const Optimizer& optimizer) const {
  // Eight digits, so that names sort as their steps do.
  const std::string name = fmt::format("step_{:08}", step);
  replace_atomically(folder_ / name, [&](const fs::path& temporary) {
    fs::create_directories(temporary);
    save_tensors(temporary / "state.safetensors", optimizer.state());
    write_json(temporary / "state.json", {{"step", step}});
  });
  prune();
}

std::vector<fs::path> Checkpoints::find() const {
  std::vector<fs::path> found;
  if (fs::is_directory(folder_))
    for (const auto& entry : fs::directory_iterator(folder_))
      if (entry.path().filename().string().starts_with("step_")) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

void Checkpoints::prune() const {
  const std::vector<fs::path> found = find();
  for (size_t i = 0; i + keep_ < found.size(); ++i) fs::remove_all(found[i]);
}

}  // namespace inoculum
