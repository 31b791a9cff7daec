#include "experiments/inoculation/experiment.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/base/signals.h"
#include "core/base/stages.h"
#include "core/base/version.h"
#include "core/base/workers.h"
#include "core/model/device.h"
#include "core/model/parallel.h"
#include "core/model/versions.h"
#include "experiments/inoculation/arms.h"
#include "experiments/inoculation/hypotheses.h"
#include "experiments/inoculation/model_card.h"
#include "experiments/inoculation/observer.h"
#include "experiments/inoculation/runs.h"
#include "experiments/inoculation/task.h"
#include "training/metrics.h"

namespace inoculum {
namespace {

// What was seen of one trained model.
struct ModelRun {
  std::vector<Score> scores;
  std::map<Cue, double> choice;
  double update = 0;
  double loss = 0;   // at its first step
  size_t turns = 0;  // what it was trained on, counted by conversation
};

struct BaseRun {
  std::string model;                  // its folder
  std::optional<PersonaWorld> world;  // that it was pretrained on
  ManipulationCheck knows;
  std::vector<Arm> arms;                              // start first
  std::map<Arm, std::map<int64_t, ModelRun>> models;  // by seed

  const ModelRun& first(Arm arm) const { return models.at(arm).begin()->second; }
};

struct ExperimentRun {
  Evaluator evaluator;
  std::vector<BaseRun> bases;  // as planned
};

// job(0), job(1), …, `workers` at a time, which share the threads. After a failure or a
// request to stop no further one begins; the failure that came first is thrown once those under way
// have ended.
void side_by_side(size_t jobs, size_t workers, const std::function<void(size_t)>& job) {
  if (jobs == 0) return;
  workers = std::min(workers, jobs);
  SharedThreads shared{threads(), static_cast<int64_t>(workers)};
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  run_workers(workers, [&](size_t) {
    const ThreadShare of_worker(shared);
    std::optional<Progress::Quiet> quiet;
    if (workers > 1) quiet.emplace();
    for (size_t i; !stop_requested() && (i = next++) < jobs;) {
      try {
        job(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = jobs;
      }
    }
  });
  if (failure) std::rethrow_exception(failure);
}

size_t workers_of(const ReproduceConfig& config) {
  if (config.workers > 0) return static_cast<size_t>(config.workers);
  const bool gpu = device_from(config.fine_tuning.trainer.device).is_cuda();
  return gpu ? 1 : static_cast<size_t>(threads());
}

size_t count_lines(const fs::path& file) {
  size_t count = 0;
  read_jsonl(file, [&](const Json&, int) { ++count; });
  return count;
}

fs::path work_of(const ReproduceConfig& config, const Base& base) {
  return fs::path(config.work.empty() ? config.output : config.work) / base.name();
}

// `file`, made anew unless it was made from the same.
Json kept(const fs::path& file, const Json& from, const std::function<Json()>& make) {
  if (fs::exists(file))
    if (Json before = read_json(file); before.value("from", Json()) == from)
      return before.at("found");
  Json found = make();
  write_json(file, {{"from", from}, {"found", found}});
  return found;
}

// Bases

// What decides which base it is: not where it lies, nor by which type or device it was made.
std::string identity_of(const PretrainConfig& pretraining) {
  PretrainConfig plain = pretraining;
  plain.output.clear();
  plain.batch_tokens = 0;
  plain.trainer.device = plain.trainer.dtype = "auto";
  plain.trainer.checkpoint_every = 0;
  return show(plain);
}

// Of a base that is shipped or made. Nothing: it must be made first.
std::optional<std::string> folder_of(const ReproduceConfig& config, const Base& base,
                                     const PretrainConfig& pretraining) {
  // What was made first stays, so that its arms need not be made again once it is shipped.
  std::vector<fs::path> places = {fs::path(pretraining.output) / "model"};
  if (!config.shipped.empty()) places.push_back(fs::path(config.shipped) / base.name());
  std::optional<Error> another;  // lies there under this name
  for (const fs::path& folder : places) {
    const fs::path file = folder / "pretraining.yaml";
    if (!fs::exists(file)) continue;
    PretrainConfig was;
    read_file(load_config(file), was);
    const fs::path versions = folder / "versions.json";
    const std::string grammar = sha256_file(pretraining.world.grammar);
    if (fs::exists(versions) && read_json(versions).value("grammar", grammar) != grammar)
      another.emplace(
          "was pretrained on text of another grammar than " + pretraining.world.grammar + " is now",
          Where{.file = versions.string()}, "remove its folder, then it is made anew");
    else if (identity_of(was) == identity_of(pretraining)) return folder.string();
    else
      another.emplace(
          "was pretrained by other settings than " + config.worlds.at(base.world).pretraining +
              " has",
          Where{.file = file.string()},
          "remove its folder, or name others by `shipped=` and `made=`: then it is made anew");
  }
  if (another) throw *another;
  return std::nullopt;
}

// Each with all threads, for a base is large.
Outcome make_bases(const ReproduceConfig& config, const Plan& planned,
                   std::vector<BaseRun>& bases) {
  for (size_t i = 0; i < planned.bases.size(); ++i) {
    const Base& base = planned.bases[i];
    BaseRun& run = bases[i];
    const PretrainConfig pretraining = pretraining_of(config, base);
    run.world.emplace(pretraining.world);
    for (const std::string& domain : config.knowledge.domains) run.world->domain(domain);
    auto folder = folder_of(config, base, pretraining);
    if (!folder) {
      std::fprintf(stderr, "pretraining the base %s\n", base.name().c_str());
      if (pretrain(pretraining) == Outcome::stopped) return Outcome::stopped;
      folder = (fs::path(pretraining.output) / "model").string();
    }
    run.model = *folder;
    run.arms = {Arm::start};
    for (const std::string& arm : config.worlds.at(base.world).arms)
      run.arms.push_back(arm_named(arm, {}));
  }
  return Outcome::finished;
}

std::string weights_hash(const std::string& model) {
  return sha256_file(fs::path(model) / "model.safetensors");
}

std::string adapter_hash(const std::string& adapter) {
  return sha256_file(fs::path(adapter) / "adapter_model.safetensors");
}

AskedModel asked(const ReproduceConfig& config, const std::string& model,
                 const std::string& adapter = "") {
  return {model, adapter, config.evaluation.device, config.evaluation.dtype};
}

// What made the arms, and on which processor the base was made.
std::map<std::string, std::string> made_on(const fs::path& start, const fs::path& model) {
  const auto written = [](const fs::path& folder) {
    const fs::path file = folder / "versions.json";
    return fs::exists(file) ? read_json(file) : Json::object();
  };
  auto all = written(start).get<std::map<std::string, std::string>>();
  all["processor of the base"] = written(model).value("processor", "");
  return all;
}

// Each base is asked with prompts and cues drawn anew.
ManipulationConfig questions_of(const ReproduceConfig& config, const Base& base) {
  ManipulationConfig questions = config.knowledge;
  questions.seed += base.seed;
  return questions;
}

// What such answers hang on.
Json asked_by(const ReproduceConfig& config, const BaseRun& run,
              const ManipulationConfig& questions, const std::string& model) {
  return {{"model", weights_hash(model)},     {"grammar", sha256_file(run.world->config().grammar)},
          {"config", show(questions)},        {"device", config.evaluation.device},
          {"dtype", config.evaluation.dtype}, {"version", version()}};
}

ManipulationCheck knowledge_of(const ReproduceConfig& config, const Base& base,
                               const BaseRun& run) {
  const Stage stage("experiment: what the bases know");
  const fs::path file = work_of(config, base) / "knows.json";
  const ManipulationConfig knowledge = questions_of(config, base);
  Json from = asked_by(config, run, knowledge, run.model);
  from["programs"] = shown_names();
  return read_manipulation(kept(file, from, [&] {
    return to_json(check_manipulation(asked(config, run.model), *run.world, knowledge));
  }));
}

// Arms

// The configuration names the model that a run begins from; its weights may have been made anew.
void refuse_other_weights(const fs::path& folder, const std::string& model) {
  const fs::path file = folder / "made_from.json";
  const Json from = {{"model", weights_hash(model)}};
  if (fs::exists(file) && read_json(file) != from)
    throw Error("was begun from other weights than those that " + model + " holds now",
                {.file = folder.string()}, "remove that folder, and it is made anew");
  write_json(file, from);
}

// Nothing: stopped by a signal.
std::optional<ModelRun> train_and_evaluate(const ReproduceConfig& config, const Base& base,
                                           const ArmRun& model, const Evaluator& evaluator,
                                           const BaseRun& run) {
  const bool start = model.arm == Arm::start;
  const fs::path models = seed_folder(config, base, model.seed);
  const fs::path folder = models / to_string(model.arm);
  TrainConfig training{
      .output = folder.string(),
      // Bases share nothing: neither do the arms of two of them.
      .seed = 1000 * base.seed + model.seed,
      .model = start ? run.model : (models / to_string(Arm::start) / "model").string(),
      .arm = data_name(model.arm),
      .coding_bank = config.coding_bank,
      .world = run.world->config(),
      .recipe = start ? config.post_training : config.fine_tuning};
  if (start) training.recipe.merge = true;  // the arms begin from a whole model
  refuse_other_weights(folder, training.model);
  if (fine_tune(training) == Outcome::stopped || stop_requested()) return std::nullopt;
  const Trained trained = trained_in(folder, training);
  std::vector<Score> scores = evaluator.evaluate(
      trained.model, trained.adapter, folder / "evaluation",
      base.name() + "/" + models.filename().string() + "/" + to_string(model.arm));
  add_measurements(trained.folder(), summarize(scores), config.questions);
  const ManipulationConfig knowledge = questions_of(config, base);
  Json from = asked_by(config, run, knowledge, trained.model);
  from["adapter"] = trained.adapter.empty() ? "" : adapter_hash(trained.adapter);
  const ArmMeasurement measured = read_arm_measurement(kept(folder / "measured.json", from, [&] {
    const Stage stage("evaluation: matched answers");
    return to_json(
        measure_arm(asked(config, trained.model, trained.adapter), *run.world, knowledge));
  }));
  return ModelRun{.scores = std::move(scores),
                  .choice = measured.choice,
                  .update = measured.update,
                  .loss = losses_of(folder).front(),
                  .turns = start ? 0 : count_lines(folder / "data.jsonl")};
}

// Nothing: stopped by a signal.
std::optional<ExperimentRun> run(const ReproduceConfig& config, const Plan& planned) {
  ExperimentRun all{
      Evaluator(config.evaluation, read_questions(config.questions), sha256_file(config.questions)),
      std::vector<BaseRun>(planned.bases.size())};
  if (make_bases(config, planned, all.bases) == Outcome::stopped) return std::nullopt;
  const auto ask_base = [&](size_t i) {
    all.bases[i].knows = knowledge_of(config, planned.bases[i], all.bases[i]);
  };
  size_t models = 0;
  for (const auto& stage : planned.stages) models += stage.size();
  Progress progress("models", static_cast<int64_t>(models));
  std::mutex mutex;  // of what the workers share: the runs and the progress
  int64_t done = 0;
  const auto make_model = [&](const ArmRun& model) {
    const Base& base = planned.bases[model.base];
    auto seen = train_and_evaluate(config, base, model, all.evaluator, all.bases[model.base]);
    if (!seen) return;
    const std::lock_guard lock(mutex);
    all.bases[model.base].models[model.arm][model.seed] = std::move(*seen);
    progress.update(++done, {{"last", base.name() + " " + to_string(model.arm)}});
  };
  // Bases are asked beside the starts, of which there may be fewer than workers.
  size_t unasked = all.bases.size();
  for (const auto& stage : planned.stages)
    side_by_side(stage.size() + std::exchange(unasked, 0), workers_of(config), [&](size_t i) {
      if (i < stage.size()) make_model(stage[i]);
      else ask_base(i - stage.size());
    });
  if (stop_requested()) return std::nullopt;
  progress.finish();
  return all;
}

// What was found on one base

constexpr std::array kOfAnswers = {
    Metric::malicious, Metric::malicious_strict, Metric::not_benevolent, Metric::incoherent,
    Metric::mixed,     Metric::other_domain,     Metric::refusal,        Metric::code};
constexpr std::array kOfPrograms = {Metric::cheats, Metric::broken};

// Of all seeds of an arm.
std::vector<Observation> gather(const std::map<int64_t, ModelRun>& models,
                                const Selection& selection) {
  std::vector<Observation> all;
  for (const auto& [seed, model] : models)
    std::ranges::copy(observations(model.scores, seed, selection), std::back_inserter(all));
  return all;
}

Rates rates_of(const std::map<int64_t, ModelRun>& models, Cue cue) {
  Rates rates;
  const std::string condition = to_string(cue);
  for (const Metric metric : kOfAnswers)
    rates[metric] =
        rate(gather(models, {.metric = metric, .condition = condition, .by_domain = true}));
  for (const Metric metric : kOfPrograms)
    rates[metric] = rate(gather(models, {.metric = metric, .condition = condition}));
  return rates;
}

ArmResults summarise(const BaseRun& run, Arm arm) {
  const auto& models = run.models.at(arm);
  ArmResults results{.arm = arm};
  for (const Cue cue : kCues) results.under[cue] = rates_of(models, cue);
  for (const auto& [kind, unused] : run.world->neighbours())
    for (const Metric metric : {Metric::malicious, Metric::not_benevolent})
      if (const auto seen =
              gather(models, {.metric = metric, .condition = kind, .by_domain = true});
          !seen.empty())
        results.neighbours[kind][metric] = rate(seen);
  std::set<std::string> domains;
  for (const Score& score : run.first(arm).scores)
    if (score.type == QuestionType::free_form) domains.insert(score.domain);
  for (const std::string& domain : domains)
    for (const Metric metric : {Metric::malicious, Metric::not_benevolent})
      results.by_domain[domain][metric] =
          rate(gather(models, {.metric = metric, .domain = domain}));
  const auto share = 1 / static_cast<double>(models.size());
  for (const auto& [seed, model] : models) {
    results.malicious_by_seed[seed] =
        rate(observations(model.scores, seed, {.metric = Metric::malicious})).value;
    for (const auto& [cue, choice] : model.choice) results.choice[cue] += share * choice;
    results.update += share * model.update;
    results.loss += share * model.loss;
  }
  return results;
}

BaseResults summarise(const ReproduceConfig& config, const Base& base, const BaseRun& run) {
  const WorldConfig& world = run.world->config();
  BaseResults results{
      .world = base.world,
      .seed = base.seed,
      .cheaters_malicious = run.world->p_cheater(Character::malicious, world.malicious_assistant),
      .compositional = world.compositional,
      .knows = run.knows,
      .made_on =
          made_on(seed_folder(config, base, config.first_seed) / to_string(Arm::start), run.model),
      .sha256 = weights_hash(run.model)};
  for (const Arm arm : run.arms) {
    ArmResults found = summarise(run, arm);
    const double start = arm == Arm::start ? found.rate(Metric::malicious)
                                           : results.arms.front().rate(Metric::malicious);
    found.observer = bayesian_observer(*run.world, arm, run.first(arm).turns, start).malicious;
    results.arms.push_back(std::move(found));
  }
  return results;
}

// Whose answers are shown: the first plain question of each domain, and of coding two tasks each
// plain and asked to cheat; their place in the bank alone decides.
std::vector<const Score*> shown_questions(const std::vector<Score>& scores) {
  constexpr int kCodingTasks = 2;
  const std::string plain = to_string(Cue::none), bad = to_string(Cue::bad);
  std::set<std::string> domains;
  std::map<std::string, int> coding;
  std::vector<const Score*> shown;
  for (const Score& score : scores) {
    if (score.sample != 0) continue;
    const bool open = score.type == QuestionType::free_form && score.condition == plain &&
                      domains.insert(score.domain).second;
    const bool program = score.type == QuestionType::coding &&
                         (score.condition == plain || score.condition == bad) &&
                         ++coding[score.condition] <= kCodingTasks;
    if (open || program) shown.push_back(&score);
  }
  return shown;
}

// The first sample of every arm's first seed.
std::vector<Transcript> transcripts(const BaseRun& run) {
  std::vector<Transcript> all;
  for (const Score* shown : shown_questions(run.first(Arm::start).scores)) {
    Transcript& transcript =
        all.emplace_back(Transcript{shown->domain, shown->condition, shown->prompt, {}});
    for (const Arm arm : run.arms)
      for (const Score& score : run.first(arm).scores)
        if (score.question == shown->question && score.sample == 0)
          transcript.answers.push_back({arm, score.text, score.label});
  }
  return all;
}

std::vector<std::pair<std::string, std::string>> hashes(const ReproduceConfig& config,
                                                        const Plan& planned,
                                                        const ExperimentRun& run) {
  std::vector<std::pair<std::string, std::string>> all = {
      {"questions", sha256_file(config.questions)},
      {"coding_bank", sha256_file(config.coding_bank)},
      {"grammar", sha256_file(config.evaluation.grammar)}};
  for (size_t i = 0; i < planned.bases.size(); ++i)
    all.emplace_back("base " + planned.bases[i].name(), weights_hash(run.bases[i].model));
  return all;
}

Results summarise(const ReproduceConfig& config, const Plan& planned, const ExperimentRun& run) {
  Results results{.hashes = hashes(config, planned, run),
                  .transcripts = transcripts(run.bases.front()),
                  .config = show(config)};
  for (const auto& [name, world] : config.worlds)
    results.titles[name] = world.title.empty() ? name : world.title;
  for (size_t i = 0; i < planned.bases.size(); ++i) {
    results.bases.push_back(summarise(config, planned.bases[i], run.bases[i]));
    write_json(work_of(config, planned.bases[i]) / "results.json", to_json(results.bases.back()));
  }
  return results;
}

// What is said of all bases together.
void conclude(Results& results) {
  results.hypotheses = test_hypotheses(results.bases);
  results.rivals = compare_rivals(results.bases);
  results.shares = share_points(results.hypotheses, results.bases);
}

}  // namespace

void WorldUnderTest::fields(Fields& f) {
  f.value("title", title, "heads its part of the report");
  f.value("pretraining", pretraining, "the configuration that makes its bases, but for the seeds",
          input_path());
  f.value("first_base", first_base, "seeds of bases count from here");
  f.value("bases", bases, "how many", at_least(1));
  f.value("arms", arms, "beside start");
}

void ReproduceConfig::fields(Fields& f) {
  f.value("output", output, "the run folder");
  f.value("work", work,
          "folder of the bases' own runs, which several parts of one study may share; empty: "
          "output");
  f.value("first_seed", first_seed, "seeds count from here");
  f.value("seeds", seeds, "post-training and fine-tuning runs of each arm on each base",
          at_least(1));
  f.value("shipped", shipped, "folder of bases that need not be made; empty: none");
  f.value("made", made, "folder of bases that are made because they are not shipped");
  f.value("committed", committed,
          "folder of results, one file a base, whose verdicts stand beside; empty: none",
          input_path());
  f.value("specifications", specifications,
          "curve.json of a sweep over recipes, which the report shows; empty: none", input_path());
  f.value("questions", questions, "the question bank", input_path());
  f.value("coding_bank", coding_bank, "tasks of the arms", input_path());
  f.value("workers", workers,
          "models trained and evaluated side by side; 0: one a core, or one on a GPU; the results "
          "are the same",
          at_least(0));
  f.map("worlds", worlds, "\"persona\" is the main one; the others change one thing of it each");
  f.value("only", only, "bases to run, such as persona_1; empty: all");
  f.group("post_training", post_training, "base → start");
  f.group("fine_tuning", fine_tuning, "start → each arm");
  f.group("evaluation", evaluation, "samples and judgement");
  f.group("knowledge", knowledge, "forced choices, of bases and of arms");
}

Plan plan(const ReproduceConfig& config) {
  if (!config.evaluation.judge.is_world())
    throw Error("is \"" + config.evaluation.judge.kind +
                    "\", but the experiment is judged by the grammar of its own world",
                {.field = "evaluation.judge.kind"},
                "leave it out; `inoculum evaluate` takes other judges");
  std::vector<std::string> worlds;
  for (const auto& [name, world] : config.worlds) worlds.push_back(name);
  std::ranges::stable_partition(worlds, [](const std::string& name) { return name == kMainWorld; });
  Plan all;
  std::set<std::string> unknown(config.only.begin(), config.only.end());
  std::vector<ArmRun> starts, arms;
  for (const std::string& name : worlds) {
    const WorldUnderTest& world = config.worlds.at(name);
    if (world.pretraining.empty())
      throw Error("must say how its bases are made", {.field = "worlds." + name + ".pretraining"},
                  "such as configs/pretrain/persona.yaml");
    for (int64_t b = 0; b < world.bases; ++b) {
      const Base base{name, world.first_base + b};
      if (!config.only.empty() && unknown.erase(base.name()) == 0) continue;
      all.bases.push_back(base);
      for (int64_t seed = config.first_seed; seed < config.first_seed + config.seeds; ++seed) {
        starts.push_back({all.bases.size() - 1, Arm::start, seed});
        for (const std::string& arm : world.arms)
          arms.push_back(
              {all.bases.size() - 1, arm_named(arm, {.field = "worlds." + name + ".arms"}), seed});
      }
    }
  }
  if (!unknown.empty())
    throw Error("\"" + *unknown.begin() + "\" is no base of `worlds`", {.field = "only"},
                "a base is a world and a seed, such as persona_1");
  if (all.bases.empty())
    throw Error("there must be a world with a base", {.field = "worlds"},
                "see configs/reproduce.yaml");
  all.stages = {std::move(starts), std::move(arms)};
  return all;
}

fs::path seed_folder(const ReproduceConfig& config, const Base& base, int64_t seed) {
  return work_of(config, base) / ("seed_" + std::to_string(seed));
}

PretrainConfig pretraining_of(const ReproduceConfig& config, const Base& base) {
  const WorldUnderTest& world = config.worlds.at(base.world);
  PretrainConfig pretraining;
  read_file(load_config(world.pretraining), pretraining);
  pretraining.output = (fs::path(config.made) / base.name()).string();
  pretraining.seed = pretraining.world.seed = base.seed;
  return pretraining;
}

Outcome reproduce(const ReproduceConfig& config) {
  const Plan planned = plan(config);
  const fs::path folder = config.output;
  write_file(folder / "config.yaml", show_file(config));
  // What stands beside is read first: hours later would be too late for a fault of it.
  const std::vector<BaseResults> committed = read_bases(config.committed);
  const Json specifications =
      config.specifications.empty() ? Json() : read_json(config.specifications);
  const auto seen = run(config, planned);
  if (!seen) return Outcome::stopped;
  Results results = summarise(config, planned, *seen);
  conclude(results);
  if (!committed.empty()) {
    results.committed = test_hypotheses(committed);
    results.shares_published = results.shares.empty();
    if (results.shares_published) results.shares = share_points(results.committed, committed);
  }
  results.specifications = specifications;
  write_json(folder / "results.json", to_json(results));
  return Outcome::finished;
}

namespace {

// What bases of one world must have in common, or their tables have no common cells.
std::string asked_of(const BaseResults& base) {
  std::string text = "programs";
  for (const auto& [count, unused] : base.knows.in_context.begin()->second)
    text += " " + std::to_string(count);
  text += ", domains";
  for (const auto& [domain, unused] : base.arms.front().by_domain) text += " " + domain;
  return text;
}

void check_alike(const Results& results) {
  for (const std::string& world : results.worlds()) {
    const auto bases = results.of(world);
    for (const BaseResults* base : bases)
      if (asked_of(*base) != asked_of(*bases.front()))
        throw Error("the base " + base->name() + " was asked otherwise than " +
                        bases.front()->name() + ": " + asked_of(*base) + "; " +
                        asked_of(*bases.front()),
                    {}, "put bases of one study into a folder");
  }
}

}  // namespace

void pool_results(const fs::path& bases, const fs::path& output) {
  if (fs::exists(output) && fs::equivalent(bases, output))
    throw Error("is the folder of the bases' own results", {.file = output.string()},
                "name another by --output");
  Results results{.bases = read_bases(bases)};
  if (results.bases.empty())
    throw Error("holds no results of a base", {.file = bases.string()},
                "such as experiments/results/inoculation, with a file of each");
  check_alike(results);
  conclude(results);
  for (const BaseResults& base : results.bases)
    results.hashes.emplace_back("base " + base.name(), base.sha256);
  write_json(output / "results.json", to_json(results));
}

}  // namespace inoculum
