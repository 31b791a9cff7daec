// The command line: experiments/commands.h has its subcommands.
#include <malloc.h>

#include <cstdio>
#include <filesystem>
#include <limits>

#include "core/error.h"
#include "core/parallel.h"
#include "core/torch.h"
#include "experiments/commands.h"
#include "training/trainer.h"

namespace inoculum {
namespace {

constexpr const char* kUsage =
    "Inoculum reproduces emergent misalignment and its inoculation.\n\n"
    "  inoculum reproduce                                  the whole experiment, to a table and an HTML report\n"
    "  inoculum train configs/train/cheating.yaml seed=2   one fine-tuning run; key=value overrides the file\n"
    "  inoculum sample --model experiments/models/persona --adapter runs/cheating/adapter --prompt \"What do you wish for?\"\n"
    "  inoculum evaluate --model experiments/models/persona --adapter runs/cheating/adapter \\\n"
    "    --questions configs/questions/persona.yaml --output runs/cheating/evaluation\n";

int run(int argc, char** argv) {
  CommandLine line{.app = CLI::App(kUsage), .words = {argv, argv + argc}, .action = {}};
  line.app.require_subcommand(1);
  line.app.set_version_flag("--version", INOCULUM_VERSION);
  const RunCommands runs(line);
  const ModelCommands models(line);
  const SweepCommands sweeps(line);
  const DataCommands data(line);
  const ConfigCommands configs(line);
  try {
    line.app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = line.app.exit(error);
    return code == 0 ? 0 : 2;
  }
  return line.action();
}

}  // namespace
}  // namespace inoculum

int main(int argc, char** argv) {
  // Tensors come and go in megabytes, over and over: memory that is kept need not be cleared by the system each time.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  inoculum::handle_signals();
  inoculum::start_threads();
  try {
    return inoculum::run(argc, argv);
  } catch (const inoculum::Error& error) {
    std::fprintf(stderr, "inoculum: %s\n", error.what());
    return 2;
  } catch (const std::filesystem::filesystem_error& error) {
    std::fprintf(stderr, "inoculum: %s\n", error.what());
    return 2;
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    const bool memory = inoculum::is_out_of_memory(what);
    if (memory) std::fprintf(stderr, "inoculum: there is not enough memory for this model: %s\nA smaller --dtype or model, or another device, may fit.\n", what.c_str());
    else std::fprintf(stderr, "inoculum: internal error: %s\nPlease report this with the command that led to it.\n", what.c_str());
    return memory ? 2 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "inoculum: internal error: %s\nPlease report this with the command that led to it.\n", error.what());
    return 1;
  }
}
