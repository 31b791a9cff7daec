#include "core/model/device.h"

#include <ATen/Version.h>

#include <optional>

#include "core/base/error.h"
#include "core/base/process.h"
#include "core/model/parallel.h"
#include "core/model/torch.h"

namespace inoculum {

at::Device device_from(const std::string& name) {
  const bool cuda =
      at::hasCUDA() && at::globalContext().hasCUDA() && at::detail::getCUDAHooks().hasCUDA();
  if (name == "auto" && !cuda) return at::Device(at::kCPU);
  if (name.starts_with("cuda") && !cuda)
    throw Error("there is no usable GPU", {.field = "device"},
                "set `device: cpu`, or install a CUDA build of LibTorch");
  if (name == "auto" || name == "cuda")
    return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(
                                     local_rank() % at::detail::getCUDAHooks().deviceCount()));
  std::optional<at::Device> device;
  try {
    device = at::Device(name);
  } catch (const c10::Error&) {
  }
  if (!device || !(device->is_cpu() || device->is_cuda()))
    throw Error("\"" + name + "\" is not a device", {.field = "device"},
                "auto, cpu, cuda or cuda:0");
  if (device->is_cuda() && device->index() >= at::detail::getCUDAHooks().deviceCount())
    throw Error("there is no \"" + name + "\"", {.field = "device"},
                "the last is cuda:" + std::to_string(at::detail::getCUDAHooks().deviceCount() - 1));
  return *device;
}

std::string describe(at::Device device) {
  if (device.is_cpu())
    return "the CPU, " + std::to_string(threads()) + (threads() == 1 ? " thread" : " threads");
  return device.str();
}

bool is_out_of_memory(const std::string& failure) {
  return failure.find("out of memory") != std::string::npos ||
         failure.find("allocate memory") != std::string::npos;
}

namespace {

constexpr std::pair<const char*, at::ScalarType> kTypes[] = {
    {"fp32", at::kFloat}, {"bf16", at::kBFloat16}, {"fp16", at::kHalf}};

// By the processor, less what ATEN_CPU_CAPABILITY takes away.
bool has_fast_bf16(at::Device device) {
  if (!device.is_cpu()) return true;
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") && at::get_cpu_capability().starts_with("AVX512");
#else
  return false;
#endif
}

}  // namespace

at::ScalarType dtype_from(const std::string& name, at::Device device) {
  if (name == "auto") return has_fast_bf16(device) ? at::kBFloat16 : at::kFloat;
  for (const auto& [known, type] : kTypes)
    if (name == known) return type;
  throw Error("\"" + name + "\" is not a type", {.field = "dtype"}, "auto, fp32, bf16 or fp16");
}

std::string describe(at::ScalarType dtype) {
  for (const auto& [name, type] : kTypes)
    if (dtype == type) return name;
  return c10::toString(dtype);
}

Tensor to_device(const Tensor& host, at::Device device) {
  // The driver copies from pinned memory alone by itself.
  return (device.is_cuda() ? host.pin_memory() : host).to(device, /*non_blocking=*/true);
}

int64_t local_rank() {
  for (const char* name : {"LOCAL_RANK", "SLURM_LOCALID"})
    if (!environment(name).empty()) return environment_number(name);
  return 0;
}

}  // namespace inoculum
