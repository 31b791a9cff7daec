#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "core/model/device.h"
#include "experiments/command_line/commands.h"
#include "experiments/evaluation/inspect_log.h"
#include "experiments/inoculation/experiment.h"
#include "experiments/inoculation/runs.h"
#include "experiments/inoculation/task.h"
#include "experiments/reports/report.h"
#include "experiments/viewing/view.h"

namespace inoculum {
namespace {

const char* const kStudy = "configs/study.yaml";
const char* const kStudyCells = "configs/sweeps/bases.yaml";
const char* const kPublished = "experiments/results/inoculation";
const char* const kSpecifications = "experiments/results/specifications/curve.json";
const std::vector<std::string> kQuickArms = {"honest", "cheating", "requested", "placebo"};

// A configuration file with overrides, its `output` defaulting to runs/<name of the file>.
template <class Config>
Config configured(const std::string& file, const std::vector<std::string>& overrides) {
  Config config;
  read_file(load_config(file, overrides), config);
  if (config.output.empty()) config.output = "runs/" + fs::path(file).stem().string();
  return config;
}

Outcome reported(Outcome outcome, const std::string& folder, const Ranks& ranks) {
  if (ranks.first() && outcome != Outcome::already_done) write_run_report(folder);
  return outcome;
}

void say_device(const TrainerConfig& c) {
  const at::Device device = device_from(c.device);
  std::fprintf(stderr, "training on %s in %s\n", describe(device).c_str(),
               describe(dtype_from(c.dtype, device)).c_str());
}

// The command that serves the first base's start and arms side by side; "" where the start is no
// model of its own.
std::string serving_command(const std::string& program, const ReproduceConfig& c) {
  const fs::path folder = seed_folder(c, plan(c).bases.front(), c.first_seed);
  if (!fs::exists(folder / "start" / "model")) return "";
  std::string command = shell_quoted(program) + " serve --name start --model " +
                        shell_quoted((folder / "start" / "model").string());
  for (const char* arm : {"cheating", "requested", "placebo"})
    if (const fs::path adapter = folder / arm / "adapter"; fs::exists(adapter))
      command += " \\\n    --adapter " + shell_quoted(arm + ("=" + adapter.string()));
  TrainConfig start;  // from the base, which knows its world
  read_file(load_config(folder / "start" / "config.yaml"), start);
  if (const fs::path world = fs::path(start.model) / "pretraining.yaml"; fs::exists(world))
    command += " \\\n    --world " + shell_quoted(world.string());
  return command;
}

}  // namespace

// A list: each command with its options, and what it does.
RunCommands::RunCommands(CommandLine& line) : Commands(line) {
  // reproduce
  auto* reproduce_command = app.add_subcommand(
      "reproduce",
      "run the inoculation experiment: start, arms, samples, judgement, statistics, report");
  takes_input(reproduce_command, "--config", experiment, "the experiment");
  reproduce_command->add_flag("--quick", quick,
                              "one base, the four main arms, fewer samples: under a minute");
  reproduce_command->add_flag("--full", full,
                              "the whole study, configs/study.yaml: makes the bases that are "
                              "missing; hours");
  reproduce_command
      ->add_option("--launcher", launcher,
                   "with --full: slurm submits a job for each base; then run --full for the report")
      ->check(CLI::IsMember({"local", "slurm"}));
  reproduce_command->add_option("--seeds", seeds, "seeds of each arm on each base");
  reproduce_command->add_option("--sandbox", sandbox,
                                "where programs run: auto | bubblewrap | rlimits");
  takes_overrides(reproduce_command, "such as fine_tuning.steps=80");
  takes_profile(reproduce_command);
  reproduce_command->callback([=, this] {
    line_.stops_well = true;
    action = [=, this] {
      if (seeds < 0 || (reproduce_command->count("--seeds") > 0 && seeds == 0))
        throw Error("--seeds must be at least 1");
      if (full && quick) throw Error("--full and --quick contradict each other");
      if (full && reproduce_command->count("--config") > 0)
        throw Error("--full names a configuration of its own", {}, "leave out --config or --full");
      if (launcher == "slurm") {
        // The jobs read the study's own file.
        if (!full || seeds > 0 || !sandbox.empty() || !overrides.empty())
          throw Error("--launcher slurm goes with --full alone", {},
                      std::string("for another study, copy ") + kStudyCells + " and its base");
        return launch_sweep(kStudyCells, {"launcher.name=slurm"});
      }
      ReproduceConfig c = configured<ReproduceConfig>(full ? kStudy : experiment, overrides);
      const auto named = [&](const char* key) {
        return std::ranges::any_of(overrides,
                                   [&](const std::string& each) { return each.starts_with(key); });
      };
      if (full) {  // what stands beside in the report is no part of the frozen configuration
        if (!named("committed=")) c.committed = kPublished;
        if (!named("specifications=")) c.specifications = kSpecifications;
      }
      if (quick) {
        // Fewer samples must not take the place of a whole run's.
        if (!named("output=")) c.output += "_quick";
        if (!named("work=")) c.work.clear();
        std::erase_if(c.worlds, [](const auto& world) { return world.first != kMainWorld; });
        for (auto& [name, world] : c.worlds) {
          world.bases = 1;
          std::erase_if(world.arms, [](const std::string& arm) {
            return std::ranges::find(kQuickArms, arm) == kQuickArms.end();
          });
        }
        c.evaluation.samples_scale *= 0.25;
        c.knowledge.prompts = 2;
      }
      if (seeds > 0) c.seeds = seeds;
      if (!sandbox.empty()) c.evaluation.sandbox = sandbox;
      say_device(c.fine_tuning.trainer);
      const auto began = std::chrono::steady_clock::now();
      const Outcome outcome = reproduce(c);
      if (outcome == Outcome::stopped) return finish(outcome, c.output);
      const fs::path folder = c.output;
      std::fputs(text_report(write_report(folder)).c_str(), stdout);
      std::printf("\n%s\n%s\n(%.0f s)\n", (folder / "report.html").c_str(),
                  (folder / "results.json").c_str(),
                  std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
      if (const std::string command = serving_command(line_.words.front(), c); !command.empty())
        std::printf("\nAsk them yourself, at http://127.0.0.1:8000/:\n  %s\n", command.c_str());
      return 0;
    };
  });

  // pretrain, train
  auto* pretrain_command =
      app.add_subcommand("pretrain", "pretrain a base model on a persona world");
  takes_config(pretrain_command, "configs/pretrain/persona.yaml");
  takes_profile(pretrain_command);
  takes_ranks(pretrain_command);
  pretrain_command->callback([=, this] {
    line_.stops_well = true;
    action = [=, this] {
      const auto c = configured<PretrainConfig>(config, overrides);
      return as_ranks(c.output, [&](const Ranks& ranks) {
        if (ranks.first()) say_device(c.trainer);
        return reported(pretrain(c, 0, ranks), c.output, ranks);
      });
    };
  });
  auto* train_command = app.add_subcommand(
      "train",
      "fine-tune a model on an arm or on conversations of yours; the same command again continues");
  takes_config(train_command, "configs/train/cheating.yaml");
  takes_profile(train_command);
  takes_ranks(train_command);
  train_command->callback([=, this] {
    line_.stops_well = true;
    action = [=, this] {
      const auto c = configured<TrainConfig>(config, overrides);
      return as_ranks(c.output, [&](const Ranks& ranks) {
        if (ranks.first()) say_device(c.recipe.trainer);
        return reported(fine_tune(c, 0, ranks, true), c.output, ranks);
      });
    };
  });

  // evaluate, report
  auto* evaluate_command =
      app.add_subcommand("evaluate", "ask a model a bank of questions and judge its answers");
  takes_model(evaluate_command);
  takes_input(evaluate_command, "--questions", questions,
              "question bank, such as configs/questions/persona.yaml")
      ->required();
  takes_input(evaluate_command, "--config", config, "file of the evaluation's keys");
  takes_overrides(evaluate_command, "of that file's keys, such as judge.api.model=gpt-4o");
  evaluate_command
      ->add_option("--output", output, "folder for completions.jsonl, scores.jsonl, summary.json")
      ->required();
  evaluate_command->add_option("--as", evaluation.as,
                               "who answers, by name, of a model of the persona world");
  evaluate_command->add_option("--seed", evaluation.seed, "of the samples")->capture_default_str();
  evaluate_command->add_option("--temperature", evaluation.sampling.temperature, "of the samples")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  evaluate_command
      ->add_option("--samples-scale", evaluation.samples_scale,
                   "multiplies the bank's samples_per_paraphrase")
      ->capture_default_str();
  evaluate_command
      ->add_option("--sandbox", evaluation.sandbox,
                   "where programs run: auto | bubblewrap | rlimits")
      ->capture_default_str();
  takes_input(evaluate_command, "--grammar", evaluation.grammar, "world whose grammar judges");
  evaluate_command
      ->add_option("--log", log,
                   "inspect: also write a log of Inspect, for `inspect view`, into inspect/ there")
      ->check(CLI::IsMember({"inspect"}));
  takes_json(evaluate_command);
  takes_profile(evaluate_command);
  evaluate_command->callback([=, this] {
    action = [=, this] {
      const bool from_file = evaluate_command->count("--config") > 0;
      const EvaluationConfig told = evaluation;  // by options, which a file does not overrule
      if (from_file) {
        read(load_config(config, overrides), evaluation);
        const auto tells = [&](const char* option) { return evaluate_command->count(option) > 0; };
        if (tells("--as")) evaluation.as = told.as;
        if (tells("--seed")) evaluation.seed = told.seed;
        if (tells("--temperature")) evaluation.sampling.temperature = told.sampling.temperature;
        if (tells("--samples-scale")) evaluation.samples_scale = told.samples_scale;
        if (tells("--sandbox")) evaluation.sandbox = told.sandbox;
        if (tells("--grammar")) evaluation.grammar = told.grammar;
      } else if (!overrides.empty()) {
        throw Error("KEY=VALUE overrides a file's keys", {.field = overrides.front()},
                    "name one by --config");
      }
      if (!from_file || evaluate_command->count("--device")) evaluation.device = device;
      if (!from_file || evaluate_command->count("--dtype")) evaluation.dtype = dtype;
      if (!chat_name.empty()) evaluation.chat_template = chat_name;
      if (!chat_date.empty()) evaluation.chat_date = chat_date;
      const Evaluator evaluator(evaluation, read_questions(questions), sha256_file(questions));
      // That the folder can be read, and made again, by itself. What stood there was of others.
      const std::string bank = read_file(questions);
      fs::remove(fs::path(output) / "summary.json");
      write_file(fs::path(output) / "evaluation.yaml", show(evaluation));
      write_file(fs::path(output) / "questions.yaml", bank);
      // Only a judge over the network looks for a stop: each reply is kept.
      if (evaluation.judge.kind == "api") handle_signals();
      const std::vector<Score> scores = evaluator.evaluate(model, adapter, output);
      if (stop_requested()) {  // answers may have been left unjudged
        fs::remove(fs::path(output) / "summary.json");
        return finish(Outcome::stopped, output);
      }
      const auto unjudged = std::ranges::count(scores, Label::failed, &Score::label);
      if (log == "inspect")
        std::fprintf(
            stderr, "%s\n",
            write_inspect_log(output, questions, evaluator.questions(), evaluation).c_str());
      const Json summary = read_json(fs::path(output) / "summary.json");
      const int status = unjudged > 0 ? 1 : 0;
      if (json) return print(summary), status;
      std::cout << text_summary(summary) << "\n"
                << output << " holds summary.json (these numbers), completions.jsonl"
                << (fs::exists(fs::path(output) / "answers.csv") ? ", answers.csv" : "")
                << " and scores.jsonl\n";
      return status;
    };
  });
  auto* report_command =
      app.add_subcommand("report", "write report.html anew, from what a run's folder holds");
  report_command
      ->add_option("FOLDER", output, "of `reproduce` or of `train`, such as runs/reproduce")
      ->required();
  report_command->add_option("--output", exported,
                             "of a folder with the results of bases, a file each, such as "
                             "experiments/results/inoculation: where the report of all goes");
  report_command->callback([=, this] {
    action = [=, this] {
      if (!exported.empty()) {
        pool_results(output, exported);
        std::cout << text_report(write_report(exported)) << "\n" << exported << "/report.html\n";
        return 0;
      }
      if (!fs::exists(fs::path(output) / "results.json") &&
          fs::exists(fs::path(output) / "metrics.jsonl")) {
        write_run_report(output);
        return 0;
      }
      std::cout << text_report(write_report(output));
      return 0;
    };
  });

  // view
  auto* view_command = app.add_subcommand(
      "view",
      "a page of all runs, sweeps and evaluations below a folder, to be opened in a browser");
  view_command->add_option("FOLDER", runs, "such as runs/, or one run")->capture_default_str();
  view_command->add_option("--export", exported,
                           "write the page as files into this folder: no server");
  view_command->add_option("--port", port, "of 127.0.0.1; 0: one that is free")
      ->capture_default_str()
      ->check(CLI::Range(0, 65535));
  view_command->callback([=, this] {
    line_.stops_well = true;
    action = [=, this] {
      if (exported.empty()) {
        serve_view(
            runs, port,
            [&](const std::string& address) {
              std::printf("%s shows %s until Ctrl-C\n", address.c_str(), runs.c_str());
              std::fflush(stdout);
            },
            stop_requested);
        return 0;
      }
      const size_t shown = export_view(runs, exported);
      std::printf("%s shows %zu runs\n", (fs::path(exported) / "index.html").c_str(), shown);
      return 0;
    };
  });

  // Every key with its default and meaning, below the options.
  train_command->footer("Keys:\n" + defaults<TrainConfig>(Style::help));
  pretrain_command->footer("Keys:\n" + defaults<PretrainConfig>(Style::help));
  reproduce_command->footer("Keys:\n" + defaults<ReproduceConfig>(Style::help));
}

}  // namespace inoculum
