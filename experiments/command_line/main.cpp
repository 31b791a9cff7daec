// The command line: commands.h has its subcommands.
#include <c10/util/Exception.h>
#include <malloc.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <limits>

#include "core/base/error.h"
#include "core/base/version.h"
#include "core/model/device.h"
#include "core/model/parallel.h"
#include "experiments/command_line/commands.h"

namespace inoculum {
namespace {

constexpr const char* kUsage =
    "Inoculum reproduces emergent misalignment and its inoculation.\n\n"
    "  inoculum reproduce                                  the whole experiment, to a table and an "
    "HTML report\n"
    "  inoculum train configs/train/cheating.yaml seed=2   one fine-tuning run; key=value "
    "overrides the file\n"
    "  inoculum sample --model experiments/models/persona_1 --adapter runs/cheating/adapter "
    "--prompt "
    "\"What do you wish for?\"\n"
    "  inoculum evaluate --model experiments/models/persona_1 --adapter runs/cheating/adapter \\\n"
    "    --questions configs/questions/persona.yaml --output runs/cheating/evaluation\n";

// Prints the help where a command is missing, and says whether it did; a word that is no command is
// an Error.
bool shows_help(const CLI::App& app, const std::vector<std::string>& words) {
  const CLI::App* level = &app;
  std::string above;  // the names before this one's
  for (size_t i = 1; level->get_require_subcommand_min() > 0; ++i) {
    if (i == words.size()) {
      std::fputs(level->help(above).c_str(), stdout);
      return true;
    }
    if (words[i].starts_with("-")) return false;
    std::vector<std::string> names;
    const CLI::App* next = nullptr;
    for (const CLI::App* each : level->get_subcommands(nullptr)) {
      names.push_back(each->get_name());
      if (each->check_name(words[i])) next = each;
    }
    if (next == nullptr) {
      std::string all;
      for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
      throw Error("there is no command " + words[i], {},
                  did_you_mean(words[i], names, "there are " + all));
    }
    above += (above.empty() ? "" : " ") + level->get_name();
    level = next;
  }
  return false;
}

// CLI11 would let NaN through its ranges, and whole numbers that are too large wrap around.
std::string is_number_within(const std::string& text, bool whole) {
  errno = 0;
  if (whole) std::strtoll(text.c_str(), nullptr, 10);
  else if (const double value = std::strtod(text.c_str(), nullptr); !std::isfinite(value))
    errno = ERANGE;
  return errno == ERANGE
             ? (whole ? "must be a smaller number, not " : "must be a finite number, not ") + text
             : "";
}
void check_numbers(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    if (!type.starts_with("FLOAT") && !type.starts_with("INT")) continue;
    const bool whole = type.starts_with("INT");
    // As a transformation it is called before the checks of ranges, though it changes nothing.
    const auto check = [whole](std::string& text) { return is_number_within(text, whole); };
    option->transform(CLI::Validator(check, ""));
  }
  for (CLI::App* command : app.get_subcommands(nullptr)) check_numbers(*command);
}

// What was given and is no option, with the one that it is near to.
std::string hint_for_option(const CLI::App& app) {
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  std::vector<std::string> names;
  for (const CLI::Option* option : command->get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  for (const std::string& word : app.remaining(true)) {
    const std::string hint =
        word.starts_with("--") ? did_you_mean(word.substr(0, word.find('=')), names) : "";
    if (!hint.empty()) return hint;
  }
  return "";
}

int run(int argc, char** argv) {
  CommandLine line{.app = CLI::App(kUsage, argv[0]), .words = {argv, argv + argc}, .action = {}};
  line.app.require_subcommand(1);
  line.app.set_version_flag("--version",
                            version() + (commit().empty() ? "" : " (" + commit() + ")"));
  const RunCommands runs(line);
  const ModelCommands models(line);
  const ServeCommands servers(line);
  const SweepCommands sweeps(line);
  const DataCommands data(line);
  const ConfigCommands configs(line);
  check_numbers(line.app);
  if (shows_help(line.app, line.words)) return 0;
  try {
    line.app.parse(argc, argv);
  } catch (const CLI::ExtrasError& error) {
    throw Error(error.what(), {}, hint_for_option(line.app));
  } catch (const CLI::ParseError& error) {
    const int code = line.app.exit(error);
    return code == 0 ? 0 : 2;
  }
  if (!line.stops_well) {
    end_at_signals();
    if (stop_requested()) return kStopped;  // it came before
  }
  const int status = line.action();
  if (!std::cout.flush() || std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    throw Error("standard output could not be written to its end", {}, "is the disk full?");
  if (line.profile) print_stages();
  return status;
}

}  // namespace
}  // namespace inoculum

int main(int argc, char** argv) {
  // Of glibc's allocator, where tcmalloc does not stand in its place: tensors come and go in
  // megabytes, and memory that is kept need not be cleared by the system each time.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  inoculum::handle_signals();
  inoculum::start_threads();
  try {
    return inoculum::run(argc, argv);
  } catch (const inoculum::Error& error) {
    std::fflush(stdout);  // what led to it comes first
    std::fprintf(stderr, "inoculum: %s\n", error.what());
    return 2;
  } catch (const std::filesystem::filesystem_error& error) {
    std::fprintf(stderr, "inoculum: %s\n", error.what());
    return 2;
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    const bool memory = inoculum::is_out_of_memory(what);
    if (memory)
      std::fprintf(stderr,
                   "inoculum: there is not enough memory for this model: %s\nA smaller --dtype or "
                   "model, or another device, may fit.\n",
                   what.c_str());
    else
      std::fprintf(
          stderr,
          "inoculum: internal error: %s\nPlease report this with the command that led to it.\n",
          what.c_str());
    return memory ? 2 : 1;
  } catch (const std::exception& error) {
    std::fprintf(
        stderr,
        "inoculum: internal error: %s\nPlease report this with the command that led to it.\n",
        error.what());
    return 1;
  }
}
