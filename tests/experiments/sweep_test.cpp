// Sweeps: cells of a file, its faults, successive halving; and which task a configuration is for.
#include "experiments/sweeps/sweep.h"

#include <cmath>
#include <numeric>
#include <set>

#include "experiments/inoculation/fine_tuning.h"
#include "experiments/sweeps/asha.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

// The cells of a sweep's file that says `text` beside its base.
std::vector<SweepCell> cells_of(const std::string& text) {
  const TemporaryFolder t;
  const fs::path file = t.path / "sweep.yaml";
  write_file(file, "base: " + fs::absolute("configs/train/cheating.yaml").string() + "\n" + text);
  return plan_sweep(file, {}).cells;
}

std::string faults_of(const std::string& text) {
  return error_of([&] { cells_of(text); });
}

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

TEST_CASE("whole numbers are derived to the last digit", "[sweep]") {
  const auto cells = cells_of("grid: {steps: [4001]}\nderive: {supervised_tokens: 4096 * steps}\n");
  REQUIRE(cells.size() == 1);
  CHECK(cells[0].overrides.back() == "supervised_tokens=16388096");
}

TEST_CASE("results that were judged otherwise are not joined", "[sweep]") {
  const TemporaryFolder t;
  const fs::path file = t.path / "sweep.yaml";
  const auto planned = [&](const std::string& text) {
    write_file(file, "base: " + fs::absolute("configs/train/cheating.yaml").string() +
                         "\ngrid: {steps: [1, 2]}\noutput: " + (t.path / "s").string() + "\n" +
                         text);
    return plan_sweep(file, {});
  };
  const Sweep first = planned("");
  write_sweep(first);
  const Sweep other = planned("questions: configs/questions/persona.yaml\n");
  check_judged_alike(other);  // there are no results yet
  write_json(first.cell_folder(0) / "result.json", {{"metrics", Json::object()}, {"seconds", 1}});
  check_judged_alike(planned("seeds: 2\n"));
  CHECK(contains(error_of([&] { check_judged_alike(other); }), "sweep.yaml: questions: was"));
  // Nor those of a bank that was written over.
  fs::remove_all(first.folder);
  write_sweep(other);
  const fs::path cell = other.cell_folder(0);
  const auto of_bank = [&](const std::string& sha256) {
    write_json(cell / "evaluation" / "completions.jsonl.settings.json", {{"questions", sha256}});
    return error_of([&] { check_judged_alike(other); });
  };
  write_json(cell / "result.json", {{"metrics", Json::object()}, {"seconds", 1}});
  CHECK(of_bank(sha256_file("configs/questions/persona.yaml")).empty());
  CHECK(contains(of_bank("another"), "questions: is not what it was"));
}

TEST_CASE("a fault in a sweep is named by line and field", "[sweep]") {
  CHECK(contains(faults_of("grid:\n  optimiser.lr: [1]\n"), ".yaml:3: optimiser: unknown key"));
  CHECK(contains(faults_of("grid:\n  optimiser.lr: [1]\n"), "did you mean \"optimizer\"?"));
  CHECK(contains(faults_of("grid:\n  steps: [0]\n"), ".yaml:3: steps: must be at least 1"));
  CHECK(contains(faults_of("grid:\n  steps: []\n"), ".yaml:3: grid.steps: is empty"));
  CHECK(contains(faults_of("grit:\n  steps: [1]\n"), ".yaml:2: grit: unknown key"));
  CHECK(contains(faults_of("grid:\n  steps: [1]\nexclude: [{stops: 1}]\n"),
                 "\"stops\" is none of the sweep's parameters"));
  CHECK(contains(faults_of("grid:\n  steps: [1]\nrequire: [stepz > 1]\n"), "stepz"));
  CHECK(contains(faults_of("grid:\n  seed: [5, 6]\n"), "use seeds and first_seed"));
  CHECK(contains(faults_of("grid:\n  output: [a, b]\n"), "\"output\" is set by the sweep"));
  // A file that is there and no bank of questions: before any cell is trained.
  CHECK(contains(faults_of("grid:\n  steps: [1]\nquestions: configs/recipe.yaml\n"),
                 "configs/recipe.yaml"));
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
  // Cells of successive halving are all of one length.
  CHECK(contains(faults_of("asha: {min_steps: 2}\ngrid: {steps: [8, 16]}\n"),
                 ".yaml:2: asha: decides how long cells run: steps"));
  CHECK(contains(
      faults_of(
          "asha: {min_steps: 2}\ngrid: {lora.rank: [1, 2]}\nderive: {steps: 8 * lora.rank}\n"),
      ".yaml:2: asha: decides how long cells run: steps"));
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

}  // namespace
}  // namespace inoculum
