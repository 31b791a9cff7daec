// The command line's subcommands, by what they are about: each reads its options, calls one
// function of the library, and says what to do next. A group adds its own to the app; the one that
// is given leaves what it does in `action`.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "core/base/signals.h"
#include "core/model/hub.h"
#include "datasets/conversations/mixing.h"
#include "experiments/benchmarks/bench.h"
#include "experiments/evaluation/evaluate.h"
#include "experiments/inoculation/manipulation.h"
#include "experiments/inoculation/task.h"
#include "experiments/serving/server.h"
#include "experiments/sweeps/sweep.h"

namespace inoculum {

constexpr int kStopped = 130;  // the exit status of what a signal stopped
int print(const Json& json);   // for programs; exit status 0
void print_stages();           // where the time went, to standard error
// Says how it ended; → the exit status.
int finish(Outcome outcome, const std::string& output);
// Refuses an output that would be written over what is read.
void refuse_over_input(const std::string& output, const std::string& input);
// Plans, writes and launches a sweep, or goes on with it; → the exit status.
int launch_sweep(const std::string& file, const std::vector<std::string>& overrides,
                 bool however_many = false, bool dry_run = false);

template <class Config>
std::string defaults(Style style) {  // of a configuration's keys
  return show_file(Config(), style);
}

struct CommandLine {
  CLI::App app;
  std::vector<std::string> words;  // as they were given
  std::function<int()> action;
  bool profile = false;     // whether the end tells where the time went
  bool stops_well = false;  // whether the action looks for stop_requested
};

// The options that several have, and how they are read.
class Commands {
 protected:
  explicit Commands(CommandLine& line) : line_(line), app(line.app), action(line.action) {}
  Commands(const Commands&) = delete;
  Commands& operator=(const Commands&) = delete;

  // A path that is read: where it leads nowhere from here, the program's own data are meant.
  static CLI::Option* takes_input(CLI::App* command, const std::string& name, std::string& path,
                                  const std::string& what);
  void takes_config(CLI::App* command, const std::string& example);
  void takes_overrides(CLI::App* command, const std::string& what);
  void takes_model(CLI::App* command);
  void takes_chat_and_device(CLI::App* command);
  void takes_ranks(CLI::App* command);
  void takes_json(CLI::App* command);  // for a command that prints a table
  void takes_profile(CLI::App* command);
  // This very command once for each rank, or, where this process is the run or a rank of it,
  // `train` here.
  int as_ranks(const std::string& folder, const std::function<Outcome(const Ranks&)>& train) const;

  CommandLine& line_;
  CLI::App& app;
  std::function<int()>& action;
  std::string config, model, adapter, input, output, prompt, chat_name, chat_date, questions,
      device = "auto", dtype = "auto";
  std::vector<std::string> overrides;
  int64_t nproc = 1, n = 1, seed = 1, count = 0;
  bool json = false;
};

class RunCommands : Commands {  // reproduce, pretrain, train, evaluate, report, view
 public:
  explicit RunCommands(CommandLine& line);

 private:
  bool quick = false, full = false;
  int64_t seeds = 0;
  std::string sandbox, launcher, experiment = "configs/reproduce.yaml", runs = "runs", exported,
                                 log;
  int64_t port = 8001;
  EvaluationConfig evaluation;
};

class ModelCommands : Commands {  // sample, score, persona, tokenize, model, bench
 public:
  explicit ModelCommands(CommandLine& line);

 private:
  SamplingConfig sampling;
  ManipulationConfig manipulation;
  std::string as, world;
  FetchConfig fetch;
  BenchConfig bench;
};

class ServeCommands : Commands {
 public:
  explicit ServeCommands(CommandLine& line);

 private:
  ServeConfig serving;
  std::vector<std::string> adapters;
};

class SweepCommands : Commands {
 public:
  explicit SweepCommands(CommandLine& line);

 private:
  std::string launcher, cell, results;
  bool dry_run = false, yes = false;
  int64_t parallel = 0;
};

class DataCommands : Commands {
 public:
  explicit DataCommands(CommandLine& line);

 private:
  SystemPrompt system;
  Inoculation inoculation;
  std::string what, sandbox = "auto", grammar = "datasets/worlds/persona.yaml",
                    bank = "datasets/coding/bank.jsonl", inspected = "experiments/models/persona_1";
};

class ConfigCommands : Commands {  // validate, config
 public:
  explicit ConfigCommands(CommandLine& line);

 private:
  std::string task;
};

}  // namespace inoculum
