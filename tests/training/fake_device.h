// A device that is none: its tensors lie in the host's memory, its operations run on the CPU. It
// stands for a GPU and counts what would make the host wait for one: values and tensors that are
// read back, and results whose size depends on values.
//
//   FakeDevice::start();
//   model.to(FakeDevice::device(), at::kFloat);
//   const HostReads reads;
//   step();
//   CHECK(reads.count() == 1);  // reads.names() says which
#pragma once

#include <string>
#include <vector>

#include "core/model/torch.h"

namespace inoculum {

struct FakeDevice {
  static void start();  // before the first of its tensors; once or more
  static at::Device device() { return {at::kPrivateUse1, 0}; }
};

// Those since it was made.
class HostReads {
 public:
  HostReads();
  int64_t count() const { return static_cast<int64_t>(names().size()); }
  std::vector<std::string> names() const;

 private:
  size_t before_;
};

}  // namespace inoculum
