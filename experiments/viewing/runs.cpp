#include "experiments/viewing/runs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <functional>
#include <set>
#include <tuple>

#include "core/base/process.h"
#include "core/base/strings.h"
#include "core/base/yaml.h"
#include "experiments/inoculation/runs.h"

namespace inoculum {
namespace {

constexpr size_t kPoints = 400;  // of a curve: about one a pixel
constexpr size_t kMostFolders = 100'000;
constexpr int kDeepest = 24;
constexpr double kQuiet = 120;  // seconds without a new line after which a run is not under way
// What runs are read from, below their folders.
const std::vector<std::string> kFiles = {"config.yaml",
                                         "metrics.jsonl",
                                         "results.json",
                                         "summary.json",
                                         "completions.jsonl",
                                         "scores.jsonl",
                                         "failed.json",
                                         "sweep.yaml",
                                         "cells.jsonl",
                                         "result.json",
                                         "adapter/adapter_config.json",
                                         "model/config.json"};

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

struct Stamp {
  int64_t size = -1, nanoseconds = 0;  // -1: it is not there
};
Stamp stamp_of(const fs::path& path) {
  struct stat found{};
  if (::stat(path.c_str(), &found) != 0) return {};
  return {found.st_size, found.st_mtim.tv_sec * 1'000'000'000 + found.st_mtim.tv_nsec};
}

std::string said(const std::exception& failure) { return valid_utf8(failure.what()); }

// What `read` gives, or its default with a note.
template <class Read>
auto read_or_note(Notes& notes, Read read) -> decltype(read()) {
  try {
    return read();
  } catch (const std::exception& failure) {
    notes.push_back(said(failure));
    return {};
  }
}

std::string text_if_there(const fs::path& file, Notes& notes) {
  if (!is_there(file)) return "";
  return read_or_note(notes, [&] { return valid_utf8(read_file(file)); });
}

// Calls `row` for every line. One that is no JSON, or not what `row` takes, is left out with a
// note; the last one without its end is just being written.
void read_lines(const fs::path& file, Notes& notes, const std::function<void(const Json&)>& row) {
  const std::string text = read_or_note(notes, [&] { return read_file(file); });
  std::string_view rest = text;
  int bad = 0, first_bad = 0;
  std::string why;
  for (int line = 1; !rest.empty(); ++line) {
    const size_t end = rest.find('\n');
    const std::string_view one = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (strip(one).empty()) continue;
    try {
      refuse_deep_json(one, {});
      row(Json::parse(one));
    } catch (const std::exception& failure) {
      if (end == std::string_view::npos) break;
      if (++bad == 1) std::tie(first_bad, why) = std::pair(line, said(failure));
    }
  }
  if (bad > 0)
    notes.push_back(fmt::format("{}: {} line{} could not be read, first line {}: {}", file.string(),
                                bad, bad == 1 ? "" : "s", first_bad, why));
}

// The keys of a run's configuration that pages show.
struct ConfigKeys {
  std::string task, arm, model;
  int64_t seed = 0, steps = 0;
};
ConfigKeys keys_of(const std::string& config, const fs::path& file, Notes& notes) {
  return read_or_note(notes, [&] {
    const YAML::Node root = parse_yaml(config, file.string());
    if (!root.IsMap()) return ConfigKeys();
    const auto text = [&](const char* key) { return root[key].as<std::string>(""); };
    const auto number = [&](const char* key) { return root[key].as<int64_t>(0); };
    ConfigKeys keys{text("task"), text("arm"), text("model"), number("seed"), number("steps")};
    if (const int64_t each = number("step_tokens"); keys.steps == 0 && each > 0)
      keys.steps = number("tokens") / each;  // of pretraining
    return keys;
  });
}

// The task that a configuration names in its first lines; "" where there is none.
std::string task_in(const fs::path& file) {
  Notes unread;
  const std::string config = text_if_there(file, unread);
  if (!config.starts_with("task:")) return keys_of(config, file, unread).task;
  const std::string_view line = std::string_view(config).substr(5, config.find('\n') - 5);
  return std::string(strip(line));
}

std::optional<RunKind> kind_of(const fs::path& folder, const std::set<std::string>& names) {
  if (names.contains("sweep.yaml")) return RunKind::sweep;
  if (names.contains("metrics.jsonl")) return RunKind::training;
  if (names.contains("config.yaml")) {
    const std::string task = task_in(folder / "config.yaml");
    if (task == "reproduce") return RunKind::experiment;
    if (task == "train" || task == "pretrain") return RunKind::training;
  }
  for (const char* name : {"completions.jsonl", "scores.jsonl", "summary.json"})
    if (names.contains(name)) return RunKind::evaluation;
  return std::nullopt;
}

bool holds_no_runs(const std::string& name) {
  static const std::set<std::string> weights = {"model", "adapter", "checkpoints",
                                                "best",  "paused",  "logs"};
  return name.starts_with(".") || weights.contains(name);
}

class Walk {
 public:
  explicit Walk(const fs::path& root) : root_(root) { visit(root, "", 0); }
  FoundRuns found;

 private:
  void visit(const fs::path& folder, const std::string& parent, int depth) {
    struct stat inode{};
    if (::stat(folder.c_str(), &inode) != 0) return;  // gone meanwhile
    if (!seen_.emplace(inode.st_dev, inode.st_ino).second) return;
    if (seen_.size() > kMostFolders || depth > kDeepest) {
      if (!cut_)
        found.notes.push_back("There are more folders than are looked at: " + folder.string() +
                              " and others were left out.");
      cut_ = true;
      return;
    }
    std::error_code error;
    std::set<std::string> names;
    std::vector<fs::path> folders;
    fs::directory_iterator entries(folder, error);
    for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
      const std::string name = entries->path().filename().string();
      std::error_code gone;
      if (!entries->is_directory(gone)) names.insert(name);
      else if (!holds_no_runs(name)) folders.push_back(entries->path());
    }
    if (error) found.notes.push_back(valid_utf8(folder.string() + ": " + error.message()));
    std::string here = parent;
    if (const auto kind = kind_of(folder, names)) {
      const std::string path = folder.lexically_relative(root_).string();
      here = sha256(path).substr(0, 16);
      found.runs.push_back({here, folder, valid_utf8(path), *kind, parent});
    }
    std::ranges::sort(folders);
    for (const fs::path& each : folders) visit(each, here, depth + 1);
  }

  const fs::path root_;
  std::set<std::pair<dev_t, ino_t>> seen_;
  bool cut_ = false;
};

void add_point(std::map<std::string, Curve>& curves, const std::string& name, double step,
               const Json& value) {
  if (!value.is_number()) return;
  Curve& curve = curves[name];
  curve.steps.push_back(step);
  curve.means.push_back(value.get<double>());
}

void thin(Curve& curve) {
  const size_t count = curve.steps.size();
  if (count <= kPoints) return;
  Curve thinned;
  for (size_t point = 0; point < kPoints; ++point) {
    const size_t begin = point * count / kPoints, end = (point + 1) * count / kPoints;
    double sum = 0, low = INFINITY, high = -INFINITY;
    for (size_t i = begin; i < end; ++i) {
      sum += curve.means[i];
      low = std::min(low, curve.means[i]);
      high = std::max(high, curve.means[i]);
    }
    thinned.steps.push_back(curve.steps[end - 1]);
    thinned.means.push_back(sum / static_cast<double>(end - begin));
    thinned.lows.push_back(low);
    thinned.highs.push_back(high);
  }
  curve = std::move(thinned);
}

// By the lock that a run holds while it is trained. Nothing: where there are no locks, or the run
// is older than they are.
std::optional<bool> is_trained(const fs::path& folder) {
  if (!is_there(folder / kRunLock)) return std::nullopt;
  return FileLock::is_held(folder / kRunLock);
}

RunState state_of_training(const fs::path& folder, double seconds_a_step) {
  for (const char* result : {"adapter/adapter_config.json", "model/config.json"})
    if (is_there(folder / result)) return RunState::finished;
  if (is_there(folder / "failed.json")) return RunState::failed;
  if (const auto held = is_trained(folder)) return *held ? RunState::running : RunState::stopped;
  const bool quiet = unix_time() - changed_at(folder) > std::max(kQuiet, 5 * seconds_a_step);
  return quiet ? RunState::stopped : RunState::running;
}

// The object of that key, or an empty one.
const Json& object_in(const Json& row, const char* key) {
  static const Json none = Json::object();
  const auto found = row.find(key);
  return found != row.end() && found->is_object() ? *found : none;
}

std::string text_of(const Json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_string() ? found->get<std::string>() : "";
}

// What a score says beside its label.
std::string remark_of(const Json& score) {
  std::vector<std::string> parts;
  if (const auto slips = score.value("slips", int64_t{0}); slips > 0)
    parts.push_back(fmt::format("{} slip{}", slips, slips == 1 ? "" : "s"));
  if (score.contains("visible_passed"))
    parts.push_back(fmt::format("passed {} visible and {} hidden tests",
                                score.at("visible_passed").get<int64_t>(),
                                score.value("hidden_passed", int64_t{0})));
  if (const std::string error = text_of(score, "error"); !error.empty())
    parts.push_back(start_of(error, 200));
  for (const char* group : {"metrics", "categories", "no_score"})
    for (const auto& [metric, value] : object_in(score, group).items())
      parts.push_back(metric + " " +
                      (value.is_string() ? start_of(value.get<std::string>(), 80) : value.dump()));
  return fmt::format("{}", fmt::join(parts, ", "));
}

using ScoresByAnswer = std::map<std::pair<std::string, int64_t>, Json>;

AskedQuestion question_of(const std::string& id, const Json& completion, const Json& score) {
  return {.id = id,
          .type = text_of(score, "type"),
          .domain = text_of(score, "domain"),
          .cue = text_of(score, "condition"),
          .prompt = text_of(completion, "prompt"),
          .unseen_domain = score.value("unseen_domain", false)};
}

ShownAnswer answer_of(size_t question, const Json& completion, const Json& score) {
  ShownAnswer answer{.question = question,
                     .sample = completion.value("sample", int64_t{0}),
                     .label = text_of(score, "label"),
                     .text = text_of(completion, "text"),
                     .remark = score.empty() ? "" : remark_of(score)};
  if (const auto odds = score.find("log_odds"); odds != score.end() && odds->is_number())
    answer.log_odds = odds->get<double>();
  if (text_of(completion, "finish_reason") == "length")
    answer.remark += answer.remark.empty() ? "cut at its limit" : ", cut at its limit";
  return answer;
}

}  // namespace

std::string to_string(RunKind kind) {
  constexpr const char* names[] = {"experiment", "sweep", "training", "evaluation"};
  return names[static_cast<size_t>(kind)];
}

std::string to_string(RunState state) {
  constexpr const char* names[] = {"running", "finished", "stopped", "failed"};
  return names[static_cast<size_t>(state)];
}

FoundRuns find_runs(const fs::path& root) {
  if (std::error_code error; !fs::is_directory(root, error))
    throw Error("there is no such folder", {.file = root.string()},
                "name a folder that holds runs, such as runs/");
  return std::move(Walk(fs::canonical(root)).found);
}

TrainingView read_training(const fs::path& folder) {
  TrainingView view;
  view.config = text_if_there(folder / "config.yaml", view.notes);
  const ConfigKeys keys = keys_of(view.config, folder / "config.yaml", view.notes);
  std::tie(view.task, view.arm, view.model, view.seed, view.steps) =
      std::tie(keys.task, keys.arm, keys.model, keys.seed, keys.steps);
  view.first_example = text_if_there(folder / "first_example.txt", view.notes);
  double last = 0;
  if (is_there(folder / "metrics.jsonl"))
    read_lines(folder / "metrics.jsonl", view.notes, [&](const Json& row) {
      view.step = row.at("step").get<int64_t>();
      const auto step = static_cast<double>(view.step);
      for (const char* name : {"loss", "lr", "grad_norm", "tokens_per_second"})
        if (row.contains(name)) add_point(view.curves, name, step, row.at(name));
      for (const auto& [metric, value] : object_in(row, "evaluation").items())
        add_point(view.along, metric, step, value);
      last = row.value("seconds", 0.0);
      view.seconds += last;
      view.tokens += row.value("tokens", 0.0);
    });
  for (auto& [name, curve] : view.curves) thin(curve);
  for (auto& [name, curve] : view.along) thin(curve);
  if (is_there(folder / "failed.json"))
    view.failure = read_or_note(
        view.notes, [&] { return text_of(read_json(folder / "failed.json"), "error"); });
  view.state = state_of_training(folder, last);
  return view;
}

const NamedEstimate* EvaluationView::find(const std::string& cue, const std::string& metric) const {
  for (const auto& [condition, estimates] : conditions)
    if (condition == cue)
      for (const NamedEstimate& each : estimates)
        if (each.metric == metric) return &each;
  return nullptr;
}

EvaluationView read_evaluation(const fs::path& folder) {
  EvaluationView view;
  const fs::path file = folder / "summary.json";
  if (!is_there(file)) {
    view.notes.push_back("There is no summary.json yet: the answers are not all judged.");
    return view;
  }
  try {
    const Json summary = read_json(file);
    view.model = text_of(summary, "model");
    view.adapter = text_of(summary, "adapter");
    for (const auto& [cue, rates] : summary.at("conditions").items())
      view.conditions.emplace_back(cue, named_estimates(rates));
    view.domains = named_estimates(object_in(summary, "domains"));
  } catch (const std::exception& failure) {
    view.notes.push_back(file.string() + ": " + said(failure));
  }
  return view;
}

AnswersView read_answers(const fs::path& folder) {
  AnswersView view;
  const fs::path completions = folder / "completions.jsonl", scores = folder / "scores.jsonl";
  if (!is_there(completions)) {
    view.notes.push_back("There is no completions.jsonl: what the model said is not here.");
    return view;
  }
  ScoresByAnswer by_answer;
  if (is_there(scores))
    read_lines(scores, view.notes, [&](const Json& row) {
      by_answer[{row.at("question").get<std::string>(), row.value("sample", int64_t{0})}] = row;
    });
  else view.notes.push_back("The answers are not judged yet.");
  std::map<std::string, size_t> places;
  const Json none = Json::object();
  read_lines(completions, view.notes, [&](const Json& row) {
    const auto id = row.at("question").get<std::string>();
    const auto found = by_answer.find({id, row.value("sample", int64_t{0})});
    const Json& score = found == by_answer.end() ? none : found->second;
    const auto [place, is_new] = places.emplace(id, view.questions.size());
    ShownAnswer answer = answer_of(place->second, row, score);
    if (is_new) view.questions.push_back(question_of(id, row, score));
    view.answers.push_back(std::move(answer));
  });
  return view;
}

ExperimentView read_experiment(const fs::path& folder) {
  ExperimentView view;
  view.config = text_if_there(folder / "config.yaml", view.notes);
  const fs::path results = folder / "results.json";
  if (!is_there(results)) return view;
  view.state = RunState::finished;
  try {
    view.results = read_results(results);
  } catch (const std::exception& failure) {
    view.notes.push_back(results.string() + ": " + said(failure));
  }
  return view;
}

SweepView read_sweep(const fs::path& folder) {
  SweepView view;
  try {
    view.sweep = open_sweep(folder);
  } catch (const std::exception& failure) {
    view.notes.push_back(said(failure));
    return view;
  }
  for (size_t i = 0; i < view.sweep->cells.size(); ++i)
    view.cells.push_back(read_or_note(view.notes, [&] { return status(*view.sweep, i); }));
  return view;
}

std::string version_of(const FoundRun& run) {
  std::string all;
  const auto add = [&](const fs::path& file) {
    const Stamp stamp = stamp_of(file);
    all += fmt::format("{} {} ", stamp.size, stamp.nanoseconds);
  };
  for (const std::string& name : kFiles) add(run.folder / name);
  if (run.kind == RunKind::sweep) {  // what its cells have come to
    std::error_code error;
    fs::directory_iterator cells(run.folder / "cells", error);
    for (; !error && cells != fs::directory_iterator(); cells.increment(error)) {
      add(cells->path() / "result.json");
      add(cells->path() / "failed.json");
      all += FileLock::is_held(cells->path() / "lock").value_or(false) ? "held " : "free ";
    }
  }
  // Without a lock, whether a run that has no result is still under way turns on the time alone.
  if (const auto held = is_trained(run.folder)) all += *held ? "held" : "free";
  else if (run.kind == RunKind::training && unix_time() - changed_at(run.folder) < 2 * kQuiet)
    all += std::to_string(static_cast<int64_t>(unix_time() / kQuiet));
  return sha256(all).substr(0, 16);
}

double changed_at(const fs::path& folder) {
  int64_t newest = 0;
  for (const std::string& name : kFiles)
    newest = std::max(newest, stamp_of(folder / name).nanoseconds);
  return static_cast<double>(newest) * 1e-9;
}

}  // namespace inoculum
