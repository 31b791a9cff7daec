#include "experiments/sweeps/launcher.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstring>
#include <set>
#include <thread>

#include "core/base/error.h"
#include "core/base/process.h"
#include "core/base/progress.h"
#include "core/base/signals.h"
#include "core/base/strings.h"
#include "core/model/device.h"
#include "experiments/inoculation/with_config.h"
#include "experiments/sweeps/slurm.h"
#include "experiments/sweeps/status.h"

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
  std::vector<std::string> words = {this_program(), "sweep", "cell", sweep.folder.string(),
                                    sweep.cells[cell].folder()};
  if (const int64_t ranks = sweep.config.launcher.tasks_per_node; ranks > 1)
    words.insert(words.end(), {"--nproc", std::to_string(ranks)});
  return words;
}

constexpr const char* kKilled =
    ", as the system does where memory is short: try fewer cells at a time (--max-parallel) or a "
    "smaller batch_tokens";

fs::path log_of(const Sweep& sweep, size_t cell) {
  return sweep.config.asha.halves()
             ? sweep.folder / "logs" / ("worker_" + std::to_string(cell) + ".log")
             : sweep.log(cell);
}

// Where a process was ended by a signal, or one of its ranks was, it could not say so itself.
void note_end(const Sweep& sweep, size_t cell, int code) {
  int signal = 0;
  if (WIFSIGNALED(code)) signal = WTERMSIG(code);
  else if (const int above = WEXITSTATUS(code) - 128; above > 0 && above < NSIG) signal = above;
  if (signal == 0 || signal == SIGINT) return;  // that of a cell that was asked to stop, and saved
  const std::string why = std::string("ended by the signal ") + ::strsignal(signal);
  const fs::path failed = sweep.cell_folder(cell) / "failed.json";
  if (sweep.config.asha.halves()) std::fprintf(stderr, "a worker was %s\n", why.c_str());
  else if (!fs::exists(failed))
    write_json(failed, {{"error", why + (signal == SIGKILL ? kKilled : "")}});
}

const TrainerConfig& trainer_of(const PretrainConfig& config) { return config.trainer; }
const TrainerConfig& trainer_of(const TrainConfig& config) { return config.recipe.trainer; }
const TrainerConfig& trainer_of(const ReproduceConfig& config) {
  return config.fine_tuning.trainer;
}

class Local final : public Launcher {
 public:
  explicit Local(LauncherConfig config) : config_(std::move(config)) {}

  std::string script(const Sweep& sweep, const std::vector<size_t>& cells) const override {
    std::string text;
    for (const size_t cell : cells) {
      text += "OMP_NUM_THREADS=" + std::to_string(cores_a_cell());
      for (const std::string& word : command(sweep, cell)) text += " " + shell_quoted(word);
      text += "\n";
    }
    return text;
  }

  Outcome launch(const Sweep& sweep, const std::vector<size_t>& cells) const override {
    const size_t at_once = config_.array_parallelism > 0
                               ? static_cast<size_t>(config_.array_parallelism)
                               : cells_at_once(sweep);
    write_json(sweep.folder / "launcher.json", {{"host", host_name()}, {"pid", ::getpid()}});
    Progress progress(sweep.config.asha.halves() ? "workers" : "cells",
                      static_cast<int64_t>(cells.size()));
    std::map<pid_t, size_t> running;
    size_t next = 0, ended = 0;
    bool ending = false;  // those that run were asked to end
    while (true) {
      while (!stop_requested() && next < cells.size() && running.size() < at_once) {
        running[start_process(command(sweep, cells[next]),
                              {{"OMP_NUM_THREADS", std::to_string(cores_a_cell())}},
                              log_of(sweep, cells[next]))] = cells[next];
        ++next;
      }
      if (running.empty()) break;
      int code = 0;
      const pid_t pid = wait_for_any(code, ending ? [] { return false; } : stop_requested);
      if (pid == 0) {
        for (const auto& [each, cell] : running) ::kill(each, SIGTERM);
        ending = true;
        continue;
      }
      const size_t cell = running.at(pid);
      running.erase(pid);
      ++ended;
      note_end(sweep, cell, code);
      if (sweep.config.asha.halves()) progress.update(static_cast<int64_t>(ended));
      else
        progress.update(
            static_cast<int64_t>(ended),
            {{"last", sweep.cells[cell].name + " " + to_string(status(sweep, cell).state)}});
    }
    progress.finish();
    return stop_requested() ? Outcome::stopped : Outcome::finished;
  }

  // A cell of several ranks divides them among these.
  int64_t cores_a_cell() const { return config_.cpus_per_task * config_.tasks_per_node; }

  // As many as there are cores for, but one where it takes the GPU.
  size_t cells_at_once(const Sweep& sweep) const {
    bool gpu = false;
    with_config(load_config(sweep.folder / "base.yaml"), [&](const auto& base, const Source&) {
      gpu = device_from(trainer_of(base).device).is_cuda();
    });
    const size_t cores = std::max(1u, std::thread::hardware_concurrency());
    return gpu ? 1 : std::max<size_t>(1, cores / static_cast<size_t>(cores_a_cell()));
  }

  void cancel(const Sweep& sweep) const override {
    const auto held = FileLock::is_held(sweep.folder / "lock");
    if (!held.value_or(true) || !fs::exists(sweep.folder / "launcher.json")) {
      std::fprintf(stderr, "nothing is under way in %s\n", sweep.folder.c_str());
      return;
    }
    const Json launcher = read_json(sweep.folder / "launcher.json");
    if (launcher.at("host").get<std::string>() != host_name())
      throw Error("runs on " + launcher.at("host").get<std::string>(),
                  {.file = sweep.folder.string()},
                  "cancel it there, or press Ctrl-C where it was started");
    const auto pid = launcher.at("pid").get<pid_t>();
    if (!held) {  // without locks: a process of this number may be another by now
      std::error_code error;
      const fs::path program = fs::read_symlink("/proc/" + std::to_string(pid) + "/exe", error);
      if (error || program != this_program())
        throw Error("no `inoculum sweep` of the number " + std::to_string(pid) + " runs here",
                    {.file = sweep.folder.string()},
                    "it has ended, or was started by another program");
    }
    ::kill(pid, SIGTERM);
  }

 private:
  LauncherConfig config_;
};

// What a job's script does where the run was ended before its end.
constexpr const char* kAfterwards = R"sh(
# Why Slurm ended this job, by its own words in the log and by the job's state. Its user's cancel
# is no reason to come back.
said() { grep -s "CANCELLED AT" "$log" | tail -n "+$((said_before + 1))" | tail -n 1; }
comes_back() {
  case "$(said)" in *"DUE TO PREEMPTION"* | *"DUE TO TIME LIMIT"*) return 0 ;; esac
  case "$(scontrol show job --oneliner "$task" 2> /dev/null)" in
    *JobState=CANCELLED*) return 1 ;;
    *JobState=PREEMPTED* | *JobState=TIMEOUT*) return 0 ;;
    *JobState=RUNNING*PreemptTime=[0-9]*) return 0 ;;  # notice has been given
    *PreemptTime=[0-9]*) [ -z "$(said)" ] ;;
    *) return 1 ;;
  esac
}
again() {
  [ -z "$requeued" ] || return 0
  if [ "${SLURM_RESTART_COUNT:-0}" -ge "$max_requeues" ]; then
    echo "inoculum: it does not go on in another job: launcher.max_requeues is $max_requeues" >&2
    return 1
  fi
  requeued=1
  scontrol requeue "$task" || true  # Slurm may have done so itself
}
# The kernel counts the processes that it kills for want of memory; Slurm tells of them in the log.
out_of_memory() {
  local number controllers path
  tail -n "+$((lines_before + 1))" "$log" 2> /dev/null |
    grep -qiE "oom.kill event|: Out Of Memory" && return
  while IFS=: read -r number controllers path; do
    case $controllers in
      "") path=${path%/step_*}/memory.events ;;
      memory) path=/memory$path/memory.oom_control ;;
      *) continue ;;
    esac
    grep -qsE "^oom_kill [1-9]" "/sys/fs/cgroup$path" && return
  done < /proc/self/cgroup
  return 1
}

# Time nearly over: the run finishes its step, saves, and goes on in another job. Ended: it saves,
# and goes on where that was Slurm's decision. There is little time then: Slurm is asked at once.
timed_out= ended= requeued=
trap 'timed_out=1; kill -USR1 $run 2> /dev/null' USR1
on_end() {
  ended=1
  kill -USR1 $run 2> /dev/null
  case "$(said)" in *"DUE TO "*) comes_back && again ;; esac
}
trap on_end TERM
)sh";

// States of Slurm in which a job ends before its end.
constexpr std::pair<const char*, const char*> kEndings[] = {
    {"OUT_OF_MEMORY", "raise launcher.mem_gb, or lower batch_tokens"},
    {"TIMEOUT", "there was no time to save: raise launcher.timeout_min, or set checkpoint_every"},
    {"DEADLINE", "the deadline that was given to the job is over"},
    {"PREEMPTED", "gave way to another job"},
    {"NODE_FAIL", "the node failed"},
    {"BOOT_FAIL", "the node did not start"},
    {"CANCELLED", "by its user or an administrator"},
    {"FAILED", "the log says why"},
};

class Slurm final : public Launcher {
 public:
  explicit Slurm(LauncherConfig config) : config_(std::move(config)) {}

  std::string script(const Sweep& sweep, const std::vector<size_t>& cells) const override {
    return script(sweep, cells, "");
  }

  Outcome launch(const Sweep& sweep, const std::vector<size_t>& cells) const override {
    const auto queued = under_way(sweep, cells);
    std::vector<size_t> rest;
    for (const size_t cell : cells)
      if (!queued.contains(cell)) rest.push_back(cell);
    if (rest.empty()) return Outcome::finished;
    fs::create_directories(sweep.folder / "logs");
    std::vector<Json> rows = read_jobs(sweep);
    const size_t most = largest_array();
    if (most == 0)
      throw Error("this Slurm takes no array jobs (its MaxArraySize is 0)",
                  {.field = "launcher.name"}, "--launcher local");
    std::string before;  // with a limit on cells at a time one array waits for the other
    for (size_t first = 0; first < rest.size(); first += most) {
      const std::vector<size_t> part(
          rest.begin() + static_cast<std::ptrdiff_t>(first),
          rest.begin() + static_cast<std::ptrdiff_t>(std::min(rest.size(), first + most)));
      const fs::path file = sweep.folder / ("submit_" + std::to_string(rows.size() + 1) + ".sh");
      write_file(file, script(sweep, part, before));
      std::vector<std::string> names;
      for (const size_t cell : part) names.push_back(name_of(sweep, cell));
      const SlurmJob job = submit_job(file, [&](const SlurmJob& each) {
        rows.push_back({{"job", each.id}, {"cells", names}, {"folder", sweep.folder.string()}});
        if (!each.cluster.empty()) rows.back()["cluster"] = each.cluster;
        write_jsonl(sweep.folder / "jobs.jsonl", rows);
      });
      if (config_.array_parallelism > 0) before = "afterany:" + job.id;
      std::fprintf(stderr, "submitted %s as job %s, %zu cells\n", file.c_str(), job.id.c_str(),
                   part.size());
    }
    return Outcome::finished;
  }

  std::string queue(const Sweep& sweep) const override {
    const std::vector<size_t> open = not_done(sweep);
    const auto queued = under_way(sweep, open);
    return std::to_string(queued.size()) + " cells wait or run in Slurm's queue" +
           endings(sweep, open, queued);
  }

  void cancel(const Sweep& sweep) const override {
    const std::vector<size_t> open = not_done(sweep);
    std::vector<SlurmJob> jobs;
    for (const Submitted& each : jobs_of(sweep, open)) jobs.push_back(each.job);
    if (jobs.empty()) {
      std::fprintf(stderr, "nothing is under way in %s\n", sweep.folder.c_str());
      return;
    }
    // The script and the run are both sent SIGTERM, and have KillWait (30 s by default) to save.
    cancel_jobs(jobs);
    std::fprintf(stderr, "cancelled %zu jobs; what runs saves and ends\n", jobs.size());
  }

 private:
  // A job of this sweep, with the cells of its tasks; those that the sweep no longer has are its
  // number of cells.
  struct Submitted {
    SlurmJob job;
    std::vector<size_t> cells;
  };

  static std::vector<size_t> not_done(const Sweep& sweep) {
    std::vector<size_t> cells;
    for (size_t cell = 0; cell < sweep.cells.size(); ++cell)
      if (status(sweep, cell).state != CellState::done) cells.push_back(cell);
    return cells;
  }

  static std::string name_of(const Sweep& sweep, size_t cell) {
    return sweep.config.asha.halves() ? "worker_" + std::to_string(cell)
                                      : sweep.cells[cell].folder();
  }

  static std::vector<Json> read_jobs(const Sweep& sweep) {
    std::vector<Json> rows;
    if (fs::exists(sweep.folder / "jobs.jsonl"))
      read_jsonl(sweep.folder / "jobs.jsonl", [&](const Json& row, int) { rows.push_back(row); });
    return rows;
  }

  // The jobs that some of these cells were submitted with, in order.
  static std::vector<Submitted> jobs_of(const Sweep& sweep, const std::vector<size_t>& cells) {
    std::map<std::string, size_t> numbers;
    for (size_t cell = 0; cell < sweep.cells.size(); ++cell) numbers[name_of(sweep, cell)] = cell;
    const std::set<size_t> wanted(cells.begin(), cells.end());
    std::vector<Submitted> jobs;
    for (const Json& row : read_jobs(sweep)) {
      // A copied sweep has not submitted what its original has.
      const fs::path from = row.value("folder", sweep.folder.string());
      std::error_code error;
      if (fs::exists(from / "jobs.jsonl", error) && !fs::equivalent(from, sweep.folder, error))
        continue;
      Submitted job{{row.at("job").get<std::string>(), row.value("cluster", std::string())}, {}};
      for (const Json& cell : row.at("cells")) {
        if (cell.is_number()) job.cells.push_back(cell.get<size_t>());  // by earlier versions
        else if (const auto found = numbers.find(cell.get<std::string>()); found != numbers.end())
          job.cells.push_back(found->second);
        else job.cells.push_back(sweep.cells.size());
      }
      if (std::any_of(job.cells.begin(), job.cells.end(),
                      [&](size_t cell) { return wanted.contains(cell); }))
        jobs.push_back(std::move(job));
    }
    return jobs;
  }

  // Those of the cells that wait or run.
  static std::set<size_t> under_way(const Sweep& sweep, const std::vector<size_t>& cells) {
    const auto submitted = jobs_of(sweep, cells);
    std::vector<SlurmJob> jobs;
    for (const Submitted& each : submitted) jobs.push_back(each.job);
    const auto tasks = queued_tasks(jobs);
    std::set<size_t> found;
    for (const Submitted& each : submitted)
      if (const auto at = tasks.find(each.job.id); at != tasks.end())
        for (size_t task = 0; task < each.cells.size(); ++task)
          if (at->second.contains(task) && each.cells[task] < sweep.cells.size())
            found.insert(each.cells[task]);
    return found;
  }

  // How the jobs of those cells ended that have no result, nor an error of their own, and are not
  // under way.
  static std::string endings(const Sweep& sweep, const std::vector<size_t>& cells,
                             const std::set<size_t>& queued) {
    std::vector<size_t> open;
    for (const size_t cell : cells)
      if (!queued.contains(cell) &&
          (sweep.config.asha.halves() || status(sweep, cell).state == CellState::pending))
        open.push_back(cell);
    const auto submitted = jobs_of(sweep, open);
    if (submitted.empty()) return "";
    std::vector<SlurmJob> jobs;
    for (const Submitted& each : submitted) jobs.push_back(each.job);
    const SlurmStates found = task_states(jobs);
    std::map<size_t, std::pair<std::string, std::string>> last;  // cell → job_task, state
    for (const Submitted& each : submitted)
      for (size_t task = 0; task < each.cells.size(); ++task) {
        const auto job = found.states.find(each.job.id);
        std::string state;
        if (job != found.states.end() && job->second.contains(task)) state = job->second.at(task);
        last[each.cells[task]] = {each.job.id + "_" + std::to_string(task), state};
      }
    std::map<std::string, std::vector<std::string>> ended;  // state → its cells
    size_t unknown = 0;
    for (const size_t cell : open) {
      if (!last.contains(cell)) continue;
      const auto& [task, state] = last.at(cell);
      if (state.empty()) ++unknown;
      ended[state].push_back(name_of(sweep, cell) + " (logs/slurm-" + task + ".log)");
    }
    std::string text;
    for (const auto& [state, meaning] : kEndings) {
      const auto& names = ended[state];
      constexpr size_t kShown = 5;
      if (!names.empty()) text += std::string("    ") + state + ": " + meaning + "\n";
      for (size_t i = 0; i < std::min(names.size(), kShown); ++i)
        text += "      " + names[i] + "\n";
      if (names.size() > kShown)
        text += "      and " + std::to_string(names.size() - kShown) + " more\n";
    }
    if (!text.empty())
      text = "\n\n  ended before their end; `inoculum sweep resume` submits them again\n" + text;
    if (unknown > 0 && !found.complaint.empty())
      text += "\n  of " + std::to_string(unknown) +
              " cells Slurm does not say how they ended: " + found.complaint;
    return text;
  }

  // The user's own options of sbatch, by their long names or single letters.
  std::map<std::string, std::string> users_options() const {
    static const std::map<std::string, std::string> ours = {
        {"array", "array_parallelism says how many cells run at a time"},
        {"nodes", "a cell runs on one node"},
        {"N", "a cell runs on one node"},
        {"requeue", "max_requeues says how often"},
        {"no-requeue", "max_requeues: 0"},
        {"a", "array_parallelism says how many cells run at a time"},
        {"wrap", "setup takes lines of shell"},
        {"test-only", "--dry-run shows what would be submitted"}};
    std::map<std::string, std::string> given;
    for (const auto& [key, value] : config_.additional_parameters) {
      const Where where{.field = "launcher.additional_parameters." + key};
      std::string name = key.substr(std::min(key.find_first_not_of('-'), key.size()));
      std::replace(name.begin(), name.end(), '_', '-');
      if (name.empty() || !std::all_of(name.begin(), name.end(),
                                       [](unsigned char c) { return std::isalnum(c) || c == '-'; }))
        throw Error("is no name of an option of sbatch", where,
                    "as in {exclusive: true, nice: 100}");
      if (const auto found = ours.find(name); found != ours.end())
        throw Error("is decided by the sweep", where, found->second);
      if (name == "signal" && !value.starts_with("B:USR1"))
        throw Error("must begin with B:USR1, by which the job saves in time", where,
                    "such as B:USR1@300");
      if (value == "false") continue;
      given[name] = value == "true" || value == "~" || value == "null" ? "" : value;
    }
    return given;
  }

  // An option of ours, and the user's options that say the same.
  struct Option {
    std::string name, value;
    std::vector<std::string> also = {};
  };
  std::vector<Option> our_options(const fs::path& folder, size_t tasks) const {
    const LauncherConfig& c = config_;
    const std::string at_once =
        c.array_parallelism > 0 ? "%" + std::to_string(c.array_parallelism) : "";
    std::vector<Option> all = {
        {"job-name", folder.filename().string(), {"J"}},
        {"array", "0-" + std::to_string(tasks - 1) + at_once},
        {"nodes", "1"},
        {"ntasks-per-node", std::to_string(c.tasks_per_node), {"ntasks", "n"}},
        {"cpus-per-task", std::to_string(c.cpus_per_task), {"c"}},
        {"mem",
         std::to_string(static_cast<int64_t>(c.mem_gb * 1024)) + "M",
         {"mem-per-cpu", "mem-per-gpu"}},
        {"time", std::to_string(c.timeout_min), {"t"}}};
    if (c.gpus_per_node > 0)
      all.push_back({"gpus-per-node",
                     std::to_string(c.gpus_per_node),
                     {"gres", "gpus", "G", "gpus-per-task"}});
    for (const Option& known : {Option{"partition", c.partition, {"p"}},
                                {"qos", c.qos, {"q"}},
                                {"account", c.account, {"A"}},
                                {"constraint", c.constraint, {"C"}}})
      if (!known.value.empty()) all.push_back(known);
    const int64_t seconds = std::min<int64_t>(90, c.timeout_min * 30);  // for saving
    all.push_back({"signal", "B:USR1@" + std::to_string(seconds)});
    all.push_back({"requeue", ""});
    all.push_back({"open-mode", "append"});
    all.push_back({"output", without_patterns(folder.string()) + "/logs/slurm-%A_%a.log", {"o"}});
    return all;
  }

  // The lines of sbatch: ours, but where the user's own say the same.
  std::string options(const Sweep& sweep, size_t tasks, const std::string& after) const {
    const fs::path& folder = sweep.folder;
    if (folder.string().find('\\') != std::string::npos)
      throw Error("the path has a backslash, with which Slurm finds no log",
                  {.file = folder.string(), .field = "output"}, "name another folder");
    auto given = users_options();
    if (!after.empty())
      given["dependency"] =
          given.contains("dependency") ? given["dependency"] + "," + after : after;
    std::string text;
    for (const Option& option : our_options(folder, tasks)) {
      const auto is_given = [&](const std::string& name) { return given.contains(name); };
      if (is_given(option.name) || std::any_of(option.also.begin(), option.also.end(), is_given))
        continue;
      text += sbatch_line(option.name, option.value);
    }
    for (const auto& [name, value] : given) text += sbatch_line(name, value);
    return text;
  }

  std::string script(const Sweep& sweep, const std::vector<size_t>& cells,
                     const std::string& after) const {
    const bool halves = sweep.config.asha.halves();
    std::string text = "#!/usr/bin/env bash\n" + options(sweep, cells.size(), after);
    text += "\n# What each task of the array runs.\ncells=(\n";
    for (const size_t cell : cells) text += shell_quoted(name_of(sweep, cell)) + "\n";
    text += R"sh()
cell=${cells[$SLURM_ARRAY_TASK_ID]}
task=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
)sh";
    text += "max_requeues=" + std::to_string(config_.max_requeues) + "\n";
    text += "folder=" + shell_quoted(sweep.folder.string()) + "\n";
    text += "log=$folder/logs/slurm-$task.log\n";
    text += R"sh(said_before=$(grep -sc "CANCELLED AT" "$log")
lines_before=$(cat "$log" 2> /dev/null | wc -l)
mine=$folder/logs/$cell.log
[ -e "$mine" ] && [ ! -L "$mine" ] || ln -sfn "slurm-$task.log" "$mine"
)sh";
    const fs::path directory =
        fs::is_directory(sweep.config.directory) ? fs::path(sweep.config.directory) : sweep.folder;
    text += "cd " + shell_quoted(directory.string()) + " || exit\n";
    for (const std::string& line : config_.setup) text += line + "\n";
    text += "export OMP_NUM_THREADS=" + std::to_string(config_.cpus_per_task) + "\n" + kAfterwards;
    if (config_.tasks_per_node > 1)
      text += "srun --kill-on-bad-exit=1 --cpus-per-task=" + std::to_string(config_.cpus_per_task) +
              " ";
    text += shell_quoted(this_program()) +
            (halves ? " sweep work \"$folder\"" : " sweep cell \"$folder\" \"$cell\"") + " &\n";
    text += R"sh(run=$!
wait "$run"; code=$?
# A signal ends `wait`, not the run.
while kill -0 "$run" 2> /dev/null; do wait "$run"; code=$?; done
[ "$code" -eq 0 ] && exit
if [ "$code" -eq 137 ] && out_of_memory; then
  echo "inoculum: killed for want of memory, and it would be again: raise launcher.mem_gb," \
    "or lower batch_tokens" >&2
elif [ -n "$ended" ] || { [ "$code" -eq 130 ] && [ -z "$timed_out" ]; }; then
  comes_back && again
elif [ -n "$timed_out" ] || [ "$code" -gt 130 ]; then
  again  # ended by a signal that nobody here sent: it goes on from its last checkpoint too
fi
exit "$code"
)sh";
    return text;
  }

  LauncherConfig config_;
};

}  // namespace

std::unique_ptr<Launcher> make_launcher(const LauncherConfig& config) {
  if (config.name == "slurm") return std::make_unique<Slurm>(config);
  return std::make_unique<Local>(config);
}

}  // namespace inoculum
