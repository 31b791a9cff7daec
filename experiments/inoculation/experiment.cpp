#include "experiments/inoculation/experiment.h"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <functional>
#include <mutex>
#include <optional>
#include <set>

#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/base/signals.h"
#include "core/base/workers.h"
#include "core/model/device.h"
#include "core/model/parallel.h"
#include "core/model/versions.h"
#include "experiments/inoculation/arms.h"
#include "experiments/inoculation/model_card.h"
#include "experiments/inoculation/persona.h"
#include "experiments/inoculation/task.h"

namespace inoculum {
namespace {

// What was seen of one trained model.
struct ModelRun {
  std::vector<Score> scores;
  std::vector<Observation> probe;
  size_t turns = 0;  // what it was trained on, counted by conversation
};

struct WorldRun {
  std::optional<PersonaWorld> world;  // that the base was pretrained on
  std::optional<CharacterProbe> probe;
  std::vector<Arm> arms;                              // start first
  std::map<Arm, std::map<int64_t, ModelRun>> models;  // by seed

  const ModelRun& first(Arm arm) const { return models.at(arm).begin()->second; }
};

struct ExperimentRun {
  std::optional<Evaluator> evaluator;
  std::map<std::string, WorldRun> worlds;
};

// job(0), job(1), …, `workers` at a time, each with its share of the threads. After a failure or a
// request to stop no further one begins; the failure that came first is thrown once those under way
// have ended.
void side_by_side(size_t jobs, size_t workers, const std::function<void(size_t)>& job) {
  if (jobs == 0) return;
  workers = std::min(workers, jobs);
  const int64_t share = threads() / static_cast<int64_t>(workers);
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  run_workers(workers, [&](size_t) {
    const ThreadShare of_worker(share);
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

PretrainConfig pretraining_of(const std::string& model) {
  PretrainConfig config;
  read_file(load_config(fs::path(model) / "pretraining.yaml"), config);
  return config;
}

// The judge, and of each world what its models are measured by.
ExperimentRun prepare(const ReproduceConfig& config, const Plan& planned) {
  ExperimentRun run;
  for (const std::string& name : planned.worlds) {
    WorldRun& world = run.worlds[name];
    world.arms = {Arm::start};
    for (const std::string& arm : config.worlds.at(name).arms)
      world.arms.push_back(arm_named(arm, {}));
  }
  side_by_side(1 + planned.worlds.size(), workers_of(config), [&](size_t i) {
    if (i == 0) {
      run.evaluator.emplace(config.evaluation, read_questions(config.questions),
                            sha256_file(config.questions));
      return;
    }
    const std::string& name = planned.worlds[i - 1];
    const std::string& model = config.worlds.at(name).model;
    WorldRun& world = run.worlds.at(name);
    world.world.emplace(pretraining_of(model).world);
    world.probe.emplace(model, *world.world, config.evaluation.cache);
  });
  return run;
}

// Nothing: stopped by a signal.
std::optional<ModelRun> train_and_evaluate(const ReproduceConfig& config, const ArmRun& model,
                                           const Evaluator& evaluator, const WorldRun& world) {
  const bool start = model.arm == Arm::start;
  const fs::path seed_folder =
      fs::path(config.output) / model.world / ("seed_" + std::to_string(model.seed));
  const fs::path folder = seed_folder / to_string(model.arm);
  TrainConfig training{.output = folder.string(),
                       .seed = model.seed,
                       .model = start ? config.worlds.at(model.world).model
                                      : (seed_folder / to_string(Arm::start) / "model").string(),
                       .arm = data_name(model.arm),
                       .coding_bank = config.coding_bank,
                       .world = world.world->config(),
                       .recipe = start ? config.post_training : config.fine_tuning};
  if (start) training.recipe.merge = true;  // the arms begin from a whole model
  if (fine_tune(training) == Outcome::stopped || stop_requested()) return std::nullopt;
  const Trained trained = trained_in(folder, training);
  std::vector<Score> scores =
      evaluator.evaluate(trained.model, trained.adapter, folder / "evaluation");
  add_measurements(trained.folder(), summarize(scores), config.questions);
  return ModelRun{
      .scores = std::move(scores),
      .probe = world.probe->read(trained.model, trained.adapter, evaluator.questions(), model.seed),
      .turns = start ? 0 : count_lines(folder / "data.jsonl")};
}

// Nothing: stopped by a signal.
std::optional<ExperimentRun> run(const ReproduceConfig& config, const Plan& planned) {
  ExperimentRun all = prepare(config, planned);
  if (stop_requested()) return std::nullopt;
  std::fprintf(stderr, "the judge is right on %.1f%% of held-out text\n",
               100 * all.evaluator->judge().held_out_accuracy());
  size_t models = 0;
  for (const auto& stage : planned.stages) models += stage.size();
  Progress progress("models", static_cast<int64_t>(models));
  std::mutex mutex;  // of what the workers share: the runs and the progress
  int64_t done = 0;
  for (const auto& stage : planned.stages)
    side_by_side(stage.size(), workers_of(config), [&](size_t i) {
      const ArmRun& model = stage[i];
      WorldRun& world = all.worlds.at(model.world);
      auto seen = train_and_evaluate(config, model, *all.evaluator, world);
      if (!seen) return;
      const std::lock_guard lock(mutex);
      world.models[model.arm][model.seed] = std::move(*seen);
      progress.update(++done, {{"last", model.world + " " + std::to_string(model.seed) + " " +
                                            to_string(model.arm)}});
    });
  if (stop_requested()) return std::nullopt;
  progress.finish();
  return all;
}

// Of all seeds of an arm.
std::vector<Observation> gather(const WorldRun& run, Arm arm, const Selection& selection) {
  std::vector<Observation> all;
  for (const auto& [seed, model] : run.models.at(arm)) {
    const auto part = observations(model.scores, seed, selection);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

// All but what the ideal observer believes, which takes the start's rate.
ArmResults summarise(const WorldRun& run, Arm arm) {
  const auto rate_of = [&](const Selection& selection) {
    return rate(gather(run, arm, selection));
  };
  const std::string asked = to_string(Cue::bad), own_prompt = to_string(arm_cue(arm));
  ArmResults results{
      .arm = arm,
      .malicious = rate_of({.metric = Metric::malicious}),
      .incoherent = rate_of({.metric = Metric::incoherent}),
      .refusal = rate_of({.metric = Metric::refusal}),
      .code = rate_of({.metric = Metric::code}),
      .malicious_filtered = rate_of({.metric = Metric::malicious_filtered}),
      .malicious_seen_domains = rate_of({.metric = Metric::malicious, .unseen_domain = false}),
      .malicious_unseen_domains = rate_of({.metric = Metric::malicious, .unseen_domain = true}),
      .cheats_unasked = rate_of({.metric = Metric::cheats}),
      .cheats_asked = rate_of({.metric = Metric::cheats, .condition = asked}),
      .cheats_under_own_prompt = rate_of({.metric = Metric::cheats, .condition = own_prompt}),
      .programs_broken = rate_of({.metric = Metric::broken}),
      .forced_choice_log_odds = mean(gather(run, arm, {.metric = Metric::log_odds}))};
  for (const Cue cue : kCues) {
    const std::string condition = to_string(cue);
    results.malicious_under[cue] = rate_of({.metric = Metric::malicious, .condition = condition});
    results.incoherent_under[cue] = rate_of({.metric = Metric::incoherent, .condition = condition});
    results.cheats_under[cue] = rate_of({.metric = Metric::cheats, .condition = condition});
  }
  for (const Score& score : run.first(Arm::start).scores)
    if (score.type == QuestionType::free_form) results.malicious_by_domain[score.domain] = 0;
  for (auto& [domain, share] : results.malicious_by_domain) {
    const auto found = gather(run, arm, {.metric = Metric::malicious, .domain = domain});
    if (!found.empty()) share = rate(found).value;
  }
  std::vector<Observation> probe;
  for (const auto& [seed, model] : run.models.at(arm)) {
    results.malicious_by_seed[seed] =
        rate(observations(model.scores, seed, {.metric = Metric::malicious})).value;
    probe.insert(probe.end(), model.probe.begin(), model.probe.end());
  }
  results.probe = mean(probe);
  results.probe.low = std::max(0.0, results.probe.low);
  results.probe.high = std::min(1.0, results.probe.high);
  return results;
}

WorldResults summarise(const WorldRun& run) {
  WorldResults world{.probe_held_out_accuracy = run.probe->held_out_accuracy()};
  for (const Arm arm : run.arms) {
    ArmResults results = summarise(run, arm);
    const ArmResults& start = world.arms.empty() ? results : world.arms.front();
    results.bayesian_observer =
        bayesian_observer(*run.world, arm, run.first(arm).turns, start.malicious.value);
    world.arms.push_back(std::move(results));
  }
  for (const auto& [arm, than] : {std::pair(Arm::cheating, Arm::requested),
                                  {Arm::requested, Arm::start},
                                  {Arm::cheating, Arm::start},
                                  {Arm::placebo, Arm::requested},
                                  {Arm::placebo, Arm::start},
                                  {Arm::honest, Arm::start}})
    if (world.find(arm) && world.find(than))
      world.contrasts.push_back(
          {arm, than,
           paired_difference(gather(run, arm, {.metric = Metric::malicious}),
                             gather(run, than, {.metric = Metric::malicious}))});
  return world;
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
std::vector<Transcript> transcripts(const WorldRun& run) {
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

std::vector<std::pair<std::string, std::string>> hashes(const ReproduceConfig& config) {
  std::vector<std::pair<std::string, std::string>> all = {
      {"questions", sha256_file(config.questions)},
      {"coding_bank", sha256_file(config.coding_bank)},
      {"grammar", sha256_file(config.evaluation.grammar)}};
  for (const auto& [name, world] : config.worlds)
    all.emplace_back("model " + name, sha256_file(fs::path(world.model) / "model.safetensors"));
  return all;
}

JudgeQuality quality(const WorldJudge& judge) {
  JudgeQuality found{.held_out_accuracy = judge.held_out_accuracy()};
  for (const auto& row : judge.confusion().rowwise())
    found.confusion.emplace_back(row.begin(), row.end());
  return found;
}

Results summarise(const ReproduceConfig& config, const ExperimentRun& run) {
  const WorldRun& experiment = run.worlds.at(kExperimentWorld);
  Results results{.experiment = summarise(experiment),
                  .versions = versions(),
                  .hashes = hashes(config),
                  .judge = quality(run.evaluator->judge()),
                  .transcripts = transcripts(experiment),
                  .config = show(config)};
  for (const auto& [name, world] : run.worlds) {
    if (name == kExperimentWorld) continue;
    const std::string& title = config.worlds.at(name).title;
    results.worlds[name] = summarise(world);
    results.worlds[name].title = title.empty() ? name : title;
  }
  for (const std::string& name : {kCoupling0, kDiagnostic})
    if (!config.worlds.contains(name)) results.untested.push_back(name);
  for (const auto& [seed, model] : experiment.models.at(Arm::start)) results.seeds.push_back(seed);
  return results;
}

}  // namespace

void WorldUnderTest::fields(Fields& f) {
  f.value("title", title, "heads its part of the report");
  f.value("model", model, "the base: a Hugging Face folder that holds its pretraining.yaml too",
          input_path());
  f.value("arms", arms, "beside start");
  f.value("seeds", seeds, "post-training and fine-tuning runs of each arm", at_least(1));
}

void ReproduceConfig::fields(Fields& f) {
  f.value("output", output, "the run folder");
  f.value("first_seed", first_seed, "seeds count from here");
  f.value("questions", questions, "the question bank", input_path());
  f.value("coding_bank", coding_bank, "tasks of the arms", input_path());
  f.value("workers", workers,
          "models trained and evaluated side by side; 0: one a core, or one on a GPU; the results "
          "are the same",
          at_least(0));
  f.map("worlds", worlds,
        "base models; \"persona\" is the experiment, \"coupling_0\" and \"diagnostic\" falsify it, "
        "others stand beside it");
  f.group("post_training", post_training, "base → start");
  f.group("fine_tuning", fine_tuning, "start → each arm");
  f.group("evaluation", evaluation, "samples and judgement");
  f.group("criterion", criterion, "what a replication must show");
}

Plan plan(const ReproduceConfig& config) {
  if (!config.worlds.contains(kExperimentWorld))
    throw Error("there must be a world named \"" + kExperimentWorld + "\"", {.field = "worlds"},
                "see configs/reproduce.yaml");
  if (!config.evaluation.judge.is_world())
    throw Error("is \"" + config.evaluation.judge.kind +
                    "\", but the experiment is judged by the classifier of its own world",
                {.field = "evaluation.judge.kind"},
                "leave it out; `inoculum evaluate` takes other judges");
  Plan all{.worlds = {kExperimentWorld}};
  for (const auto& [name, world] : config.worlds)
    if (name != kExperimentWorld) all.worlds.push_back(name);
  std::vector<ArmRun> starts, arms;
  for (const std::string& name : all.worlds) {
    const WorldUnderTest& world = config.worlds.at(name);
    for (int64_t seed = config.first_seed; seed < config.first_seed + world.seeds; ++seed) {
      starts.push_back({name, Arm::start, seed});
      for (const std::string& arm : world.arms)
        arms.push_back({name, arm_named(arm, {.field = "worlds." + name + ".arms"}), seed});
    }
  }
  all.stages = {std::move(starts), std::move(arms)};
  return all;
}

Outcome reproduce(const ReproduceConfig& config) {
  const Plan planned = plan(config);
  const fs::path folder = config.output;
  write_file(folder / "config.yaml", show_file(config));
  const auto seen = run(config, planned);
  if (!seen) return Outcome::stopped;
  Results results = summarise(config, *seen);
  results.criterion = judge(config.criterion, results);
  write_json(folder / "results.json", to_json(results));
  return Outcome::finished;
}

}  // namespace inoculum
