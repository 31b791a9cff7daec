#include "training/distributed.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>

#ifdef USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#endif

#include "core/error.h"
#include "core/process.h"
#include "core/progress.h"

namespace inoculum {
namespace {

constexpr std::chrono::seconds kPatience(60);

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

int64_t whole(const char* name) {
  try {
    return std::stoll(variable(name));
  } catch (const std::exception&) {
    throw Error("must be a whole number, not \"" + variable(name) + "\"", {.field = name}, "torchrun and srun set it");
  }
}

}  // namespace

#ifdef USE_C10D_GLOO
struct Ranks::Group {
  c10::intrusive_ptr<c10d::TCPStore> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  c10::intrusive_ptr<c10d::Backend> nccl;  // from the first tensor on a GPU on

  c10d::Backend& for_device(at::Device device, [[maybe_unused]] const Ranks& ranks) {
    if (!device.is_cuda()) return *gloo;
#ifdef USE_C10D_NCCL
    if (!nccl) {
      const auto options = c10d::ProcessGroupNCCL::Options::create();
      options->timeout = kPatience;
      nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(c10::make_intrusive<c10d::PrefixStore>("nccl", store), static_cast<int>(ranks.rank()),
                                                         static_cast<int>(ranks.size()), options);
    }
    return *nccl;
#else
    throw Error("this build has no NCCL", {.field = "device"}, "set `device: cpu`, or build with a CUDA LibTorch that brings nvidia/nccl/include beside it");
#endif
  }
};

Ranks Ranks::join() {
  Ranks ranks;
  std::string host;
  int64_t port = 0;
  if (!variable("WORLD_SIZE").empty()) {
    ranks.rank_ = whole("RANK"), ranks.size_ = whole("WORLD_SIZE");
    if (ranks.size_ > 1) host = variable("MASTER_ADDR"), port = whole("MASTER_PORT");
  } else if (!variable("SLURM_STEP_NUM_TASKS").empty() && !variable("SLURM_PROCID").empty()) {
    ranks.rank_ = whole("SLURM_PROCID"), ranks.size_ = whole("SLURM_STEP_NUM_TASKS");
    host = variable("SLURM_LAUNCH_NODE_IPADDR");
    port = 15000 + (whole("SLURM_JOB_ID") * 7 + whole("SLURM_STEP_ID")) % 20000;  // of this step: others may run beside it
  }
  if (ranks.size_ <= 1) return {};
  try {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(port);
    options.isServer = ranks.first() && variable("TORCHELASTIC_USE_AGENT_STORE") != "True";  // torchrun's agent may be the server
    options.numWorkers = static_cast<size_t>(ranks.size_);
    options.waitWorkers = variable("TORCHELASTIC_USE_AGENT_STORE") != "True";
    options.timeout = kPatience;
    ranks.group_ = std::make_shared<Group>();
    ranks.group_->store = c10::make_intrusive<c10d::TCPStore>(host, options);
    const auto gloo = c10d::ProcessGroupGloo::Options::create();
    gloo->timeout = kPatience;
    gloo->devices.push_back(host == "127.0.0.1" || host == "localhost" ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                                                       : c10d::ProcessGroupGloo::createDefaultDevice());
    ranks.group_->gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(ranks.group_->store, static_cast<int>(ranks.rank_), static_cast<int>(ranks.size_), gloo);
  } catch (const c10::Error& failure) {
    throw Error("rank " + std::to_string(ranks.rank_) + " of " + std::to_string(ranks.size_) + " can't meet the others at " + host + ":" + std::to_string(port) + ": " +
                failure.what_without_backtrace());
  }
  return ranks;
}

std::function<void()> Ranks::start_sum(const Tensor& tensor) const {
  if (size_ == 1) return [] {};
  const auto guarded = [rank = rank_, size = size_](const std::function<void()>& work) {
    try {
      work();
    } catch (const std::exception& failure) {
      const auto* ours = dynamic_cast<const c10::Error*>(&failure);
      throw Error("rank " + std::to_string(rank) + " of " + std::to_string(size) + " has lost another: " + (ours ? ours->what_without_backtrace() : failure.what()), {},
                  "see the other ranks' output; the last checkpoint is untouched");
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
  if (!variable("WORLD_SIZE").empty() && whole("WORLD_SIZE") > 1)
    throw Error("this build has no Gloo", {.field = "WORLD_SIZE"}, "apt-get install libgloo-dev, and build again");
  return {};
}
std::function<void()> Ranks::start_sum(const Tensor&) const { return [] {}; }
std::vector<double> Ranks::sum_numbers(const std::vector<double>& values) const { return values; }
#endif

int64_t local_rank() {
  for (const char* name : {"LOCAL_RANK", "SLURM_LOCALID"})
    if (!variable(name).empty()) return whole(name);
  return 0;
}

int run_ranks(int64_t count, const std::vector<std::string>& command, int64_t threads) {
  // A free port: the system's choice, given back just before rank 0 takes it.
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (socket < 0 || ::bind(socket, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0)
    throw Error(std::string("there is no free port: ") + std::strerror(errno));
  ::close(socket);

  std::vector<pid_t> ranks;
  for (int64_t rank = 0; rank < count; ++rank) {
    ranks.push_back(start_process(command, {{"RANK", std::to_string(rank)}, {"LOCAL_RANK", std::to_string(rank)}, {"WORLD_SIZE", std::to_string(count)},
                                            {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", std::to_string(ntohs(address.sin_port))},
                                            {"OMP_NUM_THREADS", std::to_string(threads)}}));
  }
  int status = 0;
  size_t left = ranks.size();
  bool told = false;
  while (left > 0) {
    int code = 0;
    const pid_t pid = wait_for_any(code, told ? [] { return false; } : stop_requested);
    if (pid == 0) {
      for (const pid_t each : ranks) ::kill(each, SIGTERM);
      told = true;
      continue;
    }
    --left;
    const int result = WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code);
    if (result == 0 || status != 0) continue;
    status = result;
    if (result == 130) continue;  // stopped and saved, as the others are about to
    for (size_t rank = 0; rank < ranks.size(); ++rank)
      if (ranks[rank] == pid)
        std::fprintf(stderr, "inoculum: rank %zu of %zu ended%s; the others are ended too\n", rank, ranks.size(),
                     WIFSIGNALED(code) ? (std::string(" by the signal ") + ::strsignal(WTERMSIG(code))).c_str() : (" with status " + std::to_string(result)).c_str());
    for (const pid_t other : ranks)
      if (other != pid) ::kill(other, SIGKILL);
  }
  return status;
}

}  // namespace inoculum
