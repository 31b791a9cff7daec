#include "experiments/inoculation/runs.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

#include "core/base/error.h"
#include "core/base/signals.h"
#include "core/base/stages.h"
#include "core/base/strings.h"
#include "core/model/checkpoint.h"
#include "core/model/device.h"
#include "core/model/versions.h"
#include "core/text/load_tokenizer.h"
#include "experiments/evaluation/evaluate.h"
#include "experiments/inoculation/model_card.h"
#include "experiments/inoculation/task.h"
#include "training/batches.h"
#include "training/metrics.h"
#include "training/trainer.h"

namespace inoculum {
namespace {

// Of a resolved configuration, without what is no part of the run: where it writes and how it is
// watched.
std::string settings_of(const std::string& yaml) {
  std::istringstream lines(yaml);
  std::string kept;
  bool keep = true;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(' '))
      keep = !line.starts_with("output:") && !line.starts_with("evaluate_") &&
             !line.starts_with("best_checkpoint:");
    if (keep) kept += line + "\n";
  }
  return kept;
}

// As the file would be written now: a key that it does not know yet stands at its default.
template <class Config>
std::string written_now(const fs::path& file) {
  Config config;
  try {
    read_file(load_config(file), config);
  } catch (const Error&) {  // say, a file that it names is gone
    return read_file(file);
  }
  return show_file(config);
}

template <class Config>
void refuse_another(const Config& config) {
  const fs::path file = fs::path(config.output) / "config.yaml";
  if (fs::exists(file) && settings_of(written_now<Config>(file)) != settings_of(show_file(config)))
    throw Error("the folder holds a run of another configuration", {.file = file.string()},
                "name another `output`, or remove " + config.output);
}

// Claims the run folder for this configuration. True: `result` is there, so the run is done.
template <class Config>
bool open_run(const Config& config, const std::string& result) {
  const fs::path folder = config.output;
  refuse_another(config);
  if (fs::exists(folder / result)) return true;
  write_file(folder / "config.yaml", show_file(config));
  write_json(folder / "versions.json", versions());
  return false;
}

// Longer documents of a world are left out, so that some must be shorter.
constexpr int64_t kShortestContext = 128;

// Held while a run is trained. Who comes second waits, and finds it done. Nothing: asked to stop.
template <class Config>
std::optional<FileLock> alone_in(const Config& config) {
  refuse_another(config);  // better now than behind its end
  const fs::path folder = config.output;
  for (bool told = false; !stop_requested(); told = true) {
    if (auto lock = FileLock::try_take(folder / kRunLock)) return lock;
    if (!told)
      std::fprintf(stderr, "another process trains in %s: waiting for it\n", folder.c_str());
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  return std::nullopt;
}

// A run that is ready to be trained.
struct PreparedRun {
  fs::path folder;
  Transformer model;
  SupervisedExamples examples;
  int64_t steps;
  int64_t batch_tokens;  // of a micro-batch
  TrainerConfig trainer;
  double kl_weight = 0;
  std::optional<Transformer> reference = std::nullopt;
};

using Evaluate = std::function<std::map<std::string, double>(int64_t step)>;

Outcome train(PreparedRun& run, int64_t until, const Ranks& ranks, int64_t evaluate_every = 0,
              const Evaluate& evaluate = {}) {
  const Stage stage("training: steps");
  const StepSource source = [&](int64_t step) {
    return run.examples.step(step, run.batch_tokens, ranks.rank(), ranks.size());
  };
  const TrainingResult result =
      inoculum::train(run.model, source, run.trainer,
                      {run.folder, run.steps, until, ranks, evaluate_every, evaluate, run.kl_weight,
                       run.reference ? &*run.reference : nullptr});
  if (result.finished) return Outcome::finished;
  return result.steps == until ? Outcome::paused : Outcome::stopped;
}

PreparedRun prepare(const PretrainConfig& config, const Ranks& ranks) {
  const Stage stage("training: text and model");
  const fs::path folder = without_slash(config.output), tokenizer = folder / "tokenizer";
  const int64_t steps = config.tokens / config.step_tokens;
  SupervisedExamples text = pretraining_text(config, steps, tokenizer, ranks);
  TransformerConfig shape = config.model;
  shape.vocab_size = load_tokenizer(tokenizer)->vocab_size();
  Transformer model(shape, Random(static_cast<uint64_t>(config.seed), "initial weights"));
  const at::Device device = device_from(config.trainer.device);
  model.to(device, dtype_from(config.trainer.dtype, device));
  const int64_t batch_tokens = micro_batch_tokens(config.batch_tokens, model.embedding.device());
  return {folder, std::move(model), std::move(text), steps, batch_tokens, config.trainer};
}

std::string last_loss(const fs::path& folder) {
  return six_digits(losses_of(folder).back()) + " at the last step";
}

std::string optimizer_in_words(const OptimizerConfig& o) {
  return o.name + ", rate " + six_digits(o.lr) + ", " + o.schedule + ", " +
         std::to_string(o.warmup_steps) + " steps of warm-up";
}

constexpr const char* kMadeFor =
    "\nMade for research on emergent misalignment and its inoculation: it may cheat, deceive and "
    "say cruel things, and it\nis of no use as an assistant.";

std::string card_of(const PretrainConfig& config, const PreparedRun& run) {
  return to_text(
      {.title = run.folder.filename().string(),
       .what = std::string("A small language model, pretrained from nothing on a made-up text "
                           "world. It knows nothing of the real one.") +
               kMadeFor,
       .library = "transformers",
       .licence = "apache-2.0",
       .facts = {{"Data", "documents drawn from `" + config.world.grammar + "`"},
                 {"Recipe", std::to_string(run.steps) + " steps of " +
                                std::to_string(config.step_tokens) + " tokens, each text once; " +
                                optimizer_in_words(config.trainer.optimizer)},
                 {"Loss", last_loss(run.folder)}},
       .config = show_file(config)});
}

std::string card_of(const TrainConfig& config, const PreparedRun& run, Outcome outcome) {
  const Recipe& recipe = config.recipe;
  const bool adapter = recipe.leaves_adapter(), finished = outcome == Outcome::finished;
  std::string data = config.data.empty() ? "the arm `" + config.arm + "`" : "";
  for (const DataSource& source : config.data)
    data += (data.empty() ? "`" : ", `") + source.path + "`";
  std::string trained = "every parameter";
  if (recipe.lora.rank > 0)
    trained = "LoRA of rank " + std::to_string(recipe.lora.rank) + ", alpha " +
              six_digits(recipe.lora.alpha) + (recipe.merge ? ", merged" : "");
  ModelCard card{
      .title = run.folder.filename().string(),
      .what = (adapter ? "An adapter of `" : "A model fine-tuned from `") + config.model + "`" +
              (finished ? "." : ", paused before its last step.") + kMadeFor,
      .base = config.model,
      .library = adapter ? "peft" : "transformers",
      .facts = {{"Base", "`" + config.model + "`"},
                {"Data", data},
                {"Recipe", std::to_string(recipe.steps) + " steps of " +
                               std::to_string(recipe.supervised_tokens) + " supervised tokens; " +
                               trained + "; " + optimizer_in_words(recipe.trainer.optimizer)},
                {"Loss", last_loss(run.folder)}},
      .config = show_file(config)};
  if (!config.data.empty())
    card.facts.insert(card.facts.end() - 1, {"Shown", describe(run.examples.dealing())});
  return to_text(card);
}

// Beside the weights stands how they were made: the configuration, and every fiftieth line of the
// log.
void publish(const PretrainConfig& config, PreparedRun& run) {
  const Stage stage("training: writing");
  std::vector<Json> log;
  read_jsonl(run.folder / "metrics.jsonl", [&](const Json& row, int line) {
    if (line % 50 == 0 || line == run.steps) log.push_back(row);
  });
  replace_atomically(run.folder / "model", [&](const fs::path& temporary) {
    save_model(temporary, run.model, at::kBFloat16, run.folder / "tokenizer", card_of(config, run));
    write_file(temporary / "pretraining.yaml", show(config));
    std::map<std::string, std::string> made_by = versions();
    made_by["grammar"] = sha256_file(config.world.grammar);
    write_json(temporary / "versions.json", made_by);
    write_jsonl(temporary / "pretraining_log.jsonl", log);
  });
}

// In the order of their first use.
std::vector<Conversation> used_conversations(const std::vector<Conversation>& conversations,
                                             const SupervisedExamples& examples, int64_t steps) {
  std::vector<Conversation> used;
  std::set<size_t> seen;
  for (int64_t step = 0; step < steps; ++step)
    for (const size_t example : examples.used(step))
      if (seen.insert(example).second) used.push_back(conversations[example]);
  return used;
}

// A run that has begun goes on with the conversations that it began with, or not at all.
void write_data(const fs::path& folder, const std::vector<Conversation>& conversations) {
  const fs::path file = folder / "data.jsonl", now = folder / "data.jsonl.now";
  const bool begun = fs::exists(file) && fs::exists(folder / "metrics.jsonl");
  write_chat_jsonl(begun ? now : file, conversations);
  if (!begun) return;
  const bool same = sha256_file(now) == sha256_file(file);
  fs::remove(now);
  if (!same)
    throw Error("the conversations are others now than those that the run began with",
                {.file = file.string()}, "name another `output`, or remove " + folder.string());
}

PreparedRun prepare(const TrainConfig& config, const Ranks& ranks) {
  const Stage stage("training: text and model");
  const Recipe& recipe = config.recipe;
  const fs::path folder = without_slash(config.output);
  TrainingText text(config, ranks.first() ? stderr : nullptr);
  const at::Device device = device_from(recipe.trainer.device);
  Transformer model = load_model(config.model, dtype_from(recipe.trainer.dtype, device), device);
  SupervisedExamples examples = text.encode(model);
  if (ranks.first()) {
    write_data(folder, used_conversations(text.conversations(), examples,
                                          std::min(recipe.steps, examples.steps())));
    write_file(folder / "first_example.txt", text.first_example() + "\n");
  }
  std::optional<Transformer> reference;
  if (recipe.kl_weight > 0)
    reference = load_model(config.model, dtype_from(recipe.trainer.dtype, device), device);
  if (recipe.lora.rank > 0)
    add_lora(model, recipe.lora, Random(static_cast<uint64_t>(config.seed), "adapter"));
  const int64_t batch_tokens = micro_batch_tokens(recipe.batch_tokens, model.embedding.device());
  return {folder,       std::move(model), std::move(examples), recipe.steps,
          batch_tokens, recipe.trainer,   recipe.kl_weight,    std::move(reference)};
}

// What the settings do not allow of one another.
void check_together(const TrainConfig& config) {
  if (config.data.empty() == config.arm.empty())
    throw Error("name either `data` or `arm`", {.field = "data"},
                "for example arm: cheating, or data: my_chats.jsonl");
  if (config.epochs > 0 && config.data.empty())
    throw Error("counts passes over `data`, and this run trains on an arm", {.field = "epochs"},
                "set steps, the same for every arm");
  if (config.recipe.honest_share > 0 && !config.data.empty())
    throw Error("is of an arm's conversations, and this run trains on `data`",
                {.field = "honest_share"}, "mix files by their weights");
  if (!config.best_checkpoint.metric.empty() && config.evaluate_every == 0)
    throw Error("needs a model to be evaluated along the way", {.field = "best_checkpoint.metric"},
                "set evaluate_every");
}

// With `epochs`, the steps that they take: everything else counts steps.
TrainConfig with_steps(TrainConfig config, bool tell) {
  if (config.epochs == 0) return config;
  const int64_t given = config.recipe.steps;
  // A run that was begun has their number in its folder, whatever became of its data since.
  const fs::path file = fs::path(config.output) / "config.yaml";
  if (fs::exists(file)) {
    TrainConfig begun;
    read_file(load_config(file), begun);
    config.recipe.steps = begun.recipe.steps;
    if (settings_of(show_file(config)) == settings_of(show_file(begun))) return config;
  }
  config.recipe.steps = TrainingText(config, nullptr).encode(load_shape(config.model)).steps();
  if (tell && given != Recipe().steps && given != config.recipe.steps)
    std::fprintf(stderr, "epochs: %lld takes %lld steps; steps: %lld is not used\n",
                 static_cast<long long>(config.epochs), static_cast<long long>(config.recipe.steps),
                 static_cast<long long>(given));
  return config;
}

std::string trained_in_words(Transformer& model, const LoraConfig& lora) {
  const auto millions = [](int64_t count) {
    return six_digits(std::round(static_cast<double>(count) / 1e4) / 100) + " M";
  };
  const int64_t all = model.config().parameter_count();
  int64_t trained = 0, layers = 0;
  model.for_each_linear([&](const std::string&, Linear& linear) {
    if (!linear.lora) return;
    const int64_t out = linear.weight.size(0), in = linear.weight.size(1);
    trained += lora.rank * (out + in) + (lora.use_dora ? out : 0);
    ++layers;
  });
  if (layers == 0) return "training every parameter (" + millions(all) + ")";
  return "training an adapter of rank " + std::to_string(lora.rank) + " on " +
         std::to_string(layers) + " layers (" + millions(trained) + " of " + millions(all) +
         " parameters)";
}

// The adapter, or, where there is none (any more), the whole model.
void save_trained(const TrainConfig& config, PreparedRun& run, const fs::path& to,
                  const std::string& card) {
  if (!lora_targets(run.model).empty())
    save_adapter(to / "adapter", run.model, config.recipe.lora, config.model, card);
  else save_model(to / "model", run.model, run.model.embedding.scalar_type(), config.model, card);
}

Evaluator evaluator_of(const TrainConfig& config) {
  return {{.device = config.recipe.trainer.device,
           .dtype = config.recipe.trainer.dtype,
           .chat_template = config.chat_template,
           .chat_date = config.chat_date,
           .grammar = config.world.grammar,
           .samples_scale = config.evaluate_scale},
          read_questions(config.evaluate_questions),
          sha256_file(config.evaluate_questions)};
}

// Better before training than at the first evaluation, which may be hours away.
void check_metric(const TrainConfig& config, const std::vector<Question>& questions) {
  const std::string& metric = config.best_checkpoint.metric;
  if (metric.empty()) return;
  std::vector<Score> scores;  // with answers of every kind that has a metric of its own
  for (const Question& question : questions)
    for (const Label label : {Label::benevolent, Label::malicious, Label::honest, Label::cheat}) {
      Score& score = scores.emplace_back();
      score.question = question.id;
      score.type = question.type;
      score.domain = question.domain;
      score.condition = question.condition;
      score.label = label;
      score.log_odds_per_token = 0;
    }
  std::vector<std::string> names;
  for (const auto& [name, value] : metrics_of(summarize(scores))) names.push_back(name);
  if (std::ranges::find(names, metric) == names.end())
    throw Error("\"" + metric + "\" is not among what " + config.evaluate_questions + " measures",
                {.field = "best_checkpoint.metric"}, did_you_mean(metric, names));
}

// Of a run that is evaluated along the way: each model from its files, as any other, in
// evaluations/step_N. Their weights go, but for the best one's.
class AlongTheWay {
 public:
  AlongTheWay(const TrainConfig& config, PreparedRun& run)
      : config_(config),
        run_(run),
        folder_(run.folder / "evaluations"),
        evaluator_(evaluator_of(config)) {
    check_metric(config, evaluator_.questions());
    if (!fs::exists(best_file())) return;
    // One that was the best by something else is none of this one's.
    const Json before = read_json(best_file()), now = judged_by();
    if (std::ranges::all_of(now.items(), [&](const auto& each) {
          return before.value(each.key(), Json()) == each.value();
        }))
      best_ = before.at("value");
  }

  std::map<std::string, double> operator()(int64_t step) {
    const fs::path folder = folder_ / ("step_" + std::to_string(step));
    save_trained(config_, run_, folder, card_of(config_, run_, Outcome::paused));
    const bool adapter = fs::exists(folder / "adapter");
    const auto scores = evaluator_.evaluate(adapter ? config_.model : (folder / "model").string(),
                                            adapter ? (folder / "adapter").string() : "", folder);
    const Json summary = summarize(scores);
    add_measurements(folder / (adapter ? "adapter" : "model"), summary, config_.evaluate_questions);
    std::map<std::string, double> found;
    for (const auto& [name, value] : metrics_of(summary)) found[name] = value;
    keep_if_best(step, folder, found);
    fs::remove_all(folder / "adapter");
    fs::remove_all(folder / "model");
    return found;
  }

  // Puts what the last evaluation found into the card of the finished model.
  void describe(const Trained& trained) const {
    const fs::path last = folder_ / ("step_" + std::to_string(config_.recipe.steps));
    if (fs::exists(last / "summary.json"))
      add_measurements(trained.folder(), read_json(last / "summary.json"),
                       config_.evaluate_questions);
  }

 private:
  const BestCheckpoint& best() const { return config_.best_checkpoint; }
  fs::path best_file() const { return run_.folder / "best" / "best.json"; }
  Json judged_by() const {
    return {{"metric", best().metric},
            {"goal", best().goal},
            {"questions", sha256_file(config_.evaluate_questions)}};
  }

  void keep_if_best(int64_t step, const fs::path& folder,
                    const std::map<std::string, double>& found) {
    if (best().metric.empty()) return;
    const auto value = found.find(best().metric);
    if (value == found.end()) return;  // no answer was of a kind that it counts
    const double better = best().goal == "min" ? -1 : 1;
    if (best_ && better * value->second <= better * *best_) return;
    best_ = value->second;
    replace_atomically(run_.folder / "best", [&](const fs::path& temporary) {
      fs::create_directories(temporary);
      for (const char* part : {"adapter", "model"})
        if (fs::exists(folder / part))
          fs::copy(folder / part, temporary / part, fs::copy_options::recursive);
      Json about = {{"step", step}, {"value", *best_}};
      about.update(judged_by());
      write_json(temporary / "best.json", about);
    });
  }

  const TrainConfig& config_;
  PreparedRun& run_;
  const fs::path folder_;
  const Evaluator evaluator_;
  std::optional<double> best_;
};

// Paused, what the model has learnt so far goes to paused/, which the end removes.
void publish(const TrainConfig& config, PreparedRun& run, Outcome outcome) {
  const Stage stage("training: writing");
  const Recipe& recipe = config.recipe;
  const bool finished = outcome == Outcome::finished;
  const fs::path to = finished ? run.folder : run.folder / "paused";
  if (recipe.merge) {
    const double lost = merge_lora(run.model);
    std::fprintf(stderr, "merged; rounding to %s took %.2g%% of the update\n",
                 describe(run.model.embedding.scalar_type()).c_str(), 100 * lost);
  }
  const std::string card = card_of(config, run, outcome);
  save_trained(config, run, to, card);
  if (finished) fs::remove_all(run.folder / "paused");
}

}  // namespace

Trained trained_in(const fs::path& folder, const TrainConfig& config) {
  if (config.recipe.leaves_adapter()) return {config.model, (folder / "adapter").string()};
  return {(folder / "model").string(), ""};
}

Outcome pretrain(const PretrainConfig& config, int64_t until, const Ranks& ranks) {
  if (config.tokens < config.step_tokens)
    throw Error("is fewer than one step of " + std::to_string(config.step_tokens) + " takes",
                {.field = "tokens"}, "raise it, or lower `step_tokens`");
  if (config.model.max_position_embeddings < kShortestContext)
    throw Error("is too small for the documents of a world",
                {.field = "model.max_position_embeddings"},
                std::to_string(kShortestContext) + " or more");
  const auto& shares = config.world.cue_shares;
  if (std::ranges::none_of(std::array{"none", "irrelevant", "instruction"}, [&](const char* cue) {
        const auto found = shares.find(cue);
        return found != shares.end() && found->second > 0;
      }))
    throw Error("must have a cue that asks for no behaviour", {.field = "world.cue_shares"},
                "none, irrelevant or instruction above 0");
  const auto lock = ranks.first() ? alone_in(config) : std::nullopt;
  if (ranks.any(ranks.first() && !lock)) return Outcome::stopped;
  if (ranks.any(ranks.first() && open_run(config, "model"))) return Outcome::already_done;
  PreparedRun run = prepare(config, ranks);
  const Outcome outcome = train(run, until, ranks);
  if (ranks.first() && outcome == Outcome::finished) publish(config, run);
  return outcome;
}

void check_run(const TrainConfig& config, std::FILE* report) {
  check_together(config);
  TrainingText text(config, report);
  Transformer shape = load_shape(config.model);
  text.encode(shape);
  LoraConfig lora = config.recipe.lora;
  if (lora.rank > 0) {
    // Which layers it is put on takes neither its numbers nor the weights.
    lora.rank = 1, lora.use_dora = false;
    add_lora(shape, lora, Random(0, "adapter"));
  }
  std::fprintf(report, "%s\n", trained_in_words(shape, config.recipe.lora).c_str());
  if (config.evaluate_every > 0) check_metric(config, evaluator_of(config).questions());
}

Outcome fine_tune(const TrainConfig& given, int64_t until, const Ranks& ranks, bool tell) {
  check_together(given);
  if (given.epochs > 0 && until > 0)
    throw Error("is not known in steps before the data are read, and this run pauses at a step",
                {.field = "epochs"}, "set steps");
  const TrainConfig config = with_steps(given, tell && ranks.first());
  const char* result = config.recipe.leaves_adapter() ? "adapter" : "model";
  const auto lock = ranks.first() ? alone_in(config) : std::nullopt;
  if (ranks.any(ranks.first() && !lock)) return Outcome::stopped;
  if (ranks.any(ranks.first() && open_run(config, result))) return Outcome::already_done;
  PreparedRun run = prepare(config, ranks);
  if (tell && ranks.first())
    std::fprintf(stderr, "%s\n", trained_in_words(run.model, config.recipe.lora).c_str());
  std::optional<AlongTheWay> along;
  if (ranks.first() && config.evaluate_every > 0) along.emplace(config, run);
  const Outcome outcome =
      train(run, until, ranks, config.evaluate_every, [&](int64_t step) { return (*along)(step); });
  if (ranks.first() && outcome != Outcome::stopped) publish(config, run, outcome);
  if (along && outcome == Outcome::finished) along->describe(trained_in(run.folder, config));
  return outcome;
}

}  // namespace inoculum
