#include "experiments/command_line/commands.h"

#include <fmt/format.h>

#include <cstdio>

#include "core/base/data_root.h"
#include "core/base/process.h"
#include "core/base/stages.h"
#include "core/model/device.h"
#include "core/model/parallel.h"
#include "experiments/reports/table.h"
#include "training/local_ranks.h"

namespace inoculum {

int print(const Json& json) {
  std::printf("%s\n", json.dump(2).c_str());
  return 0;
}

void print_stages() {
  const std::vector<StageTime> stages = stage_times();
  if (stages.empty()) return;  // nothing was left to do
  double all = 0;
  for (const StageTime& each : stages) all += each.seconds;
  Table table{{"stage", "seconds", "share", "times"}, {}};
  for (const StageTime& each : stages)
    table.rows.push_back({{each.name},
                          {fmt::format("{:.1f}", each.seconds)},
                          {fmt::format("{:.0f}%", 100 * each.seconds / all)},
                          {std::to_string(each.times)}});
  std::fflush(stdout);  // both may go into one file
  std::fprintf(stderr, "\nWhere the time went, summed over what ran side by side:\n%s",
               to_text(table, "  ").c_str());
}

int finish(Outcome outcome, const std::string& output) {
  if (outcome == Outcome::stopped) {
    std::fprintf(stderr,
                 "stopped; what is done is saved in %s. The same command goes on from there.\n",
                 output.c_str());
    return kStopped;
  }
  std::fprintf(stderr,
               outcome == Outcome::already_done
                   ? "%s is done already; name another `output` or remove it to run again\n"
                   : "done: %s\n",
               output.c_str());
  return 0;
}

void refuse_over_input(const std::string& output, const std::string& input) {
  std::error_code missing;
  if (fs::equivalent(output, input, missing))
    throw Error(output + " is what is read, and would be lost", {.field = "--output"},
                "name another file");
}

CLI::Option* Commands::takes_input(CLI::App* command, const std::string& name, std::string& path,
                                   const std::string& what) {
  path = find_input(path);
  const auto find = [](std::string& given) {
    given = find_input(given);
    return std::string();
  };
  CLI::Option* option = command->add_option(name, path, what)->transform(CLI::Validator(find, ""));
  return path.empty() ? option : option->capture_default_str();
}

void Commands::takes_config(CLI::App* command, const std::string& example) {
  takes_input(command, "CONFIG", config, "configuration file, such as " + example)->required();
  takes_overrides(command, "such as optimizer.lr=1e-4");
}

// CLI11 lets no name hold a "=" from 2.4 on, so help shows what an override looks like as its type.
void Commands::takes_overrides(CLI::App* command, const std::string& what) {
  command->add_option("OVERRIDES", overrides, what)->type_name("KEY=VALUE");
}

void Commands::takes_model(CLI::App* command) {
  takes_input(command, "--model", model, "Hugging Face folder")->required();
  takes_input(command, "--adapter", adapter, "PEFT adapter folder");
  takes_chat_and_device(command);
}

void Commands::takes_chat_and_device(CLI::App* command) {
  command->add_option("--chat-template", chat_name, kChatTemplateHelp);
  command->add_option("--chat-date", chat_date, kChatDateHelp);
  command->add_option("--device", device, "auto | cpu | cuda")->capture_default_str();
  command->add_option("--dtype", dtype, kDtypeHelp)->capture_default_str();
}

void Commands::takes_ranks(CLI::App* command) {
  command
      ->add_option("--nproc", nproc,
                   "processes on this machine that train together; torchrun and srun work too")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
}

void Commands::takes_json(CLI::App* command) {
  command->add_flag("--json", json, "print JSON rather than a table");
}

void Commands::takes_profile(CLI::App* command) {
  command->add_flag("--profile", line_.profile, "say at the end where the time went");
}

int Commands::as_ranks(const std::string& folder,
                       const std::function<Outcome(const Ranks&)>& train) const {
  if (nproc > 1 && environment("WORLD_SIZE").empty()) {
    std::vector<std::string> words = line_.words;
    words[0] = this_program();
    return run_ranks(nproc, words, std::max<int64_t>(1, threads() / nproc));
  }
  const Ranks ranks = Ranks::join();
  const Outcome outcome = train(ranks);
  return ranks.first() ? finish(outcome, folder) : outcome == Outcome::stopped ? kStopped : 0;
}

}  // namespace inoculum
