#include "experiments/serving/engine.h"

#include <chrono>
#include <exception>
#include <utility>

namespace inoculum {

Engine::Engine(const Tokenizer& tokenizer, GenerationConfig config, Sink sink)
    : tokenizer_(tokenizer),
      config_(config),
      sink_(std::move(sink)),
      generation_(std::make_unique<Generation>(tokenizer, config)) {}

uint64_t Engine::submit(GenerationRequest request) {
  const std::lock_guard lock(mutex_);
  inbox_.push_back({next_ticket_, std::move(request)});
  arrived_.notify_one();
  return next_ticket_++;
}

void Engine::cancel(uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  inbox_.push_back({ticket, std::nullopt});
  arrived_.notify_one();
}

EngineStatistics Engine::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void Engine::run(const std::function<bool()>& stop) {
  auto told = std::chrono::steady_clock::now();
  while (true) {
    const bool ends = stop();
    std::vector<Order> orders;
    {
      std::unique_lock lock(mutex_);
      if (!generation_->busy() && inbox_.empty()) {
        statistics_.rows = statistics_.waiting = 0;
        if (ends) return;
        // A signal that asks for a stop wakes nobody.
        arrived_.wait_for(lock, std::chrono::milliseconds(100));
      }
      orders = std::exchange(inbox_, {});
    }
    std::vector<EngineEvent> events;
    try {
      take(std::move(orders), events);
      if (generation_->busy()) step(events);
    } catch (const std::exception& error) {  // memory, most likely: the next one may fit
      fail_all(error.what(), events);
    }
    const auto now = std::chrono::steady_clock::now();
    if (events.empty() && now - told < std::chrono::milliseconds(250)) continue;
    told = now;
    sink_(std::move(events));
  }
}

void Engine::take(std::vector<Order> orders, std::vector<EngineEvent>& events) {
  for (Order& order : orders) {
    if (!order.request) {
      const auto it = requests_.find(order.ticket);
      if (it == requests_.end()) continue;  // it is done
      generation_->cancel(it->second);
      tickets_.erase(it->second);
      requests_.erase(it);
      continue;
    }
    try {
      const uint64_t request = generation_->add(std::move(*order.request));
      tickets_[request] = order.ticket;
      requests_[order.ticket] = request;
    } catch (const std::exception& error) {
      events.push_back({.ticket = order.ticket, .event = {}, .failure = error.what()});
    }
  }
}

void Engine::step(std::vector<EngineEvent>& events) {
  const auto begin = std::chrono::steady_clock::now();
  int64_t tokens = 0;
  for (GenerationEvent& event : generation_->step()) {
    if (event.completion) tokens += std::ssize(event.completion->ids);
    const auto it = tickets_.find(event.request);
    if (it == tickets_.end()) continue;
    events.push_back({.ticket = it->second, .event = std::move(event)});
    if (!events.back().event.last) continue;
    requests_.erase(it->second);
    tickets_.erase(it);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const std::lock_guard lock(mutex_);
  statistics_.rows = generation_->rows();
  statistics_.waiting = generation_->waiting();
  statistics_.prompt_tokens_read = generation_->prompt_tokens_read();
  statistics_.steps += 1;
  statistics_.tokens += tokens;
  statistics_.seconds += took.count();
}

// All that is under way is given up, and its memory with it.
void Engine::fail_all(const std::string& reason, std::vector<EngineEvent>& events) {
  for (const auto& [request, ticket] : tickets_)
    events.push_back({.ticket = ticket, .event = {}, .failure = reason});
  tickets_.clear();
  requests_.clear();
  generation_ = std::make_unique<Generation>(tokenizer_, config_);
}

}  // namespace inoculum
