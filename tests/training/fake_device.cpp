#include "tests/training/fake_device.h"

#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>
#include <mutex>
#include <set>

namespace inoculum {
namespace {

std::mutex mutex;
std::vector<std::string> reads;    // all so far
thread_local bool inside = false;  // a fallback: its copies are the fake's own, not the program's

void read_back(const std::string& name) {
  const std::lock_guard lock(mutex);
  reads.push_back(name);
}

struct Inside {
  bool before = std::exchange(inside, true);
  ~Inside() { inside = before; }
};

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* const data = std::malloc(std::max<size_t>(bytes, 1));
    return {data, data, &std::free, FakeDevice::device()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
} allocator;

const c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator, kKeys, type.value_or(at::kFloat), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride,
                     std::optional<at::ScalarType> type, std::optional<at::Layout>,
                     std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator, kKeys,
                                           type.value_or(at::kFloat));
}

Tensor on_host(const Tensor& x) {
  return x.is_cpu() ? x
                    : at::from_blob(x.data_ptr(), x.sizes(), x.strides(),
                                    x.options().device(at::kCPU).requires_grad(false));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  if (!inside && to.is_cpu()) read_back("copy to the host");
  on_host(to).copy_(on_host(from));
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  if (from.sizes() != to.sizes()) {
    at::TensorImpl* const impl = to.unsafeGetTensorImpl();
    impl->set_storage_keep_dtype(
        at::detail::empty_generic(from.sizes(), &allocator, kKeys, to.scalar_type(), std::nullopt)
            .storage());
    impl->set_storage_offset(0);
    impl->set_sizes_contiguous(from.sizes());
  }
  return copy_from(from, to, false);
}

at::Scalar local_scalar_dense(const Tensor& x) {
  if (!inside) read_back("item");
  return on_host(x).item();
}

// Operations whose result's size depends on values, or that return a value of the host.
bool waits(const c10::FunctionSchema& schema) {
  static const std::set<std::string> by_value = {"aten::nonzero", "aten::masked_select",
                                                 "aten::_unique2", "aten::bincount",
                                                 "aten::repeat_interleave"};
  for (const c10::Argument& result : schema.returns())
    if (!result.type()->isSubtypeOf(*c10::TensorType::get()) &&
        !result.type()->isSubtypeOf(*c10::ListType::ofTensors()))
      return true;
  return by_value.contains(schema.name());
}

void fallback(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  if (!inside && waits(operation.schema())) read_back(operation.schema().name());
  const Inside guard;
  at::native::cpu_fallback(operation, stack);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_local_scalar_dense", &local_scalar_dense);
  library.impl("as_strided", [](const Tensor& x, at::IntArrayRef size, at::IntArrayRef stride,
                                std::optional<int64_t> offset) {
    return at::native::as_strided_tensorimpl(x, size, stride, offset);
  });
  library.impl("_reshape_alias", [](const Tensor& x, at::IntArrayRef size, at::IntArrayRef stride) {
    return at::native::_reshape_alias(x, size, stride);
  });
  library.impl("view",
               [](const Tensor& x, at::IntArrayRef size) { return at::native::view(x, size); });
}

struct Guard final : c10::impl::NoOpDeviceGuardImpl<at::kPrivateUse1> {
  at::Device exchangeDevice(at::Device) const override { return FakeDevice::device(); }
  at::Device getDevice() const override { return FakeDevice::device(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  static c10::Stream only() { return c10::Stream(c10::Stream::DEFAULT, FakeDevice::device()); }
  c10::Stream getStream(at::Device) const noexcept override { return only(); }
  c10::Stream getDefaultStream(at::Device) const override { return only(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return only(); }
  // Its one stream is in order by itself.
  void record(void**, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  void synchronizeStream(const c10::Stream&) const override { read_back("synchronize"); }
  void synchronizeEvent(void*) const override { read_back("synchronize"); }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};

}  // namespace

void FakeDevice::start() {
  static Hooks hooks;
  static const bool once = [] {
    c10::register_privateuse1_backend("fake");
    at::RegisterPrivateUse1HooksInterface(&hooks);
    return true;
  }();
  static_cast<void>(once);
}

HostReads::HostReads() {
  const std::lock_guard lock(mutex);
  before_ = reads.size();
}

std::vector<std::string> HostReads::names() const {
  const std::lock_guard lock(mutex);
  return {reads.begin() + static_cast<std::ptrdiff_t>(before_), reads.end()};
}

}  // namespace inoculum
