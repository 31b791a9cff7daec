// Devices, number types and memory, by the names that configurations give them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/model/declarations.h"

namespace inoculum {

// auto | cpu | cuda | cuda:N. auto and cuda: the GPU of this process's number among the ranks on
// this machine.
at::Device device_from(const std::string& name);
std::string describe(at::Device device);  // "cuda:0", "the CPU, 2 threads"
// fp32 | bf16 | fp16 | auto: bf16 where the device multiplies it at its full speed, else fp32. A
// processor without instructions for bf16 takes up to a hundred times as long in it.
at::ScalarType dtype_from(const std::string& name, at::Device device);
inline const std::vector<std::string> kDtypeNames = {"auto", "bf16", "fp32", "fp16"};
inline const std::string kDtypeHelp =
    "auto (bf16 where the device is fast in it, else fp32) | bf16 | fp32 | fp16";
std::string describe(at::ScalarType dtype);  // "bf16"

// A tensor of the host on `device`. The host does not wait until a GPU has it.
Tensor to_device(const Tensor& host, at::Device device);

// Of the ranks on this machine, by torchrun's or Slurm's variable; alone 0. Each takes the GPU of
// its number.
int64_t local_rank();

bool is_out_of_memory(const std::string& failure);  // whether these words of LibTorch say so

}  // namespace inoculum
