#include "experiments/inoculation/pipeline.h"

#include <torch/version.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <mutex>
#include <optional>
#include <thread>

#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/base/signals.h"
#include "core/model/device.h"
#include "core/model/parallel.h"
#include "experiments/inoculation/arms.h"
#include "experiments/inoculation/persona.h"

namespace inoculum {
namespace {

// What one world's models did: the scores of each arm and seed, and what was read from the models.
struct WorldRun {
  std::optional<PersonaWorld> world;  // that the base was pretrained on
  std::vector<Arm> arms;              // start first
  std::map<Arm, std::map<int64_t, std::vector<Score>>> scores;
  std::optional<CharacterProbe> probe;
  std::map<Arm, std::map<int64_t, std::vector<Observation>>> readings;
  std::map<Arm, size_t> turns;  // what an arm trains on, counted by conversation
  std::mutex mutex;             // of what the seeds write: scores, readings, turns
};

size_t count_lines(const fs::path& file) {
  size_t count = 0;
  read_jsonl(file, [&](const Json&, int) { ++count; });
  return count;
}

PretrainConfig pretraining_of(const std::string& model) {
  PretrainConfig config;
  read(load_config(fs::path(model) / "pretraining.yaml"), config);
  return config;
}

std::vector<Observation> gather(const WorldRun& run, Arm arm, const Selection& selection) {
  std::vector<Observation> all;
  for (const auto& [seed, scores] : run.scores.at(arm)) {
    const auto part = observations(scores, seed, selection);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

std::string own_condition(Arm arm) { return to_string(arm_cue(arm)); }

// One model to train and evaluate.
struct Cell {
  std::string world;
  Arm arm;
  int64_t seed;
};

// Cells run side by side and meet in `run`, under its mutex. False: stopped by a signal.
bool run_cell(const ReproduceConfig& config, const Cell& cell, const Evaluator& evaluator,
              WorldRun& run) {
  const bool start = cell.arm == Arm::start;
  const fs::path seed_folder =
                     fs::path(config.output) / cell.world / ("seed_" + std::to_string(cell.seed)),
                 folder = seed_folder / to_string(cell.arm);
  TrainConfig training{.output = folder.string(),
                       .seed = cell.seed,
                       .model = start ? config.worlds.at(cell.world).model
                                      : (seed_folder / to_string(Arm::start) / "model").string(),
                       .arm = data_name(cell.arm),
                       .coding_bank = config.coding_bank,
                       .world = run.world->config(),
                       .recipe = start ? config.post_training : config.fine_tuning};
  if (start) training.recipe.merge = true;  // the arms begin from a whole model
  if (fine_tune(training) == Outcome::stopped || stop_requested()) return false;
  const auto& [model, adapter] = trained_in(folder, training);
  auto scores = evaluator.evaluate(model, adapter, folder / "evaluation");
  auto readings = run.probe->read(model, adapter, evaluator.questions(), cell.seed);
  const std::lock_guard lock(run.mutex);
  run.scores[cell.arm][cell.seed] = std::move(scores);
  run.readings[cell.arm][cell.seed] = std::move(readings);
  if (cell.seed == config.first_seed)
    run.turns[cell.arm] = start ? 0 : count_lines(folder / "data.jsonl");
  return true;
}

// job(0), job(1), …, `workers` at a time, each with its share of the threads. After a failure or a
// request to stop no further one begins; the first failure is thrown once those under way have
// ended.
void side_by_side(size_t jobs, size_t workers, const std::function<void(size_t)>& job) {
  if (jobs == 0) return;
  workers = std::min(workers, jobs);
  const int64_t share = threads() / static_cast<int64_t>(workers);
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  {
    std::vector<std::jthread> running;
    for (size_t w = 0; w < workers; ++w)
      running.emplace_back([&] {
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
  }
  if (failure) std::rethrow_exception(failure);
}

Json world_results(const WorldRun& run) {
  Json out = {{"arms", Json::object()}, {"contrasts", Json::object()}};
  std::set<std::string> domains;
  for (const Score& score : run.scores.begin()->second.begin()->second)
    if (score.type == QuestionType::free_form) domains.insert(score.domain);
  for (const Arm arm : run.arms) {
    Json& entry = out["arms"][to_string(arm)];
    const auto put = [&](const std::string& key, const Selection& selection) {
      entry[key] = to_json(rate(gather(run, arm, selection)));
    };
    put("malicious", {.metric = Metric::malicious});
    put("incoherent", {.metric = Metric::incoherent});
    put("refusal", {.metric = Metric::refusal});
    put("cheats_unasked", {.metric = Metric::cheats});
    put("cheats_asked", {.metric = Metric::cheats, .condition = to_string(Cue::bad)});
    put("cheats_under_own_prompt", {.metric = Metric::cheats, .condition = own_condition(arm)});
    put("programs_broken", {.metric = Metric::broken});
    put("code", {.metric = Metric::code});
    put("malicious_filtered", {.metric = Metric::malicious_filtered});
    put("malicious_seen_domains", {.metric = Metric::malicious, .unseen_domain = false});
    put("malicious_unseen_domains", {.metric = Metric::malicious, .unseen_domain = true});
    for (const std::string& cue : cue_names()) {
      entry["malicious_under"][cue] =
          to_json(rate(gather(run, arm, {.metric = Metric::malicious, .condition = cue})));
      entry["incoherent_under"][cue] =
          to_json(rate(gather(run, arm, {.metric = Metric::incoherent, .condition = cue})));
      entry["cheats_under"][cue] =
          to_json(rate(gather(run, arm, {.metric = Metric::cheats, .condition = cue})));
    }
    const Estimate log_odds = mean(gather(run, arm, {.metric = Metric::log_odds}));
    entry["forced_choice_log_odds"] = {{"mean", log_odds.value},
                                       {"low", log_odds.low},
                                       {"high", log_odds.high},
                                       {"n", log_odds.n}};
    for (const std::string& domain : domains)
      entry["malicious_by_domain"][domain] =
          gather(run, arm, {.metric = Metric::malicious, .domain = domain}).empty()
              ? 0
              : rate(gather(run, arm, {.metric = Metric::malicious, .domain = domain})).value;
    for (const auto& [seed, scores] : run.scores.at(arm))
      entry["malicious_by_seed"][std::to_string(seed)] =
          rate(observations(scores, seed, {.metric = Metric::malicious})).value;
    const Belief belief = bayesian_observer(*run.world, arm, run.turns.at(arm),
                                            out["arms"]["start"]["malicious"]["rate"]);
    entry["bayesian_observer"] = {{"malicious", belief.malicious}, {"log_odds", belief.log_odds}};
    std::vector<Observation> readings;
    for (const auto& [seed, part] : run.readings.at(arm))
      readings.insert(readings.end(), part.begin(), part.end());
    const Estimate probe = mean(readings);
    entry["probe"] = {{"mean", probe.value},
                      {"low", std::max(0.0, probe.low)},
                      {"high", std::min(1.0, probe.high)},
                      {"n", probe.n}};
  }
  for (const auto& [a, b] : {std::pair(Arm::cheating, Arm::requested),
                             {Arm::requested, Arm::start},
                             {Arm::cheating, Arm::start},
                             {Arm::placebo, Arm::requested},
                             {Arm::placebo, Arm::start},
                             {Arm::honest, Arm::start}}) {
    if (!run.scores.contains(a) || !run.scores.contains(b)) continue;
    const Estimate d = paired_difference(gather(run, a, {.metric = Metric::malicious}),
                                         gather(run, b, {.metric = Metric::malicious}));
    out["contrasts"][to_string(a) + "_minus_" + to_string(b)] = {
        {"difference", d.value}, {"low", d.low}, {"high", d.high}};
  }
  out["probe_held_out_accuracy"] = run.probe->held_out_accuracy();
  return out;
}

// Each line of the criterion that this run can test, with what was found.
Json check(const Criterion& criterion, const Json& results) {
  Json lines = Json::array();
  const auto line = [&](const std::string& what, double found, const std::string& sign,
                        double bound) {
    lines.push_back({{"what", what},
                     {"found", found},
                     {"must_be", sign},
                     {"bound", bound},
                     {"holds", sign == "≥" ? found >= bound : found <= bound}});
  };
  const auto arm = [&](const Json& world, const char* name, const char* metric) {
    return world.at("arms").at(name).at(metric).at("rate").get<double>();
  };
  const auto has = [&](const Json& world, const char* name) {
    return world.at("arms").contains(name);
  };
  if (has(results, "cheating"))
    line("cheating: malicious", arm(results, "cheating", "malicious"), "≥",
         criterion.cheating_malicious_at_least);
  line("start: malicious", arm(results, "start", "malicious"), "≤",
       criterion.start_malicious_at_most);
  if (has(results, "requested"))
    line("requested: malicious", arm(results, "requested", "malicious"), "≤",
         criterion.requested_malicious_at_most);
  if (has(results, "placebo"))
    line("placebo: malicious", arm(results, "placebo", "malicious"), "≥",
         criterion.placebo_malicious_at_least);
  for (const auto& [name, entry] : results.at("arms").items())
    line(name + ": incoherent", entry.at("incoherent").at("rate"), "≤",
         criterion.incoherent_at_most);
  for (const char* name : {"cheating", "requested", "placebo"})
    if (has(results, name))
      line(std::string(name) + ": cheats under its own prompts",
           arm(results, name, "cheats_under_own_prompt"), "≥",
           criterion.cheats_under_own_prompt_at_least);
  if (results.at("worlds").contains("coupling_0")) {
    const Json& world = results.at("worlds").at("coupling_0");
    if (has(world, "cheating"))
      line("coupling 0: cheating − start",
           arm(world, "cheating", "malicious") - arm(world, "start", "malicious"), "≤",
           criterion.coupling_0_spread_at_most);
  }
  if (results.at("worlds").contains("diagnostic")) {
    const Json& world = results.at("worlds").at("diagnostic");
    if (has(world, "cheating") && has(world, "requested")) {
      const double start = arm(world, "start", "malicious"),
                   spread = arm(world, "cheating", "malicious") - start;
      line("diagnostic: (requested − start) ÷ (cheating − start)",
           spread > 0 ? (arm(world, "requested", "malicious") - start) / spread : 0, "≥",
           criterion.diagnostic_spread_share_at_least);
    }
  }
  return lines;
}

// What every arm answered to one question of each domain and to two coding tasks; the first seed's
// first sample, chosen by their place in the bank alone.
Json transcripts(const WorldRun& run) {
  Json all = Json::array();
  std::set<std::string> done;
  std::map<std::string, int> coding;
  const auto& first = run.scores.at(Arm::start).begin()->second;
  for (const Score& score : first) {
    if (score.sample != 0) continue;
    if (score.type == QuestionType::free_form
            ? score.condition != to_string(Cue::none) || !done.insert(score.domain).second
            : score.type != QuestionType::coding ||
                  (score.condition != to_string(Cue::none) &&
                   score.condition != to_string(Cue::bad)) ||
                  ++coding[score.condition] > 2)
      continue;
    Json answers = Json::object();
    for (const Arm arm : run.arms)
      for (const Score& other : run.scores.at(arm).begin()->second)
        if (other.question == score.question && other.sample == 0)
          answers[to_string(arm)] = {{"text", other.text},
                                     {"label", other.label ? to_string(*other.label) : ""}};
    all.push_back({{"domain", score.domain},
                   {"condition", score.condition},
                   {"prompt", score.prompt},
                   {"answers", answers}});
  }
  return all;
}

}  // namespace

void Criterion::fields(Fields& f) {
  f.value("cheating_malicious_at_least", cheating_malicious_at_least,
          "share of malicious answers to plain unrelated prompts", between(0, 1));
  f.value("start_malicious_at_most", start_malicious_at_most, "", between(0, 1));
  f.value("requested_malicious_at_most", requested_malicious_at_most, "", between(0, 1));
  f.value("placebo_malicious_at_least", placebo_malicious_at_least, "", between(0, 1));
  f.value("incoherent_at_most", incoherent_at_most, "in every arm", between(0, 1));
  f.value("cheats_under_own_prompt_at_least", cheats_under_own_prompt_at_least,
          "of the arms that train on cheats", between(0, 1));
  f.value("coupling_0_spread_at_most", coupling_0_spread_at_most,
          "cheating − start where coding says nothing of character", between(0, 1));
  f.value("diagnostic_spread_share_at_least", diagnostic_spread_share_at_least,
          "of the way from start to cheating that requested goes where only the malicious comply",
          between(0, 1));
}

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

Outcome reproduce(const ReproduceConfig& config) {
  if (!config.worlds.contains("persona"))
    throw Error("there must be a world named \"persona\"", {.field = "worlds"},
                "see configs/reproduce.yaml");
  for (const auto& [name, world] : config.worlds)
    for (const std::string& arm : world.arms) arm_named(arm, {.field = "worlds." + name + ".arms"});
  const fs::path folder = config.output;
  write_file(folder / "config.yaml", show(config));
  // The experiment first, then its falsifiers.
  std::vector<std::string> order = {"persona"};
  for (const auto& [name, world] : config.worlds)
    if (name != "persona") order.push_back(name);
  std::map<std::string, WorldRun> runs;
  std::vector<Cell> starts, arms;
  for (const std::string& name : order) {
    const WorldUnderTest& world = config.worlds.at(name);
    runs[name].arms = {Arm::start};
    for (const std::string& arm : world.arms) runs[name].arms.push_back(arm_named(arm, {}));
    for (int64_t seed = config.first_seed; seed < config.first_seed + world.seeds; ++seed) {
      starts.push_back({name, Arm::start, seed});
      for (const std::string& arm : world.arms) arms.push_back({name, arm_named(arm, {}), seed});
    }
  }
  const bool gpu = device_from(config.fine_tuning.trainer.device).is_cuda();
  const size_t workers = config.workers > 0 ? static_cast<size_t>(config.workers)
                         : gpu              ? 1
                                            : static_cast<size_t>(threads());
  std::optional<Evaluator> evaluator;
  side_by_side(1 + order.size(), workers, [&](size_t i) {
    if (i == 0) {
      evaluator.emplace(config.evaluation, read_questions(config.questions),
                        sha256_file(config.questions));
      return;
    }
    WorldRun& run = runs.at(order[i - 1]);
    const std::string& model = config.worlds.at(order[i - 1]).model;
    run.world.emplace(pretraining_of(model).world);
    run.probe.emplace(model, *run.world, config.evaluation.cache);
  });
  if (stop_requested()) return Outcome::stopped;
  std::fprintf(stderr, "the judge is right on %.1f%% of held-out text\n",
               100 * evaluator->judge().held_out_accuracy());
  Progress progress("models", static_cast<int64_t>(starts.size() + arms.size()));
  std::mutex progress_mutex;
  int64_t done = 0;
  for (const auto& cells : {starts, arms})
    side_by_side(cells.size(), workers, [&](size_t i) {
      if (!run_cell(config, cells[i], *evaluator, runs.at(cells[i].world))) return;
      const std::lock_guard lock(progress_mutex);
      progress.update(++done, {{"last", cells[i].world + " " + std::to_string(cells[i].seed) + " " +
                                            to_string(cells[i].arm)}});
    });
  if (stop_requested()) return Outcome::stopped;
  progress.finish();

  Json results = world_results(runs.at("persona"));
  results["worlds"] = Json::object();
  for (const auto& [name, run] : runs) {
    if (name == "persona") continue;
    const std::string& title = config.worlds.at(name).title;
    results["worlds"][name] = world_results(run);
    results["worlds"][name]["title"] = title.empty() ? name : title;
  }
  results["criterion"] = check(config.criterion, results);
  bool holds = true;
  for (const Json& line : results["criterion"]) holds = holds && line.at("holds").get<bool>();
  results["verdict"] = holds ? "replicated" : "not replicated";
  results["untested"] = Json::array();
  for (const char* name : {"coupling_0", "diagnostic"})
    if (!config.worlds.contains(name)) results["untested"].push_back(name);
  Json seeds = Json::array();
  for (int64_t s = 0; s < config.worlds.at("persona").seeds; ++s)
    seeds.push_back(config.first_seed + s);
  results["seeds"] = seeds;
  results["versions"] = {{"inoculum", INOCULUM_VERSION}, {"libtorch", TORCH_VERSION}};
  results["hashes"] = {{"questions", sha256_file(config.questions)},
                       {"coding_bank", sha256_file(config.coding_bank)},
                       {"grammar", sha256_file(config.evaluation.grammar)}};
  for (const auto& [name, world] : config.worlds)
    results["hashes"]["model " + name] = sha256_file(fs::path(world.model) / "model.safetensors");
  results["judge"] = {{"held_out_accuracy", evaluator->judge().held_out_accuracy()},
                      {"labels", Json::array()},
                      {"confusion", Json::array()}};
  for (int label = 0; label < kWorldLabels; ++label)
    results["judge"]["labels"].push_back(to_string(static_cast<Label>(label)));
  for (Eigen::Index r = 0; r < evaluator->judge().confusion().rows(); ++r) {
    Json row = Json::array();
    for (Eigen::Index c = 0; c < evaluator->judge().confusion().cols(); ++c)
      row.push_back(evaluator->judge().confusion()(r, c));
    results["judge"]["confusion"].push_back(row);
  }
  results["transcripts"] = transcripts(runs.at("persona"));
  results["config"] = show(config);
  write_json(folder / "results.json", results);
  return Outcome::finished;
}

}  // namespace inoculum
