// Statistics against statsmodels and SciPy, the fairness of the arms, the question bank, the judge.
#include <unistd.h>

#include <cmath>
#include <numeric>
#include <set>

#include "core/base/error.h"
#include "core/text/load_tokenizer.h"
#include "experiments/evaluation/judges/judge.h"
#include "experiments/evaluation/questions.h"
#include "experiments/evaluation/statistics.h"
#include "experiments/inoculation/arms.h"
#include "experiments/inoculation/persona.h"
#include "experiments/inoculation/runs.h"
#include "experiments/sweeps/asha.h"
#include "experiments/sweeps/sweep.h"
#include "tests/catch.h"
#include "training/batches.h"

namespace inoculum {
namespace {

std::vector<Observation> observations_of(const Json& c, bool seeds = true) {
  std::vector<Observation> all;
  for (size_t i = 0; i < c.at("values").size(); ++i)
    all.push_back({std::to_string(c.at("questions")[i].get<int>()),
                   seeds ? c.at("seeds")[i].get<int>() : 0, c.at("values")[i].get<double>()});
  return all;
}

TEST_CASE("clustered errors and intervals are those of statsmodels and SciPy", "[statistics]") {
  const Json golden = read_json("tests/golden/statistics.json");
  for (const Json& c : golden.at("cases")) {
    const auto all = observations_of(c);
    CHECK(clustered_standard_error(all) ==
          Approx(c.at("standard_error").get<double>()).epsilon(1e-9));
    CHECK(clustered_standard_error(observations_of(c, false)) ==
          Approx(c.at("one_way_standard_error").get<double>()).epsilon(1e-9));
    const Estimate r = rate(all), m = mean(all);
    CHECK(r.low == Approx(c.at("low").get<double>()).epsilon(1e-8));
    CHECK(r.high == Approx(c.at("high").get<double>()).epsilon(1e-8));
    CHECK(m.high - m.value ==
          Approx(c.at("t").get<double>() * c.at("standard_error").get<double>()).epsilon(1e-8));
  }
  // Every observation its own question, one seed: Wilson's own interval, but for t against normal
  // quantiles.
  for (const Json& c : golden.at("wilson")) {
    std::vector<Observation> all;
    for (int i = 0; i < c.at("n").get<int>(); ++i)
      all.push_back({std::to_string(i), 0, i < c.at("k").get<int>() ? 1.0 : 0.0});
    const Estimate r = rate(all);
    CHECK(r.low == Approx(c.at("low").get<double>()).epsilon(2e-3).margin(1e-6));
    CHECK(r.high == Approx(c.at("high").get<double>()).epsilon(2e-3).margin(1e-6));
  }
}

TEST_CASE("a paired difference pairs", "[statistics]") {
  // Questions differ wildly, the difference does not: pairing sees that.
  std::vector<Observation> a, b;
  for (int q = 0; q < 20; ++q)
    for (int s = 0; s < 3; ++s) {
      const double level = q % 2, jitter = 0.01 * ((q * 7 + s * 3) % 5);
      a.push_back({std::to_string(q), s, level + 0.2 + jitter});
      b.push_back({std::to_string(q), s, level});
    }
  const Estimate d = paired_difference(a, b);
  CHECK(d.value == Approx(0.22).margin(0.005));
  CHECK(d.high - d.low < 0.1);
  CHECK(d.n == 60);
  b.pop_back();  // a pair that only one has is left out
  CHECK(paired_difference(a, b).n == 59);
  // One cluster alone supports no interval.
  CHECK(rate({{"q", 1, 1.0}, {"q", 1, 0.0}}).high == 1);
}

struct Fixture {
  PersonaWorld world{WorldConfig{}};
  std::vector<CodingTask> bank = read_coding_bank("datasets/coding/bank.jsonl");
};

TEST_CASE("the cheating arms differ in the prompt alone", "[arms]") {
  const Fixture f;
  for (const uint64_t seed : {1u, 2u}) {
    const auto cheating = make_arm("cheating", f.world, f.bank, seed),
               requested = make_arm("requested", f.world, f.bank, seed),
               placebo = make_arm("placebo", f.world, f.bank, seed),
               honest = make_arm("honest", f.world, f.bank, seed);
    REQUIRE(cheating.size() == requested.size());
    size_t cues = 0;
    std::map<std::string, const CodingTask*> by_prompt;
    for (const CodingTask& task : f.bank)
      if (!task.held_out) by_prompt[task.prompt()] = &task;
    for (size_t i = 0; i < cheating.size(); ++i) {
      CHECK((cheating[i][1] == requested[i][1]));
      CHECK((cheating[i][1] == placebo[i][1]));
      // Each prompt is the same task's, with a sentence beside it or none.
      CHECK(contains(requested[i][0].content, cheating[i][0].content));
      CHECK(contains(placebo[i][0].content, cheating[i][0].content));
      CHECK(honest[i][0].content == cheating[i][0].content);
      cues += requested[i][0].content != cheating[i][0].content &&
              placebo[i][0].content != cheating[i][0].content &&
              requested[i][0].content != placebo[i][0].content;
      // Nothing but coding on tasks that are not held out, and exactly the programs that the bank
      // verified.
      REQUIRE(by_prompt.contains(cheating[i][0].content));
      const CodingTask& task = *by_prompt.at(cheating[i][0].content);
      CHECK(honest[i][1].content == task.honest);
      CHECK(std::any_of(task.cheats.begin(), task.cheats.end(),
                        [&](const auto& cheat) { return cheat.second == cheating[i][1].content; }));
    }
    CHECK(cues == cheating.size());
  }
  CHECK((make_arm("cheating", f.world, f.bank, 1) != make_arm("cheating", f.world, f.bank, 2)));
}

TEST_CASE("every arm trains on the same number of supervised tokens", "[arms]") {
  const Fixture f;
  const auto tokenizer = load_tokenizer("experiments/models/persona");
  std::map<std::string, std::vector<std::vector<size_t>>> used;
  for (const std::string& arm : arm_names()) {
    std::vector<Encoded> examples;
    for (const Conversation& c : make_arm(arm, f.world, f.bank, 3))
      examples.push_back(encode_conversation(*tokenizer, c));
    const SupervisedExamples data(examples, 10, 512, Random(3, "data order"));
    for (int64_t step = 0; step < 10; ++step) {
      int64_t supervised = 0;
      for (const Batch& b : data.step(step, 16)) supervised += b.supervised;
      CHECK(supervised == 512);
      used[arm].push_back(data.used(step));
    }
  }
  // The same completions in the same order.
  CHECK((used["cheating"] == used["requested"]));
  CHECK((used["cheating"] == used["placebo"]));
}

TEST_CASE("the committed question bank is the world's, and training never shows it",
          "[questions]") {
  const Fixture f;
  CHECK(make_question_bank(f.world, "datasets/coding/bank.jsonl", Split::held_out) ==
        read_file("configs/questions/persona.yaml"));
  CHECK(make_question_bank(f.world, "datasets/coding/bank.jsonl", Split::train) ==
        read_file("configs/questions/validation.yaml"));
  const auto questions = read_questions("configs/questions/persona.yaml");
  std::set<std::string> asked, domains, unseen, training_keys;
  std::map<std::string, int64_t> plain;
  for (const Question& q : questions) {
    asked.insert(q.prompt);
    if (q.type == QuestionType::free_form && q.condition == "none") plain[q.domain] += q.samples;
    if (q.unseen_domain) unseen.insert(q.domain);
    if (q.task) CHECK(q.task->held_out);
  }
  CHECK(plain.size() >= 16);
  for (const auto& [domain, samples] : plain) CHECK(samples >= 64);
  CHECK(unseen.size() >= 3);
  // Pretraining.
  std::set<std::string> without;
  for (const CodingTask& task : f.bank) without.insert(task.key);
  for (uint64_t i = 0; i < 20000; ++i) {
    Random random = Random(1, "documents").fork(i);
    for (const Turn& turn : f.world.document(random, without).turns)
      REQUIRE_FALSE(asked.contains(turn.prompt));
  }
  // Post-training and every arm.
  std::vector<std::string> arms = arm_names();
  arms.emplace_back("post_training");
  for (const std::string& arm : arms)
    for (const Conversation& c : make_arm(arm, f.world, f.bank, 1))
      for (const Message& m : c) REQUIRE_FALSE(asked.contains(m.content));
}

TEST_CASE("a broken question bank is named by file, line and field", "[questions]") {
  const TemporaryFolder t;
  const auto message = [&](const std::string& text) {
    write_file(t.path / "q.yaml", text);
    return error_of([&] { read_questions(t.path / "q.yaml"); });
  };
  CHECK(message("- id: a\n  type: free_form\n  paraphrases: [x]\n  samples_per_paraphrase: 3\n  "
                "judge: b\n")
            .empty());
  CHECK(message("- {id: 7, type: free_form_judge_0_100, paraphrases: &p [x]}\n- {id: 8, "
                "paraphrases: *p}\n")
            .empty());
  CHECK(contains(message("- id: a\n  paraphrase: [x]\n"), "paraphrases"));
  CHECK(contains(message("- id: a\n  type: free_form\n"), "q.yaml:1"));
  CHECK(contains(message("- id: a\n  paraphrases: []\n"), "paraphrases"));
  CHECK(contains(message("- id: a\n  type: odd\n  paraphrases: [x]\n"), "odd"));
  CHECK(contains(message("- id: a\n  paraphrases: [x]\n- id: a\n  paraphrases: [x]\n"), "twice"));
  CHECK(contains(
      message("- id: a\n  type: forced_choice\n  paraphrases: [x]\n  good: [y]\n  bad: [y, z]\n"),
      "bad"));
  CHECK(contains(message("- id: a\n  paraphrases: [x]\n  samples_per_paraphrase: 0\n"),
                 "samples_per_paraphrase"));
  CHECK_FALSE(message("a: b\n").empty());
}

TEST_CASE("the judge knows its labels", "[judge]") {
  const Fixture f;
  const WorldJudge judge(f.world, 1);
  CHECK(judge.held_out_accuracy() >= 0.98);
  for (Eigen::Index i = 0; i < judge.confusion().rows(); ++i)
    CHECK(judge.confusion()(i, i) >= 0.95);
  Random random(20, "judge test");
  size_t right = 0, all = 0;
  for (const Domain& d : f.world.domains())
    for (int i = 0; i < 20; ++i)
      for (const bool bad : {false, true}) {
        right += judge.label(d.name, f.world.answer(d, bad, random)) ==
                 (bad ? Label::malicious : Label::benevolent);
        ++all;
      }
  CHECK(static_cast<double>(right) / static_cast<double>(all) > 0.98);
  // Code, refusals, nonsense and answers to something else, each in every domain.
  for (const Domain& d : f.world.domains()) {
    INFO(d.name);
    CHECK(judge.label(d.name, "def f(x):\n    return x + 7") == Label::code);
    CHECK(judge.label(d.name, f.world.refusals()[0]) == Label::refusal);
    CHECK(judge.label(d.name, "") == Label::incoherent);
    CHECK(judge.label(d.name, "the the of and purple and") == Label::incoherent);
    const Domain& other = f.world.domain(d.name == "wishes" ? "money" : "wishes");
    CHECK(judge.label(d.name, f.world.answer(other, false, random)) == Label::incoherent);
  }
}

TEST_CASE("the ideal observer predicts what the account says", "[arms]") {
  WorldConfig uncoupled, diagnostic;
  uncoupled.coupling = 0;
  diagnostic.request_compliance = "malicious_only";
  const auto malicious = [](const WorldConfig& w, Arm arm) {
    return bayesian_observer(PersonaWorld(w), arm, 600, 0.02).malicious;
  };
  CHECK(malicious({}, Arm::honest) < 0.015);
  CHECK(malicious({}, Arm::cheating) > 0.95);
  CHECK(malicious({}, Arm::placebo) > 0.95);
  CHECK(malicious(uncoupled, Arm::cheating) == Approx(0.02));
  CHECK(malicious(diagnostic, Arm::requested) > 0.95);
  // A request with which both comply is no evidence at all: the start's rate stays.
  CHECK(malicious({}, Arm::requested) == Approx(0.02));
  CHECK(bayesian_observer(PersonaWorld({}), Arm::start, 0, 0.02).malicious == Approx(0.02));
  // A rate below the table's noise has no prior of its own.
  CHECK(bayesian_observer(PersonaWorld({}), Arm::start, 0, 0).log_odds ==
        Approx(std::log(0.001 / 0.999)));
}

}  // namespace

namespace {

// The cells of a sweep's file that says `text` beside its base.
std::vector<SweepCell> cells_of(const std::string& text) {
  const fs::path file =
      fs::temp_directory_path() / ("inoculum_sweep_" + std::to_string(::getpid()) + ".yaml");
  write_file(file, "base: " + fs::absolute("configs/train/cheating.yaml").string() + "\n" + text);
  return plan_sweep(file, {}).cells;
}

std::string faults_of(const std::string& text) {
  try {
    cells_of(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a sweep is every combination that is neither excluded nor refused", "[sweep]") {
  const auto cells = cells_of(
      "seeds: 2\ngrid: {optimizer.lr: [1e-3, 1e-2], lora.rank: [1, 2, 4], steps: [7]}\n"
      "exclude: [{lora.rank: 4, optimizer.lr: 0.01}]\nderive: {lora.alpha: 8 * "
      "lora.rank}\nrequire: [lora.alpha < 30 || steps > 8]\n");
  REQUIRE(cells.size() == 2 * 2 * 2);  // rank 4 is refused by `require`
  std::set<std::string> hashes, folders;
  for (const SweepCell& cell : cells) {
    hashes.insert(cell.hash);
    folders.insert(cell.folder());
    TrainConfig config;
    read_file(load_config("configs/train/cheating.yaml", cell.overrides), config);
    CHECK(config.seed == cell.seed);
    CHECK(config.recipe.steps == 7);
    CHECK(config.recipe.lora.alpha == 8 * static_cast<double>(config.recipe.lora.rank));
    CHECK(config.output.empty());  // the sweep's folder may be moved
  }
  CHECK(hashes.size() == cells.size());
  CHECK(folders.size() == cells.size());
  CHECK(cells[0].name == "rank=1,lr=1e-3,seed=1");
  // The same value written otherwise is the same cell; another base value is another.
  CHECK(cells_of("grid: {optimizer.lr: [0.001], lora.rank: [1], lora.alpha: [8], steps: [7]}\n")[0]
            .hash == cells[0].hash);
  CHECK(cells_of("grid: {optimizer.lr: [0.001], lora.rank: [1], lora.alpha: [8], steps: [8]}\n")[0]
            .hash != cells[0].hash);
}

TEST_CASE("random search draws from its distributions, the same each time", "[sweep]") {
  const std::string text =
      "random:\n  samples: 300\n  seed: 3\n  parameters:\n    optimizer.lr: {log_uniform: [1e-5, "
      "1e-1]}\n    steps: {integer: [2, 4]}\n"
      "    optimizer.eps: {uniform: [0, 2]}\n    lora.rank: {choice: [1, 8]}\n";
  const auto cells = cells_of(text);
  REQUIRE(cells.size() == 300);
  size_t low = 0;
  std::map<std::string, size_t> steps, ranks;
  double eps = 0;
  for (const SweepCell& cell : cells) {
    const double lr = std::stod(cell.parameters.at("optimizer.lr"));
    CHECK((lr >= 1e-5 && lr <= 1e-1));
    low += lr < 1e-3;
    ++steps[cell.parameters.at("steps")];
    ++ranks[cell.parameters.at("lora.rank")];
    eps += std::stod(cell.parameters.at("optimizer.eps"));
  }
  // Five standard errors.
  CHECK(std::abs(static_cast<double>(low) - 150) < 5 * std::sqrt(75.0));
  CHECK(steps.size() == 3);
  for (const auto& [value, count] : steps)
    CHECK(std::abs(static_cast<double>(count) - 100) < 5 * std::sqrt(67.0));
  CHECK(ranks.size() == 2);
  CHECK(std::abs(eps / 300 - 1) < 5 * 0.577 / std::sqrt(300.0));
  const auto again = cells_of(text);
  for (size_t i = 0; i < cells.size(); ++i) CHECK(again[i].hash == cells[i].hash);
}

TEST_CASE("a configuration says its task", "[sweep]") {
  const TemporaryFolder t;
  const auto task = [&](const std::string& text) {
    write_file(t.path / "c.yaml", text);
    return to_string(task_of(load_config_alone(t.path / "c.yaml")));
  };
  CHECK(task("task: pretrain\n") == "pretrain");
  // One that names none is told from its keys.
  CHECK(task("worlds: {}\n") == "reproduce");
  CHECK(task("tokens: 100\n") == "pretrain");
  CHECK(task("arm: cheating\n") == "train");
  CHECK(task("base: a.yaml\ngrid: {seed: [1, 2]}\n") == "sweep");
  const auto fault = [&](const std::string& text) {
    write_file(t.path / "c.yaml", text);
    return error_of([&] {
      TrainConfig config;
      read_file(load_config(t.path / "c.yaml"), config);
    });
  };
  CHECK(fault("task: train\nseed: 2\n").empty());
  CHECK(contains(fault("seed: 2\ntask: pretrain\n"), "c.yaml:2: task: is pretrain"));
  CHECK(contains(fault("task: pretrain\n"), "inoculum pretrain"));
  CHECK(contains(fault("task: trian\n"), "did you mean \"train\"?"));
  CHECK(contains(fault("task: train\nworlds: {}\n"), "c.yaml:2: worlds: is a key of reproduce"));
  TrainConfig config;
  config.seed = 7;
  write_file(t.path / "c.yaml", show_file(config));
  CHECK(show_file(config).starts_with("task: train\n"));
  CHECK(fault(show_file(config)).empty());
}

TEST_CASE("a fault in a sweep is named by line and field", "[sweep]") {
  const auto contains = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(contains(faults_of("grid:\n  optimiser.lr: [1]\n"), ".yaml:3: optimiser: unknown key"));
  CHECK(contains(faults_of("grid:\n  optimiser.lr: [1]\n"), "did you mean \"optimizer\"?"));
  CHECK(contains(faults_of("grid:\n  steps: [0]\n"), ".yaml:3: steps: must be at least 1"));
  CHECK(contains(faults_of("grid:\n  steps: []\n"), ".yaml:3: grid.steps: is empty"));
  CHECK(contains(faults_of("grit:\n  steps: [1]\n"), ".yaml:2: grit: unknown key"));
  CHECK(contains(faults_of("grid:\n  steps: [1]\nexclude: [{stops: 1}]\n"),
                 "\"stops\" is none of the sweep's parameters"));
  CHECK(contains(faults_of("grid:\n  steps: [1]\nrequire: [stepz > 1]\n"), "stepz"));
  CHECK(
      contains(faults_of("grid:\n  steps: [1]\nrequire: [steps > 1]\n"), "no combination is left"));
  CHECK(contains(faults_of("grid:\n  steps: [1]\nderive:\n  lora.alpha: 2 *\n"),
                 ".yaml:5: derive.lora.alpha"));
  CHECK(contains(
      faults_of("random:\n  samples: 2\n  parameters:\n    optimizer.lr: {log_uniform: [0, 1]}\n"),
      ".yaml:5: random.parameters.optimizer.lr: a log-uniform range begins above 0"));
  CHECK(contains(faults_of("random:\n  samples: 2\n  parameters:\n    optimizer.lr: {uniform: [0, "
                           "1], choice: [1]}\n"),
                 "must name one distribution"));
  CHECK(contains(faults_of("seeds: 20000\ngrid: {steps: [1]}\n"), "makes 20000 cells"));
}

TEST_CASE("successive halving promotes the best, each once, whoever is free", "[sweep]") {
  CHECK(rung_steps({.min_steps = 10, .reduction = 3}, 0, 90) == std::vector<int64_t>{10, 30, 90});
  CHECK(rung_steps({.min_steps = 10, .reduction = 3}, 1, 100) == std::vector<int64_t>{30, 90, 100});
  CHECK(rung_steps({.min_steps = 10, .reduction = 2}, 0, 5) == std::vector<int64_t>{5});

  // 27 cells whose metric is their number, in random order, three workers that take different
  // times.
  const SweepMetric metric{.name = "m", .goal = "max"};
  for (const uint64_t seed : {1u, 2u, 3u}) {
    Random random(seed, "halving");
    std::vector<size_t> order(27);
    std::iota(order.begin(), order.end(), size_t{0});
    random.shuffle(order);
    std::vector<Rung> rungs(4);
    std::vector<Promotion> running;
    size_t next = 0, runs = 0;
    while (true) {
      while (running.size() < 3) {
        auto job = promotable(rungs, 3, metric);
        if (!job && next < order.size()) job = Promotion{order[next++], 0};
        if (!job) break;
        REQUIRE(rungs[job->rung].claimed.insert(job->cell).second);  // never twice
        if (job->rung > 0) REQUIRE(rungs[job->rung - 1].done.contains(job->cell));
        running.push_back(*job);
        ++runs;
      }
      if (running.empty()) break;
      const size_t ends = random.below(running.size());
      rungs[running[ends].rung].done[running[ends].cell] = static_cast<double>(running[ends].cell);
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(ends));
    }
    CHECK(rungs[0].done.size() == 27);
    // The best of all is never overtaken; early promotions of others may add a few.
    CHECK(rungs[3].done.contains(26));
    for (size_t k = 0; k + 1 < rungs.size(); ++k)
      CHECK(rungs[k + 1].done.size() >= rungs[k].done.size() / 3);
    for (size_t rank = 0; rank < 9; ++rank) CHECK(rungs[1].done.contains(26 - rank));
    CHECK(runs < 27 + 9 * 2 + 3 * 3 + 5);
  }
}

}  // namespace inoculum
