// TensorBoard event files: scalars by step, and the hyperparameters that its HParams tab compares
// runs by.
//
//   EventFile events(folder, {{"optimizer.lr", 1e-3}});
//   events.scalars(step, wall_time, {{"loss", 1.2}});
//
// The format is TFRecord (length, masked CRC-32C of it, bytes, masked CRC-32C of them) of `Event`
// protocol buffers, as in tensorflow/core/util/event.proto and
// tensorboard/plugins/hparams/plugin_data.proto.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/files.h"

namespace inoculum {

class EventFile {
 public:
  // Opens a new file in `folder` and removes the event files there: the caller writes the steps
  // done before anew. hyperparameters: numbers, booleans or texts, or none.
  EventFile(const fs::path& folder, const Json& hyperparameters = Json::object());

  // wall_time: seconds since 1970.
  void scalars(int64_t step, double wall_time,
               const std::vector<std::pair<std::string, double>>& values);

  const fs::path& path() const { return path_; }

 private:
  void record(std::string_view event);

  fs::path path_;
  std::ofstream out_;
};

uint32_t crc32c(std::string_view bytes);         // Castagnoli's polynomial (RFC 3720)
uint32_t masked_crc32c(std::string_view bytes);  // rotated and offset, as TFRecord keeps it

}  // namespace inoculum
