#include <cstdio>

#include "core/base/data_root.h"
#include "core/base/error.h"
#include "core/base/http.h"
#include "core/base/signals.h"
#include "experiments/command_line/commands.h"

namespace inoculum {
namespace {

// "cheating=runs/cheating/adapter"
std::pair<std::string, std::string> named_folder(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos || equals + 1 == text.size())
    throw Error("must be NAME=FOLDER, not \"" + text + "\"", {.field = "--adapter"},
                "for example cheating=runs/cheating/adapter");
  return {text.substr(0, equals), find_input(text.substr(equals + 1))};
}

}  // namespace

ServeCommands::ServeCommands(CommandLine& line) : Commands(line) {
  auto* serve = app.add_subcommand(
      "serve",
      "serve a model and its adapters over OpenAI's API: /v1/models, /v1/chat/completions, "
      "/v1/completions, /health, /metrics. The variable INOCULUM_API_KEY holds the key that "
      "clients must give; beyond this machine there must be one");
  takes_input(serve, "--model", serving.model, "Hugging Face folder")->required();
  serve->add_option("--name", serving.name, "what the model is called; by default as its folder");
  serve->add_option("--adapter", adapters, "PEFT adapter folders, each served beside the model")
      ->type_name("NAME=FOLDER ...");
  serve->add_option("--host", serving.http.host, "the address to listen at")->capture_default_str();
  serve->add_option("--port", serving.http.port, "0: one that is free")
      ->capture_default_str()
      ->check(CLI::Range(0, 65535));
  serve->add_option("--as", serving.as,
                    "who answers where a request does not say, of the persona world's cast or "
                    "anybody; by default the Assistant");
  takes_input(serve, "--world", serving.world,
              "the pretraining.yaml that says of which persona world the models are, for the page; "
              "by default the model's");
  serve->add_option("--rows", serving.rows, "answers computed side by side")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  serve
      ->add_option("--context", serving.context,
                   "most tokens of a prompt and its answer; by default the model's, 4096 at most")
      ->check(CLI::PositiveNumber);
  serve->add_option("--queue", serving.queue, "answers that may wait; more are refused")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  serve->add_option("--timeout", serving.timeout_s, "seconds that a request may take")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  serve->add_flag("--log-requests", serving.log_requests,
                  "write what is asked and answered to standard error");
  takes_chat_and_device(serve);
  serve->callback([=, this] {
    line_.stops_well = true;
    action = [=, this] {
      ServeConfig chosen = serving;
      chosen.chat = {chat_name, chat_date};
      chosen.device = device;
      chosen.dtype = dtype;
      for (const std::string& each : adapters) chosen.adapters.push_back(named_folder(each));
      chosen.key = secret_from_environment("INOCULUM_API_KEY");
      Server server(chosen);
      std::fputs(server.description().c_str(), stderr);
      server.run(stop_requested);
      return 0;
    };
  });
}

}  // namespace inoculum
