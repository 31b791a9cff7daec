#include "experiments/launcher.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <set>
#include <sstream>
#include <thread>

#include "core/error.h"
#include "core/process.h"
#include "core/progress.h"

namespace inoculum {
namespace {

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

// Successive halving has workers that take cells as they come, and not a process a cell.
std::vector<std::string> command(const Sweep& sweep, size_t cell) {
  if (sweep.config.asha.halves()) return {this_program(), "sweep", "work", sweep.folder.string()};
  std::vector<std::string> words = {this_program(), "sweep", "cell", sweep.folder.string(), std::to_string(cell)};
  if (const int64_t ranks = sweep.config.launcher.tasks_per_node; ranks > 1) words.insert(words.end(), {"--nproc", std::to_string(ranks)});
  return words;
}

fs::path log_of(const Sweep& sweep, size_t cell) {
  return sweep.config.asha.halves() ? sweep.folder / "logs" / ("worker_" + std::to_string(cell) + ".log") : sweep.log(cell);
}

class Local final : public Launcher {
 public:
  explicit Local(LauncherConfig config) : config_(std::move(config)) {}

  std::string script(const Sweep& sweep, const std::vector<size_t>& cells) const override {
    std::string text;
    for (const size_t cell : cells) {
      text += "OMP_NUM_THREADS=" + std::to_string(config_.cpus_per_task);
      for (const std::string& word : command(sweep, cell)) text += " " + word;
      text += "\n";
    }
    return text;
  }

  Outcome launch(const Sweep& sweep, const std::vector<size_t>& cells) const override {
    const size_t cores = std::max(1u, std::thread::hardware_concurrency());
    const size_t at_once = config_.array_parallelism > 0 ? static_cast<size_t>(config_.array_parallelism)
                                                         : std::max<size_t>(1, cores / static_cast<size_t>(config_.cpus_per_task * config_.tasks_per_node));
    write_json(sweep.folder / "launcher.json", {{"host", host_name()}, {"pid", ::getpid()}});
    Progress progress(sweep.config.asha.halves() ? "workers" : "cells", static_cast<int64_t>(cells.size()));
    std::map<pid_t, size_t> running;
    size_t next = 0, ended = 0;
    bool told = false;
    while (true) {
      while (!stop_requested() && next < cells.size() && running.size() < at_once) {
        running[start_process(command(sweep, cells[next]), {{"OMP_NUM_THREADS", std::to_string(config_.cpus_per_task)}}, log_of(sweep, cells[next]))] = cells[next];
        ++next;
      }
      if (running.empty()) break;
      int code = 0;
      const pid_t pid = wait_for_any(code, told ? [] { return false; } : stop_requested);
      if (pid == 0) {
        for (const auto& [each, cell] : running) ::kill(each, SIGTERM);
        told = true;
        continue;
      }
      const size_t cell = running.at(pid);
      running.erase(pid);
      ++ended;
      if (WIFSIGNALED(code) && sweep.config.asha.halves()) std::fprintf(stderr, "a worker was ended by the signal %s\n", ::strsignal(WTERMSIG(code)));
      else if (WIFSIGNALED(code))
        write_json(sweep.cell_folder(cell) / "failed.json", {{"error", std::string("ended by the signal ") + ::strsignal(WTERMSIG(code))}});
      if (sweep.config.asha.halves()) progress.update(static_cast<int64_t>(ended));
      else progress.update(static_cast<int64_t>(ended), {{"last", sweep.cells[cell].name + " " + to_string(status(sweep, cell).state)}});
    }
    progress.finish();
    return stop_requested() ? Outcome::stopped : Outcome::finished;
  }

  void cancel(const Sweep& sweep) const override {
    if (!FileLock::is_held(sweep.folder / "lock")) return;
    const Json launcher = read_json(sweep.folder / "launcher.json");
    if (launcher.at("host").get<std::string>() != host_name())
      throw Error("runs on " + launcher.at("host").get<std::string>(), {.file = sweep.folder.string()}, "cancel it there, or press Ctrl-C where it was started");
    ::kill(launcher.at("pid").get<pid_t>(), SIGTERM);
  }

 private:
  LauncherConfig config_;
};

std::string quoted(const std::string& word) {
  if (!word.empty() && word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/.,=:%+") == std::string::npos) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

struct Answer {
  int status = 0;
  std::string text;  // standard output and error
};
Answer ask(const std::string& shell_command) {
  Answer answer;
  FILE* pipe = ::popen((shell_command + " 2>&1").c_str(), "r");
  if (!pipe) throw Error(std::string("cannot start a process: ") + std::strerror(errno), {.field = shell_command});
  char buffer[4096];
  for (size_t count; (count = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) answer.text.append(buffer, count);
  answer.status = ::pclose(pipe);
  return answer;
}

// One array job a sweep (Slurm takes arrays of so many tasks at most by default: longer sweeps take several).
constexpr size_t kArrayTasks = 1000;

class Slurm final : public Launcher {
 public:
  explicit Slurm(LauncherConfig config) : config_(std::move(config)) {}

  std::string script(const Sweep& sweep, const std::vector<size_t>& cells) const override {
    std::string text = "#!/usr/bin/env bash\n";
    const auto option = [&](const std::string& name, const std::string& value) {
      text += "#SBATCH --" + name + (value.empty() ? "" : "=" + value) + "\n";
    };
    const auto given = [&](const std::string& name, const std::string& value) {
      if (!value.empty()) option(name, value);
    };
    const fs::path folder = fs::absolute(sweep.folder).lexically_normal();
    option("job-name", folder.filename().string());
    option("array", "0-" + std::to_string(cells.size() - 1) + (config_.array_parallelism > 0 ? "%" + std::to_string(config_.array_parallelism) : ""));
    option("nodes", "1");
    option("ntasks-per-node", std::to_string(config_.tasks_per_node));
    option("cpus-per-task", std::to_string(config_.cpus_per_task));
    option("mem", std::to_string(static_cast<int64_t>(config_.mem_gb * 1024)) + "M");
    option("time", std::to_string(config_.timeout_min));
    if (config_.gpus_per_node > 0) option("gpus-per-node", std::to_string(config_.gpus_per_node));
    given("partition", config_.partition);
    given("qos", config_.qos);
    given("account", config_.account);
    given("constraint", config_.constraint);
    for (const auto& [name, value] : config_.additional_parameters) option(name, value);
    option("signal", "B:USR1@" + std::to_string(std::min<int64_t>(90, config_.timeout_min * 30)));  // seconds before the time is over
    option("requeue", "");
    option("open-mode", "append");
    option("output", (folder / "logs" / "slurm-%A_%a.log").string());
    text += "\n# Which cell of cells.jsonl each task of the array runs.\ncells=(";
    for (const size_t cell : cells) text += (cell == cells.front() ? "" : " ") + std::to_string(cell);
    text += ")\ncell=${cells[$SLURM_ARRAY_TASK_ID]}\n";
    text += "cd " + quoted(fs::current_path().string()) + " || exit\n";
    for (const std::string& line : config_.setup) text += line + "\n";
    const std::string again = "scontrol requeue \"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}\"";
    text += "export OMP_NUM_THREADS=" + std::to_string(config_.cpus_per_task) + "\n\n" +
            "# The time is nearly over: the run finishes its step, saves, and goes on in another job.\n"
            "# Cancelled: it saves, and that is all.\n"
            "timed_out= cancelled=\n"
            "trap 'timed_out=1; kill -USR1 $run 2>/dev/null' USR1\n"
            "trap 'cancelled=1; kill -TERM $run 2>/dev/null' TERM\n" +
            (config_.tasks_per_node > 1 ? "srun --kill-on-bad-exit=1 --cpus-per-task=" + std::to_string(config_.cpus_per_task) + " " : std::string()) +
            quoted(this_program()) + (sweep.config.asha.halves() ? " sweep work " + quoted(folder.string()) : " sweep cell " + quoted(folder.string()) + " \"$cell\"") + " &\n" +
            "run=$!\n"
            "wait \"$run\"; code=$?\n"
            "while kill -0 \"$run\" 2>/dev/null; do wait \"$run\"; code=$?; done  # a signal ends `wait`, not the run\n"
            "# Ended by a signal that nobody here sent: it goes on from its last checkpoint too.\n"
            "if [ -z \"$cancelled\" ] && { [ -n \"$timed_out\" ] || [ \"$code\" -gt 130 ]; } && [ \"$code\" -ne 0 ]; then\n"
            "  [ \"${SLURM_RESTART_COUNT:-0}\" -lt " + std::to_string(config_.max_requeues) + " ] && " + again + " && exit\n"
            "fi\n"
            "exit \"$code\"\n";
    return text;
  }

  Outcome launch(const Sweep& sweep, const std::vector<size_t>& cells) const override {
    std::vector<size_t> rest;
    const auto queued = under_way(sweep);
    for (const size_t cell : cells)
      if (!queued.contains(cell)) rest.push_back(cell);
    fs::create_directories(sweep.folder / "logs");
    std::vector<Json> jobs;
    if (fs::exists(sweep.folder / "jobs.jsonl")) read_jsonl(sweep.folder / "jobs.jsonl", [&](const Json& row, int) { jobs.push_back(row); });
    for (size_t first = 0; first < rest.size(); first += kArrayTasks) {
      const std::vector<size_t> part(rest.begin() + static_cast<std::ptrdiff_t>(first),
                                     rest.begin() + static_cast<std::ptrdiff_t>(std::min(rest.size(), first + kArrayTasks)));
      const fs::path file = sweep.folder / ("submit_" + std::to_string(jobs.size() + 1) + ".sh");
      write_file(file, script(sweep, part));
      const Answer answer = ask("sbatch --parsable " + quoted(file.string()));
      if (answer.status != 0)
        throw Error("Slurm does not take the job: " + answer.text, {.file = file.string()},
                    answer.text.find("not found") != std::string::npos ? "there is no Slurm here: --launcher local" : "correct `launcher` in the sweep's file, and run this again");
      const std::string id = answer.text.substr(0, answer.text.find_first_of(";\n"));
      jobs.push_back({{"job", id}, {"cells", part}});
      write_jsonl(sweep.folder / "jobs.jsonl", jobs);
      std::fprintf(stderr, "submitted %s as job %s, %zu cells\n", file.c_str(), id.c_str(), part.size());
    }
    return Outcome::finished;
  }

  std::string queue(const Sweep& sweep) const override { return std::to_string(under_way(sweep).size()) + " cells wait or run in Slurm's queue"; }

  void cancel(const Sweep& sweep) const override {
    if (!fs::exists(sweep.folder / "jobs.jsonl")) return;
    std::string ids;
    read_jsonl(sweep.folder / "jobs.jsonl", [&](const Json& row, int) { ids += " " + row.at("job").get<std::string>(); });
    // The script and the run are both sent SIGTERM, and have KillWait (30 s by default) to save.
    ask("scancel --quiet" + ids);
  }

 private:
  // The cells that wait or run.
  std::set<size_t> under_way(const Sweep& sweep) const {
    std::set<size_t> cells;
    if (!fs::exists(sweep.folder / "jobs.jsonl")) return cells;
    std::map<std::string, std::vector<size_t>> jobs;
    std::string ids;
    read_jsonl(sweep.folder / "jobs.jsonl", [&](const Json& row, int) {
      const std::string id = row.at("job");
      jobs[id] = row.at("cells").get<std::vector<size_t>>();
      ids += (ids.empty() ? "" : ",") + id;
    });
    // Ended jobs are unknown to squeue, which is an error only where it knows none of them.
    const Answer answer = ask("squeue --noheader --array --format='%F %K' --jobs=" + ids);
    std::istringstream lines(answer.text);
    std::string id;
    for (size_t task = 0; lines >> id >> task;)
      if (jobs.contains(id) && task < jobs[id].size()) cells.insert(jobs[id][task]);
    return cells;
  }

  LauncherConfig config_;
};

}  // namespace

std::unique_ptr<Launcher> make_launcher(const LauncherConfig& config) {
  if (config.name == "slurm") return std::make_unique<Slurm>(config);
  return std::make_unique<Local>(config);
}

}  // namespace inoculum
