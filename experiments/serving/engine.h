// Generation behind an inbox: any thread submits and cancels, one thread computes.
//
//   Engine engine(tokenizer, {.rows = 64}, [&](std::vector<EngineEvent> events) { … });
//   const uint64_t ticket = engine.submit({.model = &model, .prompt = ids, .random = stream});
//   engine.run(stop_requested);  // in the thread that computes
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/model/generation.h"

namespace inoculum {

// What a step brought to the request of a ticket, or why none of it will come.
struct EngineEvent {
  uint64_t ticket;
  GenerationEvent event;
  std::string failure = {};
};

struct EngineStatistics {
  int64_t rows = 0, waiting = 0;  // samples under way, and in the queue
  int64_t steps = 0, tokens = 0;  // tokens that ended up in answers
  int64_t prompt_tokens_read = 0;
  double seconds = 0;  // of the steps
};

class Engine {
 public:
  // The events of each step, for the thread that computes to pass on; now and then none, so that
  // whoever waits can look at the time.
  using Sink = std::function<void(std::vector<EngineEvent>)>;

  Engine(const Tokenizer& tokenizer, GenerationConfig config, Sink sink);

  uint64_t submit(GenerationRequest request);
  void cancel(uint64_t ticket);
  EngineStatistics statistics() const;
  // Until `stop`, which is asked before every step, says so and all that was submitted is done.
  void run(const std::function<bool()>& stop);

 private:
  struct Order {
    uint64_t ticket;
    std::optional<GenerationRequest> request;  // nothing: cancels
  };
  void take(std::vector<Order> orders, std::vector<EngineEvent>& events);
  void step(std::vector<EngineEvent>& events);
  void fail_all(const std::string& reason, std::vector<EngineEvent>& events);

  const Tokenizer& tokenizer_;
  const GenerationConfig config_;
  const Sink sink_;
  std::unique_ptr<Generation> generation_;
  std::map<uint64_t, uint64_t> tickets_, requests_;  // by the generation's number, and the reverse

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable arrived_;
  std::vector<Order> inbox_;
  uint64_t next_ticket_ = 0;
  EngineStatistics statistics_;
};

}  // namespace inoculum
