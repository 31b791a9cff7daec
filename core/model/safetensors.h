// Safetensors files: memory-mapped reading with every rule of the format enforced, and writing.
//
//   Safetensors file("model.safetensors");
//   const TensorView& t = file.tensors().at("model.norm.weight");  // t.data: in the mapped file
//
// The mapping is private: a page that somebody writes to is his own from then on, and the file
// stays as it is.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/files.h"

namespace inoculum {

struct TensorView {
  std::string dtype;  // "F32", "BF16", …
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

class Safetensors {
 public:
  // Throws Error, naming the file and the tensor, for a file that breaks a rule: a header that is
  // cut off, over 100 MB, not JSON or with a key twice; an unknown type; a size that is not the
  // shape's; data that overlap, leave holes or reach beyond the end.
  explicit Safetensors(const fs::path& path);
  ~Safetensors();
  Safetensors(const Safetensors&) = delete;
  Safetensors& operator=(const Safetensors&) = delete;

  const fs::path& path() const { return path_; }
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  fs::path path_;
  std::span<const std::byte> mapped_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
  void parse();
};

// `model.safetensors`, or the shards that `model.safetensors.index.json` names, each checked
// against it.
std::vector<std::shared_ptr<Safetensors>> load_sharded(const fs::path& folder);

// Written atomically, the tensors in order of their names, `__metadata__` = {"format": "pt"}.
void write_safetensors(const fs::path& path, const std::map<std::string, TensorView>& tensors);

}  // namespace inoculum
