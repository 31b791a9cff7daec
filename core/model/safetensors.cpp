#include "core/model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "core/base/error.h"

namespace inoculum {
namespace {

constexpr uint64_t kLongestHeader = 100'000'000;

const std::map<std::string, uint64_t> kBits = {
    {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"BOOL", 8},    {"U8", 8},
    {"I8", 8},          {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"I64", 64},    {"U64", 64},
    {"F64", 64},        {"C64", 64}};

// Parses the header and refuses a key that stands in it twice, which a plain parse would let pass.
Json parse_header(std::string_view text, const fs::path& path) {
  refuse_deep_json(text, {.file = path.string()});
  DoubleKeys keys;
  const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
    if (keys.found(event, parsed))
      throw Error("the header has the key \"" + keys.key() + "\" twice", {.file = path.string()});
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::exception& failure) {
    throw Error("the header is not JSON", {.file = path.string()}, failure.what());
  }
}

[[noreturn]] void fail(const fs::path& file, const std::string& what,
                       const std::string& hint = "the file is damaged; copy or download it again") {
  throw Error(what, {.file = file.string()}, hint);
}

// The header follows its length, 8 bytes with the lowest first.
std::string_view header_of(std::span<const std::byte> file, const fs::path& path) {
  if (file.size() < 8) fail(path, "the file is shorter than its 8-byte length field");
  uint64_t size = 0;
  for (size_t i = 0; i < 8; ++i) size |= std::to_integer<uint64_t>(file[i]) << (8 * i);
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  refuse_lfs_pointer(text, path);
  if (size > kLongestHeader)
    fail(path,
         "the header claims " + std::to_string(size) + " bytes, more than the format's 100 MB");
  if (size > file.size() - 8) fail(path, "the file ends inside its header");
  return text.substr(8, size);
}

std::map<std::string, std::string> metadata_of(const Json& entry, const fs::path& path) {
  if (!entry.is_object()) fail(path, "__metadata__ is not an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : entry.items()) {
    if (!value.is_string()) fail(path, "__metadata__." + key + " is not a text");
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

TensorView tensor_of(const std::string& name, const Json& entry, std::span<const std::byte> data,
                     const fs::path& path) {
  const std::string which = "tensor \"" + name + "\"";
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() ||
      !entry.contains("shape") || !entry["shape"].is_array() || !entry.contains("data_offsets") ||
      !entry["data_offsets"].is_array() || entry["data_offsets"].size() != 2)
    fail(path, which + " lacks dtype, shape or data_offsets");
  TensorView view;
  view.dtype = entry["dtype"].get<std::string>();
  const auto type = kBits.find(view.dtype);
  if (type == kBits.end())
    fail(path, which + " has the unknown type " + view.dtype,
         "take the weights in F32, BF16 or F16");
  uint64_t bits = type->second;
  for (const Json& extent : entry["shape"]) {
    if (!extent.is_number_unsigned()) fail(path, which + " has a shape that is not whole numbers");
    if (extent.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()} ||
        __builtin_mul_overflow(bits, extent.get<uint64_t>(), &bits))
      fail(path, which + " has a shape too large to be true");
    view.shape.push_back(extent.get<int64_t>());
  }
  if (bits % 8 != 0) fail(path, which + " ends within a byte");
  const Json &first = entry["data_offsets"][0], &last = entry["data_offsets"][1];
  if (!first.is_number_unsigned() || !last.is_number_unsigned())
    fail(path, which + " has offsets that are not whole numbers");
  const auto begin = first.get<uint64_t>(), end = last.get<uint64_t>();
  if (begin > end || end > data.size()) fail(path, which + " reaches beyond the end of the file");
  if (end - begin != bits / 8)
    fail(path, which + " has " + std::to_string(end - begin) + " bytes where its shape needs " +
                   std::to_string(bits / 8));
  view.data = data.subspan(begin, bits / 8);
  return view;
}

// Every byte of the data belongs to one tensor.
void check_coverage(const std::map<std::string, TensorView>& tensors,
                    std::span<const std::byte> data, const fs::path& path) {
  std::vector<std::pair<std::ptrdiff_t, std::ptrdiff_t>> extents;
  for (const auto& [name, view] : tensors) {
    const std::ptrdiff_t begin = view.data.data() - data.data();
    extents.emplace_back(begin, begin + std::ssize(view.data));
  }
  std::sort(extents.begin(), extents.end());
  std::ptrdiff_t at = 0;
  for (const auto& [begin, end] : extents) {
    if (begin < at) fail(path, "two tensors overlap in the data");
    if (begin > at) fail(path, "there is a hole in the data");
    at = end;
  }
  if (at != std::ssize(data)) fail(path, "the data go on beyond the last tensor");
}

}  // namespace

Safetensors::Safetensors(const fs::path& path) : path_(path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0)
    throw Error(std::string("cannot read: ") + std::strerror(errno), {.file = path.string()});
  const auto size = static_cast<size_t>(status.st_size);
  void* at = size == 0 ? MAP_FAILED
                       : ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file.get(), 0);
  if (at == MAP_FAILED)
    throw Error("the file is empty or cannot be mapped", {.file = path.string()});
  mapped_ = {static_cast<const std::byte*>(at), size};
  try {
    parse();
  } catch (...) {
    ::munmap(at, size);
    throw;
  }
}

Safetensors::~Safetensors() { ::munmap(const_cast<std::byte*>(mapped_.data()), mapped_.size()); }

void Safetensors::parse() {
  const std::string_view text = header_of(mapped_, path_);
  const Json header = parse_header(text, path_);
  if (!header.is_object()) fail(path_, "the header is not a JSON object");
  const std::span<const std::byte> data = mapped_.subspan(8 + text.size());
  for (const auto& [name, entry] : header.items())
    if (name == "__metadata__") metadata_ = metadata_of(entry, path_);
    else tensors_[name] = tensor_of(name, entry, data, path_);
  check_coverage(tensors_, data, path_);
}

std::vector<std::shared_ptr<Safetensors>> load_sharded(const fs::path& folder) {
  std::vector<std::shared_ptr<Safetensors>> shards;
  const fs::path single = folder / "model.safetensors",
                 index_file = folder / "model.safetensors.index.json";
  if (fs::exists(single) || !fs::exists(index_file)) {
    if (!fs::exists(single))
      throw Error("there are no weights here", {.file = folder.string()},
                  "expected model.safetensors or model.safetensors.index.json");
    shards.push_back(std::make_shared<Safetensors>(single));
    return shards;
  }
  const Json index = read_json(index_file);
  if (!index.contains("weight_map") || !index["weight_map"].is_object())
    throw Error("is missing", {.file = index_file.string(), .field = "weight_map"});
  std::map<std::string, const Safetensors*> by_name;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    if (!shard.is_string())
      throw Error("must name a file",
                  {.file = index_file.string(), .field = "weight_map." + tensor});
    const auto name = shard.get<std::string>();
    if (fs::path(name).filename() != name)
      throw Error("the shard \"" + name + "\" is not a plain file name",
                  {.file = index_file.string(), .field = tensor});
    if (!by_name.contains(name)) {
      if (!fs::exists(folder / name))
        throw Error("the shard \"" + name + "\" is missing", {.file = index_file.string()},
                    "download it into " + folder.string());
      by_name[name] = shards.emplace_back(std::make_shared<Safetensors>(folder / name)).get();
    }
    if (!by_name[name]->tensors().contains(tensor))
      throw Error("the index says that \"" + name + "\" holds the tensor \"" + tensor +
                      "\", but it does not",
                  {.file = index_file.string()});
  }
  return shards;
}

void write_safetensors(const fs::path& path, const std::map<std::string, TensorView>& tensors) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {offset, offset + tensor.data.size()}}};
    offset += tensor.data.size();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // so that the data begin on a multiple of 8
  std::string length;
  for (size_t i = 0; i < 8; ++i) length += static_cast<char>(uint64_t{text.size()} >> (8 * i));
  std::vector<std::string_view> parts = {length, text};
  for (const auto& [name, tensor] : tensors)
    parts.emplace_back(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  write_file(path, parts);
}

}  // namespace inoculum
