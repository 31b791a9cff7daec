#include "experiments/sweeps/sweep.h"

#include <muParser.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <set>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/signals.h"
#include "core/base/strings.h"
#include "experiments/evaluation/evaluate.h"
#include "experiments/inoculation/model_card.h"
#include "experiments/inoculation/runs.h"
#include "experiments/inoculation/with_config.h"
#include "training/metrics.h"
#include "training/tensorboard.h"

namespace inoculum {
namespace {

bool same_value(const std::string& a, const std::string& b) {
  const auto x = number(a), y = number(b);
  return x && y ? *x == *y : a == b;
}

std::string draw(const Distribution& d, Random& random) {
  if (!d.choice.empty()) return random.choice(d.choice);
  if (!d.integer.empty())
    return std::to_string(
        static_cast<int64_t>(d.integer[0]) +
        static_cast<int64_t>(random.below(static_cast<uint64_t>(d.integer[1] - d.integer[0]) + 1)));
  if (!d.log_uniform.empty())
    return six_digits(d.log_uniform[0] *
                      std::pow(d.log_uniform[1] / d.log_uniform[0], random.uniform()));
  return six_digits(d.uniform[0] + (d.uniform[1] - d.uniform[0]) * random.uniform());
}

void check(const Distribution& d, const Where& where) {
  if (d.uniform.empty() + d.log_uniform.empty() + d.integer.empty() + d.choice.empty() != 3)
    throw Error("must name one distribution", where,
                "uniform: [low, high], log_uniform: [low, high], integer: [first, last], or "
                "choice: [a, b]");
  for (const auto* range : {&d.uniform, &d.log_uniform, &d.integer})
    if (!range->empty() && (range->size() != 2 || (*range)[0] > (*range)[1]))
      throw Error("must be two numbers, the smaller first", where, "such as [1e-4, 1e-2]");
  if (!d.log_uniform.empty() && d.log_uniform[0] <= 0)
    throw Error("a log-uniform range begins above 0", where);
}

// The value of an expression over the numbers of a configuration.
double evaluate(const std::string& expression,
                const std::vector<std::pair<std::string, std::string>>& values,
                const Where& where) {
  try {
    mu::Parser parser;
    parser.DefineNameChars("0123456789_.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    for (const auto& [key, text] : values)
      if (const auto value = number(text)) parser.DefineConst(key, *value);
    parser.SetExpr(expression);
    return parser.Eval();
  } catch (const mu::Parser::exception_type& failure) {
    throw Error("\"" + expression + "\": " + failure.GetMsg(), where,
                "the numbers of the base's keys may be used, as in `lora.alpha >= 2 * lora.rank`");
  }
}

// The last part of a key, or as much of its end as tells it from the others.
std::string short_name(const std::string& key, const std::set<std::string>& all) {
  for (size_t dot = key.rfind('.'); dot != std::string::npos && dot > 0;
       dot = key.rfind('.', dot - 1)) {
    const std::string end = key.substr(dot + 1);
    if (std::count_if(all.begin(), all.end(), [&](const std::string& other) {
          return other == end || other.ends_with(key.substr(dot));
        }) == 1)
      return end;
  }
  return key;
}

std::string as_file_name(const std::string& text) {
  std::string out;
  for (const char c : text)
    out += std::isalnum(static_cast<unsigned char>(c)) ||
                   std::string_view("._+-=,").find(c) != std::string_view::npos
               ? c
               : '_';
  if (out.size() > 120) out.resize(120);
  return out;
}

// A path from the root, its last part the folder's name.
fs::path whole_path(const fs::path& path) {
  return without_slash(fs::absolute(path).lexically_normal());
}

// The mean of the last tenth of the steps.
double loss_of(const fs::path& folder) {
  const std::vector<double> losses = losses_of(folder);
  const size_t last = std::max<size_t>(1, losses.size() / 10);
  double sum = 0;
  for (size_t i = losses.size() - last; i < losses.size(); ++i) sum += losses[i];
  return sum / static_cast<double>(last);
}

int64_t tokens_of(const PretrainConfig& config) { return config.tokens; }
int64_t tokens_of(const Recipe& recipe) { return recipe.steps * recipe.supervised_tokens; }
int64_t tokens_of(const TrainConfig& config) { return tokens_of(config.recipe); }
int64_t tokens_of(const ReproduceConfig& config) {
  int64_t tokens = 0;
  for (const auto& [name, world] : config.worlds)
    tokens += world.bases * config.seeds *
              (tokens_of(config.post_training) +
               static_cast<int64_t>(world.arms.size()) * tokens_of(config.fine_tuning));
  return tokens;
}

using Parameters = std::map<std::string, std::string>;

std::set<std::string> parameter_names(const SweepConfig& config) {
  std::set<std::string> names;
  for (const auto& [key, values] : config.grid) names.insert(key);
  for (const auto& [key, distribution] : config.random.parameters) names.insert(key);
  return names;
}

void check_parameters(const SweepConfig& config, const Source& file) {
  for (const auto& [key, distribution] : config.random.parameters) {
    const Where where = file.where("random.parameters." + key);
    check(distribution, where);
    if (config.grid.contains(key))
      throw Error("stands in the grid too", where, "remove one of them");
  }
  if (config.random.samples == 0 && !config.random.parameters.empty())
    throw Error("names parameters but no samples", file.where("random"), "samples: 16");
  const std::set<std::string> names = parameter_names(config);
  for (const Parameters& rule : config.exclude)
    for (const auto& [key, value] : rule)
      if (!names.contains(key))
        throw Error("\"" + key + "\" is none of the sweep's parameters", file.where("exclude"),
                    did_you_mean(key, {names.begin(), names.end()}));
}

// What the sweep's settings and its base do not allow of one another.
void check_together(const SweepConfig& config, const Source& file, const Source& base) {
  const bool halves = config.asha.halves(), reproduces = task_of(base) == Task::reproduce;
  if (halves && reproduces)
    throw Error("needs cells that can be paused and judged: a base of `train` or `pretrain`",
                file.where("asha"));
  for (const char* key : {"steps", "tokens", "step_tokens"})
    if (halves && (config.grid.contains(key) || config.random.parameters.contains(key) ||
                   config.derive.contains(key)))
      throw Error("decides how long cells run: " + std::string(key) + " can't be a parameter too",
                  file.where("asha"), "give it in the base, or leave asha out");
  with_config(base, [&]<class Config>(const Config&, const Source&) {
    for (const auto& [key, hint] :
         {std::pair<std::string, const char*>(seed_key<Config>(), "use seeds and first_seed"),
          {"output", "use the sweep's own output"}})
      if (parameter_names(config).contains(key) || config.derive.contains(key))
        throw Error("\"" + key + "\" is set by the sweep itself", {.file = file.where("").file},
                    hint);
  });
  const bool ranks = config.launcher.tasks_per_node > 1;
  if (ranks && halves)
    throw Error("can't be more than 1 with asha", file.where("launcher.tasks_per_node"),
                "its workers are single processes; use cpus_per_task");
  if (ranks && reproduces)
    throw Error("can't be more than 1 for a base of `reproduce`",
                file.where("launcher.tasks_per_node"),
                "it runs its arms side by side; use cpus_per_task");
  // A bank that can't be read would else be found when the first cell is trained.
  if (!config.questions.empty()) read_questions(fs::path(config.directory) / config.questions);
}

// Whole numbers, such as of tokens, to the last digit.
std::string digits(double value) {
  const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  return whole ? std::to_string(static_cast<int64_t>(value)) : six_digits(value);
}

// Every combination of the grid beside every draw.
std::vector<Parameters> combinations(const SweepConfig& config) {
  std::vector<Parameters> all = {{}};
  for (const auto& [key, values] : config.grid) {
    std::vector<Parameters> longer;
    for (const Parameters& each : all)
      for (const std::string& value : values) {
        longer.push_back(each);
        longer.back()[key] = value;
      }
    all = std::move(longer);
  }
  if (config.random.samples == 0) return all;
  std::vector<Parameters> drawn;
  for (const Parameters& each : all)
    for (int64_t i = 0; i < config.random.samples; ++i) {
      drawn.push_back(each);
      for (const auto& [key, distribution] : config.random.parameters) {
        Random random =
            Random(static_cast<uint64_t>(config.random.seed), key).fork(static_cast<uint64_t>(i));
        drawn.back()[key] = draw(distribution, random);
      }
    }
  return drawn;
}

bool is_excluded(const SweepConfig& config, const Parameters& parameters) {
  return std::any_of(config.exclude.begin(), config.exclude.end(), [&](const Parameters& rule) {
    return std::all_of(rule.begin(), rule.end(), [&](const auto& entry) {
      return same_value(parameters.at(entry.first), entry.second);
    });
  });
}

// What all cells share tells nothing and is left out.
std::string cell_name(const SweepConfig& config, const Parameters& parameters, int64_t seed) {
  const std::set<std::string> names = parameter_names(config);
  std::string name;
  for (const auto& [key, value] : parameters)
    if (const auto found = config.grid.find(key);
        found == config.grid.end() || found->second.size() > 1)
      name += short_name(key, names) + "=" + value + ",";
  return as_file_name(name + "seed=" + std::to_string(seed));
}

// The line of the sweep's file that a parameter comes from.
Where origin(const Source& file, const std::string& key) {
  for (const char* group : {"grid.", "random.parameters."})
    if (const Where where = file.where(group + key); where.line > 0) return where;
  return file.where(key);
}

// Nothing: `require` refuses it.
std::optional<SweepCell> resolved_cell(const SweepConfig& config, const Source& file,
                                       const Source& base, const Parameters& parameters,
                                       int64_t seed) {
  SweepCell cell{
      .name = cell_name(config, parameters, seed), .parameters = parameters, .seed = seed};
  std::vector<Override> overrides;
  for (const auto& [key, value] : parameters)
    overrides.push_back({key + "=" + value, origin(file, key)});
  bool kept = true;
  std::string resolved;
  with_config(base.with(overrides), [&]<class Config>(const Config&, const Source&) {
    overrides.push_back(
        {std::string(seed_key<Config>()) + "=" + std::to_string(seed), file.where("seeds")});
    const auto resolve = [&] {
      Config c;
      read_file(base.with(overrides), c);
      c.output = "";
      cell.tokens = tokens_of(c);
      resolved = show(c);
      return flatten(resolved);
    };
    auto values = resolve();
    for (const auto& [key, expression] : config.derive) {
      const Where where = file.where("derive." + key);
      overrides.push_back({key + "=" + digits(evaluate(expression, values, where)), where});
      values = resolve();
    }
    for (const std::string& expression : config.require)
      kept = kept && evaluate(expression, values, file.where("require")) != 0;
  });
  if (!kept) return std::nullopt;
  for (const Override& each : overrides) cell.overrides.push_back(each.text);
  cell.hash = sha256(resolved).substr(0, 8);
  return cell;
}

Evaluator evaluator_of(const Sweep& sweep, const TrainConfig& config) {
  EvaluationConfig evaluation = sweep.config.evaluation;
  if (evaluation.chat_template.empty()) evaluation.chat_template = config.chat_template;
  if (evaluation.chat_date.empty()) evaluation.chat_date = config.chat_date;
  const std::string& questions = sweep.config.questions;
  return Evaluator(evaluation, read_questions(questions), sha256_file(questions));
}

// A base and the format in which it is asked, in words.
std::string base_of(const TrainConfig& config) {
  std::string words = config.model;
  if (!config.chat_template.empty()) words += ", chat_template " + config.chat_template;
  if (!config.chat_date.empty()) words += ", chat_date " + config.chat_date;
  return words;
}

struct CellRun {
  Outcome outcome;
  CellMetrics metrics = {};  // where it was not stopped
};

// Each of these runs a cell up to the step `until` (0: to its end), and evaluates it there.
CellRun run(const Sweep&, const PretrainConfig& config, int64_t until, const Ranks& ranks) {
  CellRun cell{pretrain(config, until, ranks)};
  if (cell.outcome != Outcome::stopped && ranks.first())
    cell.metrics.set("loss", loss_of(config.output));
  return cell;
}

CellRun run(const Sweep& sweep, const TrainConfig& config, int64_t until, const Ranks& ranks) {
  // First, for its faults: a judge that can't be asked would else be found behind the training.
  std::optional<Evaluator> evaluator;
  if (ranks.first() && !sweep.config.questions.empty())
    evaluator.emplace(evaluator_of(sweep, config));
  CellRun cell{fine_tune(config, until, ranks)};
  if (cell.outcome == Outcome::stopped || stop_requested()) return {Outcome::stopped};
  if (!ranks.first()) return cell;
  cell.metrics.set("loss", loss_of(config.output));
  if (!evaluator) return cell;
  const fs::path output = config.output,
                 folder = cell.outcome == Outcome::paused ? output / "paused" : output;
  const Trained trained = trained_in(folder, config);
  const std::vector<Score> scores =
      evaluator->evaluate(trained.model, trained.adapter, folder / "evaluation");
  if (stop_requested()) return {Outcome::stopped};  // answers may have been left unjudged
  if (const auto failed = std::ranges::count(scores, Label::failed, &Score::label); failed > 0)
    throw Error(std::to_string(failed) + " of " + std::to_string(scores.size()) +
                    " answers could not be judged",
                {.file = (folder / "evaluation").string()},
                "`inoculum sweep resume` asks for them again; what was judged is kept");
  add_measurements(trained.folder(), summarize(scores), sweep.config.questions);
  cell.metrics.add(scores);
  return cell;
}

CellRun run(const Sweep&, const ReproduceConfig& config, int64_t, const Ranks&) {
  if (reproduce(config) == Outcome::stopped) return {Outcome::stopped};
  CellRun cell{Outcome::finished};
  cell.metrics.add(read_results(fs::path(config.output) / "results.json"));
  return cell;
}

// What a finished cell leaves; result.json, which says that it is done, comes last.
void write_result(const Sweep& sweep, size_t index, const CellMetrics& metrics,
                  std::chrono::steady_clock::time_point began) {
  const fs::path folder = sweep.cell_folder(index);
  const SweepCell& cell = sweep.cells[index];
  // For TensorBoard's HParams tab: the parameters, and what came of them.
  Json parameters = {{"seed", cell.seed}};
  for (const auto& [key, value] : cell.parameters) {
    if (const auto n = number(value)) parameters[key] = *n;
    else parameters[key] = value;
  }
  EventFile(folder / "result", parameters)
      .scalars(0, static_cast<double>(std::time(nullptr)), metrics.values);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  write_json(folder / "result.json", {{"metrics", to_json(metrics)}, {"seconds", seconds}});
}

}  // namespace

void Distribution::fields(Fields& f) {
  f.value("uniform", uniform, "[low, high]");
  f.value("log_uniform", log_uniform, "[low, high]: uniform in the logarithm");
  f.value("integer", integer, "[first, last], both included");
  f.value("choice", choice, "one of these");
}

void RandomSearch::fields(Fields& f) {
  f.value("samples", samples, "draws, beside each combination of the grid", at_least(0));
  f.value("seed", seed, "of the draws");
  f.map("parameters", parameters, "key → its distribution");
}

void AshaConfig::fields(Fields& f) {
  f.value("min_steps", min_steps, "steps of the lowest rung; 0: every cell runs to its end",
          at_least(0));
  f.value("reduction", reduction, "a rung's best 1/reduction go on, to reduction times the steps",
          at_least(2));
  f.value("brackets", brackets, "of different lowest rungs, to which cells are dealt in turn",
          at_least(1));
}

void SweepMetric::fields(Fields& f) {
  f.value("name", name,
          "what cells are compared by: loss, malicious, contrasts.cheating_minus_requested, …");
  f.value("goal", goal, "max | min", one_of({"max", "min"}));
  f.value("beside", beside, "metrics that the report's curve of all combinations shows as well");
}

void LauncherConfig::fields(Fields& f) {
  f.value("name", name, "local | slurm", one_of({"local", "slurm"}));
  f.value("array_parallelism", array_parallelism,
          "cells at a time; 0: one a core here, no limit on Slurm", at_least(0));
  f.value("tasks_per_node", tasks_per_node,
          "processes that train a cell together, each on its own cores and GPU", at_least(1));
  f.value("cpus_per_task", cpus_per_task, "cores of each", at_least(1));
  f.value("timeout_min", timeout_min, "minutes until a cell is stopped, to go on in another job",
          at_least(1));
  f.value("gpus_per_node", gpus_per_node, "GPUs of a cell", at_least(0));
  f.value("mem_gb", mem_gb, "memory of a cell", at_least(0));
  f.value("max_requeues", max_requeues, "how often a cell may go on in another job", at_least(0));
  f.value("partition", partition, "of Slurm");
  f.value("qos", qos, "of Slurm");
  f.value("account", account, "of Slurm");
  f.value("constraint", constraint, "of Slurm, such as a kind of GPU");
  f.value("setup", setup, "lines of shell before a cell, such as `module load cuda`");
  f.value("additional_parameters", additional_parameters,
          "further options of sbatch, such as {exclusive: \"\", nice: 100}");
}

void SweepConfig::fields(Fields& f) {
  f.value("base", base,
          "configuration of a cell, relative to this file: of train, pretrain or reproduce");
  f.value("output", output, "the sweep's folder; by default runs/<name of the file>");
  f.value("directory", directory,
          "that relative paths of models, data and banks start at; by default where the sweep is "
          "launched");
  f.value("seeds", seeds, "runs of each combination", at_least(1));
  f.value("first_seed", first_seed, "seeds count from here");
  f.value("grid", grid, "key → values; all combinations are run");
  f.group("random", random, "random search");
  f.group("asha", asha, "stopping the worse cells early: asynchronous successive halving");
  f.value("exclude", exclude,
          "combinations left out: those that agree with all keys of one of these");
  f.value("derive", derive,
          "key → its value as an expression of other keys, such as lora.alpha: 2 * lora.rank");
  f.value("require", require, "expressions; a combination for which one is 0 is left out");
  f.value("questions", questions,
          "bank on which the models of train cells are evaluated; empty: they are not",
          input_path());
  f.group("evaluation", evaluation, "how they are asked and judged");
  f.group("metric", metric, "what cells are compared by");
  f.group("launcher", launcher, "where cells run");
}

std::optional<double> number(const std::string& text) {
  try {
    size_t used = 0;
    const double value = std::stod(text, &used);
    if (used == text.size()) return value;
  } catch (const std::exception&) {
  }
  return std::nullopt;
}

double cell_count(const SweepConfig& config) {
  double count = static_cast<double>(config.seeds) *
                 static_cast<double>(std::max<int64_t>(1, config.random.samples));
  for (const auto& [key, values] : config.grid) count *= static_cast<double>(values.size());
  return count;
}

std::vector<SweepCell> expand(const SweepConfig& config, const Source& file, const Source& base) {
  check_parameters(config, file);
  std::vector<SweepCell> cells;
  std::set<std::string> hashes;
  for (const Parameters& parameters : combinations(config)) {
    if (is_excluded(config, parameters)) continue;
    for (int64_t seed = config.first_seed; seed < config.first_seed + config.seeds; ++seed) {
      auto cell = resolved_cell(config, file, base, parameters, seed);
      if (!cell) break;
      // Two ways to write the same are one cell.
      if (hashes.insert(cell->hash).second) cells.push_back(std::move(*cell));
    }
  }
  if (cells.empty())
    throw Error("no combination is left", {.file = file.where("").file},
                "exclude and require leave out all of them");
  return cells;
}

Sweep plan_sweep(const fs::path& file, const std::vector<std::string>& overrides,
                 bool however_many) {
  Sweep sweep;
  const Source source = load_config_alone(file, overrides);
  read_file(source, sweep.config);
  if (sweep.config.base.empty())
    throw Error("is missing", {.file = file.string(), .field = "base"},
                "base: ../train/cheating.yaml");
  if (sweep.config.output.empty()) sweep.config.output = "runs/" + file.stem().string();
  sweep.folder = whole_path(sweep.config.output);
  sweep.config.output = sweep.folder.string();
  sweep.config.directory =
      whole_path(sweep.config.directory.empty() ? "." : sweep.config.directory).string();
  sweep.config.base = (file.parent_path() / sweep.config.base).lexically_normal().string();
  const Source base = load_config(sweep.config.base);
  check_together(sweep.config, source, base);
  if (const double count = cell_count(sweep.config); count > 10'000 && !however_many)
    throw Error("makes " + six_digits(count) + " cells", {.file = file.string()},
                "add --yes if that is what you want");
  sweep.cells = expand(sweep.config, source, base);
  return sweep;
}

std::string plan_text(const Sweep& sweep) {
  std::string text;
  double tokens = 0;
  for (const SweepCell& cell : sweep.cells) {
    text +=
        "  " + cell.folder() +
        (fs::exists(sweep.folder / "cells" / cell.folder() / "result.json") ? "  (done)\n" : "\n");
    tokens += static_cast<double>(cell.tokens);
  }
  return text + std::to_string(sweep.cells.size()) + " cells, " + six_digits(tokens) +
         " tokens trained on, in " + sweep.folder.string() + "\n";
}

void write_sweep(const Sweep& sweep) {
  std::string base;
  with_config(load_config(sweep.config.base),
              [&](const auto& config, const Source&) { base = show_file(config); });
  std::vector<Json> rows;
  for (const SweepCell& cell : sweep.cells)
    rows.push_back({{"name", cell.name},
                    {"hash", cell.hash},
                    {"parameters", cell.parameters},
                    {"seed", cell.seed},
                    {"overrides", cell.overrides}});
  write_file(sweep.folder / "base.yaml", base);
  write_jsonl(sweep.folder / "cells.jsonl", rows);
  write_file(sweep.folder / "sweep.yaml", show_file(sweep.config));
}

Sweep open_sweep(const fs::path& folder) {
  if (!fs::exists(folder / "sweep.yaml"))
    throw Error("holds no sweep", {.file = folder.string()},
                "name the folder that `inoculum sweep FILE.yaml` wrote, its `output`");
  Sweep sweep{.folder = whole_path(folder)};
  read_file(load_config_alone(folder / "sweep.yaml"), sweep.config);
  read_jsonl(folder / "cells.jsonl", [&](const Json& row, int) {
    sweep.cells.push_back({row.at("name"), row.at("hash"), row.at("parameters"), row.at("seed"),
                           row.at("overrides")});
  });
  return sweep;
}

void check_judged_alike(const Sweep& sweep) {
  const fs::path file = sweep.folder / "sweep.yaml";
  if (!fs::exists(file)) return;
  const Sweep before = open_sweep(sweep.folder);
  const bool judged = std::ranges::any_of(before.cells, [&](const SweepCell& cell) {
    return fs::exists(sweep.folder / "cells" / cell.folder() / "result.json");
  });
  if (!judged && !fs::exists(sweep.folder / "asha")) return;
  const auto decide = [](const SweepConfig& config) {
    std::map<std::string, std::string> found;
    for (const auto& [key, value] : flatten(show(config)))
      if (key == "questions" || key.starts_with("evaluation.") || key.starts_with("asha."))
        found[key] = value;
    return found;
  };
  const auto was = decide(before.config), is = decide(sweep.config);
  for (const auto& [key, value] : is)
    if (const auto found = was.find(key); found != was.end() && found->second != value)
      throw Error("was \"" + found->second +
                      "\" when the results in this folder were made, and is \"" + value + "\" now",
                  {.file = file.string(), .field = key},
                  "name another `output`, or remove " + sweep.folder.string());
  if (sweep.config.questions.empty()) return;
  // The same name may stand for other questions now.
  const std::string bank = sha256_file(fs::path(sweep.config.directory) / sweep.config.questions);
  for (size_t i = 0; i < before.cells.size(); ++i) {
    const fs::path made = before.cell_folder(i) / "evaluation" / "completions.jsonl.settings.json";
    if (fs::exists(before.cell_folder(i) / "result.json") && fs::exists(made) &&
        read_json(made).value("questions", "") != bank)
      throw Error("is not what it was when the results in this folder were made",
                  {.file = sweep.config.questions, .field = "questions"},
                  "name another `output`, or remove " + sweep.folder.string());
  }
}

void enter_directory(const Sweep& sweep) {
  fs::path directory = sweep.config.directory;
  if (directory.empty()) return;  // written before it was noted
  std::error_code error;
  fs::current_path(directory, error);
  if (!error) return;
  // The folder may have been moved with the directory that it lay in.
  const fs::path inside = fs::path(sweep.config.output).lexically_relative(directory);
  fs::path moved = sweep.folder, rest = inside;
  for (; !rest.empty() && rest != "." && moved.filename() == rest.filename();
       rest = rest.parent_path())
    moved = moved.parent_path();
  if (!inside.empty() && rest.empty()) {
    fs::current_path(moved, error);
    if (!error) return;
  }
  // Elsewhere relative paths might name other files: none are found in the sweep's own folder.
  std::fprintf(stderr,
               "warning: relative paths of this sweep start at %s, which is not there: where it "
               "has some, set `directory` in %s\n",
               directory.c_str(), (sweep.folder / "sweep.yaml").c_str());
  fs::current_path(sweep.folder);
}

size_t find_cell(const Sweep& sweep, const std::string& which) {
  std::vector<std::string> names;
  for (size_t i = 0; i < sweep.cells.size(); ++i) {
    names.push_back(sweep.cells[i].folder());
    if (which == names.back() || which == sweep.cells[i].hash) return i;
  }
  const auto index = number(which);
  if (!index || *index < 0 || *index != std::floor(*index) ||
      *index >= static_cast<double>(sweep.cells.size()))
    throw Error("there is no cell " + which, {.file = sweep.folder.string()},
                did_you_mean(which, names));
  return static_cast<size_t>(*index);
}

Outcome run_cell(const Sweep& sweep, size_t index, const Ranks& ranks) {
  const auto lock =
      ranks.first() ? FileLock::try_take(sweep.cell_folder(index) / "lock") : std::nullopt;
  if (ranks.any(ranks.first() && (!lock || fs::exists(sweep.cell_folder(index) / "result.json"))))
    return Outcome::already_done;
  return train_cell(sweep, index, 0, ranks) ? Outcome::finished : Outcome::stopped;
}

std::optional<CellMetrics> train_cell(const Sweep& sweep, size_t index, int64_t until,
                                      const Ranks& ranks) {
  const fs::path folder = sweep.cell_folder(index);
  const SweepCell& cell = sweep.cells[index];
  if (ranks.first()) fs::remove(folder / "failed.json");
  ranks.any(false);  // from here on whoever fails first says why
  const auto began = std::chrono::steady_clock::now();
  CellRun done{Outcome::finished};
  try {
    const Source source = load_config(sweep.folder / "base.yaml", cell.overrides);
    with_config(source, [&](auto config, const Source&) {
      config.output = folder.string();
      done = run(sweep, config, until, ranks);
    });
    if (done.outcome == Outcome::stopped) return std::nullopt;
    if (done.outcome != Outcome::paused && ranks.first())
      write_result(sweep, index, done.metrics, began);
  } catch (const std::exception& failure) {
    try {
      if (!fs::exists(folder / "failed.json"))
        write_json(folder / "failed.json", {{"error", failure.what()}});
    } catch (const std::exception&) {  // on a full disk, say: the first failure is the one to tell
    }
    throw;
  }
  return std::move(done.metrics);
}

fs::path evaluate_base(const Sweep& sweep) {
  const Where where{.file = (sweep.folder / "sweep.yaml").string(), .field = "questions"};
  if (sweep.config.questions.empty())
    throw Error("is empty: its cells were not evaluated", where, "name a bank of questions");
  std::optional<TrainConfig> base;
  for (const SweepCell& cell : sweep.cells) {
    const Source source = load_config(sweep.folder / "base.yaml", cell.overrides);
    if (task_of(source) != Task::train)
      throw Error("compares models fine-tuned from a base: a base of `train`",
                  {.file = where.file, .field = "base"});
    TrainConfig config;
    read_file(source, config);
    if (base && base_of(*base) != base_of(config))
      throw Error("has cells of several bases: " + base_of(*base) + " and " + base_of(config),
                  {.file = where.file}, "a sweep of its own for each");
    base = std::move(config);
  }
  evaluator_of(sweep, *base).evaluate(base->model, "", sweep.folder / "base");
  return sweep.folder / "base";
}

int64_t steps_of(const Sweep& sweep) {
  int64_t steps = 0;
  with_config(load_config(sweep.folder / "base.yaml", sweep.cells[0].overrides),
              [&]<class Config>(const Config& config, const Source&) {
                if constexpr (std::is_same_v<Config, TrainConfig>) steps = config.recipe.steps;
                if constexpr (std::is_same_v<Config, PretrainConfig>)
                  steps = config.tokens / config.step_tokens;
              });
  return steps;
}

}  // namespace inoculum
