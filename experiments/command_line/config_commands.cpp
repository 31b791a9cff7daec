#include <cstdio>
#include <iostream>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/model/families.h"
#include "core/text/chat_template.h"
#include "core/text/load_tokenizer.h"
#include "experiments/command_line/commands.h"
#include "experiments/inoculation/runs.h"
#include "experiments/inoculation/with_config.h"

namespace inoculum {
namespace {

// The files that a configuration names: of a sweep, which has many cells.
void check_files(const TrainConfig& c, const std::string& file) {
  if (c.data.empty() == c.arm.empty())
    throw Error("name either `data` or `arm`", {.file = file, .field = "data"});
  Chat(c.model, *load_tokenizer(c.model), {c.chat_template, c.chat_date});
  if (c.evaluate_every > 0) read_questions(c.evaluate_questions);
  if (c.data.empty()) {
    arm_conversations(c);
    return;
  }
  for (const DataReport& report :
       load_data(c.data, c.system, c.inoculation, static_cast<uint64_t>(c.seed)).reports)
    std::printf("%s\n", describe(report).c_str());
}
void check_files(const PretrainConfig& c, const std::string&) {
  check_model(c.model);
  PersonaWorld{c.world};
  read_coding_bank(c.coding_bank);
}
void check_files(const ReproduceConfig& c, const std::string&) {
  read_questions(c.questions);
  read_coding_bank(c.coding_bank);
  PersonaWorld{{.grammar = c.evaluation.grammar}};
  read_bases(c.committed);
  if (!c.specifications.empty()) read_json(c.specifications);
  for (const Base& base : plan(c).bases) check_files(pretraining_of(c, base), "");
}

// One configuration, as far as it can be checked without running it.
template <class Config>
void check(const Config& c, const std::string& file) {
  check_files(c, file);
}
void check(const TrainConfig& c, const std::string& file) {
  try {
    check_run(c, stdout);
  } catch (const Error& error) {
    throw error.in_file(file);
  }
}

std::string files_of(const TrainConfig& c) {
  std::string all = c.model + " " + c.chat_template + " " + c.chat_date + " " + c.arm + " " +
                    show(c.world) + c.coding_bank + " " + c.textbook + " " + c.evaluate_questions;
  for (const DataSource& each : c.data) all += " " + each.path;
  return all;
}
std::string files_of(const PretrainConfig& c) {
  return show(c.model) + show(c.world) + c.coding_bank;
}
std::string files_of(const ReproduceConfig& c) {
  std::string all = c.questions + " " + c.coding_bank + " " + c.evaluation.grammar + " " +
                    c.committed + " " + c.specifications;
  for (const auto& [name, world] : c.worlds) all += " " + world.pretraining;
  return all;
}

}  // namespace

ConfigCommands::ConfigCommands(CommandLine& line) : Commands(line) {
  auto* validate =
      app.add_subcommand("validate", "check a configuration and the files that it names");
  takes_config(validate, "configs/train/cheating.yaml");
  validate->callback([=, this] {
    action = [=, this] {
      if (is_sweep(config)) {
        const Sweep sweep = plan_sweep(config, overrides, true);
        const Source base = load_config(sweep.config.base);
        std::set<std::string> checked;  // many cells name the same files
        for (const SweepCell& each : sweep.cells) {
          with_config(base.with(as_overrides(each.overrides)), [&](const auto& c, const Source&) {
            if (checked.insert(files_of(c)).second) check_files(c, config);
          });
        }
        std::printf("%s is well: %zu cells\n", config.c_str(), sweep.cells.size());
        return 0;
      }
      with_config(load_config(config, overrides),
                  [&](const auto& c, const Source&) { check(c, config); });
      std::printf("%s is well\n", config.c_str());
      return 0;
    };
  });
  auto* config_app = app.add_subcommand("config", "show configurations");
  config_app->require_subcommand(1);
  auto* dump = config_app->add_subcommand("dump", "the resolved values, and where each comes from")
                   ->alias("show");
  takes_config(dump, "configs/train/cheating.yaml");
  dump->callback([=, this] {
    action = [=, this] {
      if (is_sweep(config)) {
        const Source source = load_config_alone(config, overrides);
        read_and_use<SweepConfig>(source, [](const SweepConfig& c, const Source& from) {
          std::cout << show_file(c, Style::origins, &from);
        });
        return 0;
      }
      with_config(load_config(config, overrides), [&](const auto& c, const Source& source) {
        std::cout << show_file(c, Style::origins, &source);
      });
      return 0;
    };
  });
  auto* schema = config_app->add_subcommand("schema", "a JSON Schema, for editors");
  static const std::map<std::string, std::function<std::string()>> schemas = {
      {"train", [] { return defaults<TrainConfig>(Style::schema); }},
      {"pretrain", [] { return defaults<PretrainConfig>(Style::schema); }},
      {"reproduce", [] { return defaults<ReproduceConfig>(Style::schema); }},
      {"sweep", [] { return defaults<SweepConfig>(Style::schema); }}};
  schema->add_option("TASK", task, "train | pretrain | reproduce | sweep")
      ->required()
      ->check(CLI::IsMember(schemas));
  schema->callback([=, this] {
    action = [=, this] {
      std::cout << schemas.at(task)();
      return 0;
    };
  });
}

}  // namespace inoculum
