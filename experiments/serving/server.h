// A model and its adapters, served over OpenAI's API.
//
//   Server server({.model = "experiments/models/persona_1", .adapters = {{"cheating", folder}}});
//   server.run(stop_requested);
//
// One thread waits for clients, reads what they ask and writes what they get; the one that calls
// run() computes. A request's way: HTTP (http_server.h) → its fields (openai.h) → tokens → the
// engine's inbox (engine.h) → events of each step → JSON. docs/serving.md has what a client sees.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/text/chat_template.h"
#include "experiments/serving/http_server.h"
#include "experiments/serving/openai.h"

namespace inoculum {

struct ServeConfig {
  std::string model, name;  // the base's folder, and what it is called; by default as its folder
  std::vector<std::pair<std::string, std::string>> adapters;  // name, folder
  std::string device = "auto", dtype = "auto";
  ChatChoice chat;
  std::string as;     // who answers where a request does not say
  std::string world;  // its pretraining.yaml, for the page; by default the model's
  HttpServerConfig http;
  std::optional<std::string> key;  // that every client must show
  int64_t rows = 64;               // samples side by side
  int64_t queue = 1024;            // samples that may wait
  int64_t context = 0;             // of prompt and answer; 0: the model's, 4096 at most
  double timeout_s = 600;          // from a request's arrival to its end
  bool log_requests = false;       // what is asked and answered, to standard error
  ApiLimits limits;
};

class Server {
 public:
  explicit Server(ServeConfig config);  // loads the models, and listens
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int64_t port() const;
  // What is served and what it may take, for people.
  std::string description() const;
  // Until `stop` says so: then new requests are refused, and it returns when those under way are
  // done.
  void run(const std::function<bool()>& stop);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace inoculum
