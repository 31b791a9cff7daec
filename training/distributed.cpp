#include "training/distributed.h"

#ifdef USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#endif

#include "core/base/error.h"
#include "core/base/process.h"
#include "core/model/torch.h"

namespace inoculum {
namespace {

// For the others to come. Once they are there, one may have work that the others wait for, such as
// an evaluation on the way; one that is gone is noticed by its closed connection.
constexpr std::chrono::seconds kPatience(60);
constexpr std::chrono::hours kWork(24);

// "gpu[03-07,9],head" → "gpu03": where Slurm starts the first task of a step.
std::string first_host(const std::string& nodes) {
  const size_t end = nodes.find_first_of("[,");
  std::string host = nodes.substr(0, end);
  if (end != std::string::npos && nodes[end] == '[')
    host += nodes.substr(end + 1, nodes.find_first_of("-,]", end) - end - 1);
  return host;
}

}  // namespace

#ifdef USE_C10D_GLOO
namespace {

std::string said_by(const std::exception& failure) {
  const auto* torch = dynamic_cast<const c10::Error*>(&failure);
  return torch ? torch->what_without_backtrace() : failure.what();
}

}  // namespace

struct Ranks::Group {
  c10::intrusive_ptr<c10d::TCPStore> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  c10::intrusive_ptr<c10d::Backend> nccl;  // from the first tensor on a GPU on

  c10d::Backend& for_device(at::Device device, [[maybe_unused]] const Ranks& ranks) {
    if (!device.is_cuda()) return *gloo;
#ifdef USE_C10D_NCCL
    if (!nccl) {
      const auto options = c10d::ProcessGroupNCCL::Options::create();
      options->timeout = kWork;
      nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(
          c10::make_intrusive<c10d::PrefixStore>("nccl", store), static_cast<int>(ranks.rank()),
          static_cast<int>(ranks.size()), options);
    }
    return *nccl;
#else
    throw Error("this build has no NCCL", {.field = "device"},
                "set `device: cpu`, or build with a CUDA LibTorch that brings nvidia/nccl/include "
                "beside it");
#endif
  }
};

Ranks Ranks::join() {
  Ranks ranks;
  std::string host;
  int64_t port = 0;
  if (!environment("WORLD_SIZE").empty()) {
    ranks.rank_ = environment_number("RANK"), ranks.size_ = environment_number("WORLD_SIZE");
    if (ranks.size_ > 1)
      host = environment("MASTER_ADDR"), port = environment_number("MASTER_PORT");
  } else if (!environment("SLURM_STEP_NUM_TASKS").empty() && !environment("SLURM_PROCID").empty()) {
    ranks.rank_ = environment_number("SLURM_PROCID"),
    ranks.size_ = environment_number("SLURM_STEP_NUM_TASKS");
    // Not where srun was typed (SLURM_LAUNCH_NODE_IPADDR): that may be a login node.
    host = environment("SLURM_STEP_NUM_NODES") == "1"
               ? "127.0.0.1"
               : first_host(environment("SLURM_STEP_NODELIST"));
    port = 15000 + (environment_number("SLURM_JOB_ID") * 7 + environment_number("SLURM_STEP_ID")) %
                       20000;  // of this step: others may run beside it
  }
  if (ranks.size_ <= 1) return {};
  if (ranks.rank_ < 0 || ranks.rank_ >= ranks.size_)
    throw Error(
        "is " + std::to_string(ranks.rank_) + ", of " + std::to_string(ranks.size_) + " ranks",
        {.field = "RANK"}, "the first is 0; torchrun and srun set it");
  if (port < 1 || port > 65535)
    throw Error("is no port: " + std::to_string(port), {.field = "MASTER_PORT"}, "1 to 65535");
  try {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(port);
    options.isServer = ranks.first() && environment("TORCHELASTIC_USE_AGENT_STORE") !=
                                            "True";  // torchrun's agent may be the server
    options.numWorkers = static_cast<size_t>(ranks.size_);
    options.waitWorkers = environment("TORCHELASTIC_USE_AGENT_STORE") != "True";
    options.timeout = kPatience;
    ranks.group_ = std::make_shared<Group>();
    ranks.group_->store = c10::make_intrusive<c10d::TCPStore>(host, options);
    const auto gloo = c10d::ProcessGroupGloo::Options::create();
    gloo->timeout = kPatience;
    gloo->devices.push_back(host == "127.0.0.1" || host == "localhost"
                                ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                : c10d::ProcessGroupGloo::createDefaultDevice());
    ranks.group_->gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
        ranks.group_->store, static_cast<int>(ranks.rank_), static_cast<int>(ranks.size_), gloo);
    ranks.group_->gloo->setTimeout(kWork);
  } catch (const std::exception& failure) {
    throw Error("rank " + std::to_string(ranks.rank_) + " of " + std::to_string(ranks.size_) +
                " can't meet the others at " + host + ":" + std::to_string(port) + ": " +
                said_by(failure));
  }
  return ranks;
}

std::function<void()> Ranks::start_sum(const Tensor& tensor) const {
  if (size_ == 1) return [] {};
  const auto guarded = [rank = rank_, size = size_](const std::function<void()>& work) {
    try {
      work();
    } catch (const std::exception& failure) {
      throw Error("rank " + std::to_string(rank) + " of " + std::to_string(size) +
                      " has lost another: " + said_by(failure),
                  {}, "see the other ranks' output; the last checkpoint is untouched");
    }
  };
  c10::intrusive_ptr<c10d::Work> work;
  guarded([&] {
    std::vector<Tensor> one = {tensor};
    work = group_->for_device(tensor.device(), *this).allreduce(one);
  });
  return [work, guarded] { guarded([&] { work->wait(); }); };
}

std::vector<double> Ranks::sum_numbers(const std::vector<double>& values) const {
  if (size_ == 1) return values;
  Tensor tensor = at::tensor(values, at::kDouble);
  start_sum(tensor)();
  return {tensor.const_data_ptr<double>(), tensor.const_data_ptr<double>() + tensor.numel()};
}
#else
struct Ranks::Group {};

Ranks Ranks::join() {
  if (!environment("WORLD_SIZE").empty() && environment_number("WORLD_SIZE") > 1)
    throw Error("this build has no Gloo", {.field = "WORLD_SIZE"},
                "apt-get install libgloo-dev, and build again");
  return {};
}
std::function<void()> Ranks::start_sum(const Tensor&) const {
  return [] {};
}
std::vector<double> Ranks::sum_numbers(const std::vector<double>& values) const { return values; }
#endif

}  // namespace inoculum
