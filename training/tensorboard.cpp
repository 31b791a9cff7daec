#include "training/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>

#include "core/base/error.h"
#include "core/base/process.h"

namespace inoculum {
namespace {

// Protocol buffers: a field is its number and kind, then its value; numbers are in base 128, least
// first.
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes += static_cast<char>(value | 128);
  return bytes + static_cast<char>(value);
}
template <class T>
std::string little_endian(T value) {
  static_assert(std::endian::native == std::endian::little);
  const auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(value);
  return {bytes.data(), bytes.size()};
}
std::string key(uint64_t field, uint64_t kind) { return varint(field << 3 | kind); }
std::string number(uint64_t field, uint64_t value) { return key(field, 0) + varint(value); }
std::string real(uint64_t field, double value) { return key(field, 1) + little_endian(value); }
std::string real32(uint64_t field, float value) { return key(field, 5) + little_endian(value); }
std::string bytes(uint64_t field, const std::string& value) {
  return key(field, 2) + varint(value.size()) + value;
}

// google.protobuf.Value
std::string protobuf_value(const Json& value) {
  if (value.is_boolean()) return number(4, value.get<bool>());
  if (value.is_number()) return real(2, value.get<double>());
  return bytes(3, value.is_string() ? value.get<std::string>() : value.dump());
}

// A summary without data that carries the HParams plugin's message.
std::string hparams_summary(const std::string& tag, const std::string& message) {
  const std::string plugin = bytes(1, "hparams") + bytes(2, message);  // PluginData
  const std::string metadata = bytes(1, plugin);                       // SummaryMetadata
  const std::string tensor = number(1, 1) + bytes(2, "") +
                             real32(5, 0);  // a scalar float, which the plugin wants and ignores
  return bytes(5, bytes(1, bytes(1, tag) + bytes(9, metadata) + bytes(8, tensor)));
}

}  // namespace

uint32_t crc32c(std::string_view text) {
  static const auto table = [] {
    std::array<uint32_t, 256> rows{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t row = i;
      for (int bit = 0; bit < 8; ++bit) row = row >> 1 ^ (row & 1 ? 0x82F63B78u : 0u);
      rows[i] = row;
    }
    return rows;
  }();
  uint32_t crc = ~0u;
  for (const char c : text) crc = table[(crc ^ static_cast<unsigned char>(c)) & 255] ^ crc >> 8;
  return ~crc;
}

uint32_t masked_crc32c(std::string_view text) { return std::rotr(crc32c(text), 15) + 0xA282EAD8u; }

EventFile::EventFile(const fs::path& folder, const Json& hyperparameters) {
  fs::create_directories(folder);
  std::vector<fs::path> before;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().starts_with("events.out.tfevents."))
      before.push_back(entry.path());
  for (const fs::path& file : before) fs::remove(file);
  // A name of its own: readers follow a file by its name.
  char host[256] = "localhost";
  ::gethostname(host, sizeof host - 1);
  const double time = unix_time();
  path_ = folder / ("events.out.tfevents." + std::to_string(static_cast<int64_t>(time * 1000)) +
                    "." + host + "." + std::to_string(::getpid()));
  out_.open(path_, std::ios::binary);
  record(real(1, time) + bytes(3, "brain.Event:2"));
  if (hyperparameters.empty()) return;
  std::string start;
  for (const auto& [name, value] : hyperparameters.items())
    start +=
        bytes(1, bytes(1, name) + bytes(2, protobuf_value(value)));  // SessionStartInfo.hparams
  record(real(1, time) + hparams_summary("_hparams_/session_start_info", bytes(3, start)));
}

void EventFile::scalars(int64_t step, double wall_time,
                        const std::vector<std::pair<std::string, double>>& values) {
  std::string summary;
  for (const auto& [tag, value] : values)
    summary += bytes(1, bytes(1, tag) + real32(2, static_cast<float>(value)));
  record(real(1, wall_time) + number(2, static_cast<uint64_t>(step)) + bytes(5, summary));
}

void EventFile::record(std::string_view event) {
  const std::string length = little_endian(static_cast<uint64_t>(event.size()));
  out_ << length << little_endian(masked_crc32c(length)) << event
       << little_endian(masked_crc32c(event)) << std::flush;
  if (!out_) throw Error("cannot write the events", {.file = path_.string()}, "is the disk full?");
}

}  // namespace inoculum
