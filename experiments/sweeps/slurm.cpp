#include "experiments/sweeps/slurm.h"

#include <algorithm>
#include <cstdio>
#include <regex>
#include <sstream>

#include "core/base/error.h"
#include "core/base/process.h"

namespace inoculum {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back()))) line.pop_back();
    line.erase(0, std::min(line.find_first_not_of(" \t"), line.size()));
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

// What went wrong, in the program's own words.
std::string words_of(const Finished& finished, const std::string& program) {
  if (finished.timed_out) return program + " does not answer";
  std::string text;
  for (const std::string& line : lines_of(finished.error.empty() ? finished.out : finished.error))
    text += (text.empty() ? "" : "; ") + line;
  return text.empty() ? program + " ends with the exit status " + std::to_string(finished.status)
                      : text;
}

// Lines that speak of an error; notices do not.
std::vector<std::string> errors_in(const Finished& finished) {
  std::vector<std::string> errors;
  for (const std::string& line : lines_of(finished.error))
    if (std::regex_search(line, std::regex("error:|fatal:|timed out|unable to|invalid job id",
                                           std::regex::icase)))
      errors.push_back(line);
  return errors;
}

// All that it complains of is that jobs have ended.
bool only_of_ended_jobs(const Finished& finished) {
  const auto errors = errors_in(finished);
  return !errors.empty() && std::all_of(errors.begin(), errors.end(), [](const std::string& line) {
    return std::regex_search(line, std::regex("Invalid job id|already complet", std::regex::icase));
  });
}

std::string hint_for(const Finished& finished) {
  return finished.status == 127 ? "there is no Slurm here: --launcher local"
                                : "the controller may be busy: try again later";
}

// Each cluster is asked by itself: cluster → the words that name its jobs.
std::map<std::string, std::vector<std::string>> by_cluster(const std::vector<SlurmJob>& jobs) {
  std::map<std::string, std::vector<std::string>> clusters;
  for (const SlurmJob& job : jobs) clusters[job.cluster].push_back(job.id);
  return clusters;
}

std::string joined(const std::vector<std::string>& ids) {
  std::string text;
  for (const std::string& id : ids) text += (text.empty() ? "" : ",") + id;
  return text;
}

std::vector<std::string> on_cluster(std::vector<std::string> command, const std::string& cluster) {
  if (!cluster.empty()) command.push_back("--clusters=" + cluster);
  return command;
}

// Variables such as SQUEUE_STATES would change the answer.
Finished ask_squeue(const std::string& cluster, std::vector<std::string> options,
                    std::chrono::seconds limit = {}) {
  std::vector<std::string> command = {"squeue", "--noheader", "--array", "--format=%F %K %T"};
  command.insert(command.end(), options.begin(), options.end());
  return run_program(on_cluster(command, cluster), "SQUEUE_", limit);
}

}  // namespace

std::optional<SlurmJob> submitted_job(const std::string& output) {
  std::optional<SlurmJob> found;
  static const std::regex parsable("([0-9]+)(?:;(\\S+))?"),
      spoken("Submitted batch job ([0-9]+)(?: on cluster (\\S+))?");
  for (const std::string& line : lines_of(output)) {
    std::smatch match;
    if (std::regex_match(line, match, parsable) || std::regex_search(line, match, spoken))
      found = {match[1].str(), match[2].str()};
  }
  return found;
}

SlurmTasks tasks_in(const std::string& text) {
  static const std::regex list("\\[?([0-9,:-]+)(?:%[0-9]+)?\\]?"),
      range("([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?");
  SlurmTasks tasks;
  std::smatch whole;
  if (!std::regex_match(text, whole, list)) return {.all = true};
  std::istringstream parts(whole[1].str());
  for (std::string part; std::getline(parts, part, ',');) {
    std::smatch match;
    if (!std::regex_match(part, match, range)) return {.all = true};
    const size_t first = std::stoul(match[1]),
                 last = match[2].matched ? std::stoul(match[2]) : first;
    const size_t step = match[3].matched ? std::max(1ul, std::stoul(match[3])) : 1;
    if (last >= first + 10'000'000) return {.all = true};
    for (size_t task = first; task <= last; task += step) tasks.some.insert(task);
  }
  return tasks;
}

std::map<std::string, SlurmTasks> queued_tasks(const std::string& output) {
  // Other lines are headers and notices.
  static const std::regex form("([0-9]+)(?:_(\\S+)|\\s+(\\S+))?(?:\\s.*)?");
  std::map<std::string, SlurmTasks> found;
  for (const std::string& line : lines_of(output)) {
    std::smatch match;
    if (!std::regex_match(line, match, form)) continue;
    SlurmTasks tasks = tasks_in(match[2].matched ? match[2].str() : match[3].str());
    SlurmTasks& all = found[match[1].str()];
    all.all = all.all || tasks.all;
    all.some.merge(tasks.some);
  }
  return found;
}

// sbatch parts these lines at white space that is not quoted, ends them at # and takes a backslash
// for an escape.
std::string sbatch_line(const std::string& name, const std::string& value) {
  for (const char c : value)
    if (static_cast<unsigned char>(c) < 32 && c != '\t')
      throw Error("has a line break or another control character, which a job's script can't hold",
                  {.field = name}, "rename it");
  std::string text;
  for (const char c : value) {
    if (c == '"') text += "\"'\"'\"";
    else if (c == '\\') text += "\\\\";
    else text += c;
  }
  const bool plain =
      value.find_first_not_of(
          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/.,=:%+@") ==
      std::string::npos;
  const bool letter = name.size() == 1;
  std::string line = (letter ? "#SBATCH -" : "#SBATCH --") + name;
  if (!value.empty()) line += (letter ? " " : "=") + (plain ? value : "\"" + text + "\"");
  return line + "\n";
}

std::string without_patterns(const std::string& path) {
  std::string text;
  for (const char c : path) text.append(c == '%' ? 2 : 1, c);
  return text;
}

SlurmJob submit_job(const fs::path& script, const std::function<void(const SlurmJob&)>& note) {
  const Finished answer = run_program({"sbatch", "--parsable", script.string()});
  const auto job = submitted_job(answer.out);
  if (job) note(*job);  // whatever else is wrong: it may be queued
  const std::string words = words_of(answer, "sbatch");
  const Where where{.file = script.string()};
  if (answer.status != 0 && job)
    throw Error("sbatch submitted job " + job->id + " and failed: " + words, where,
                "`inoculum sweep status` shows whether it waits");
  if (answer.status == 127)
    throw Error("Slurm does not take the job: " + words, where, hint_for(answer));
  if (answer.status != 0)
    throw Error("Slurm does not take the job: " + words, where,
                words.find("timed out") != std::string::npos
                    ? "it may have been queued all the same: look with `squeue --me`, and cancel "
                      "it there before you run this again"
                    : "correct `launcher` in the sweep's file, and run this again");
  if (!job)
    throw Error("sbatch's answer names no job: " + words, where,
                "look with `squeue --me` whether it was queued, and cancel it there before you run "
                "this again");
  for (const std::string& line : lines_of(answer.error))
    std::fprintf(stderr, "%s\n", line.c_str());  // notices
  return *job;
}

size_t largest_array() {
  const Finished answer = run_program({"scontrol", "show", "config"}, "", std::chrono::seconds(60));
  std::smatch match;
  if (!std::regex_search(answer.out, match, std::regex("MaxArraySize\\s*=\\s*([0-9]{1,9})")))
    return 1001;  // Slurm's default
  return std::stoul(match[1]);
}

std::map<std::string, SlurmTasks> queued_tasks(const std::vector<SlurmJob>& jobs) {
  std::map<std::string, SlurmTasks> all;
  for (const auto& [cluster, ids] : by_cluster(jobs)) {
    const Finished answer = ask_squeue(cluster, {"--jobs=" + joined(ids)});
    const auto tasks = queued_tasks(answer.out);
    // squeue calls it an error where it remembers none of the jobs. Some wrappers fail with the
    // status 0.
    const bool failed = answer.status != 0 || (tasks.empty() && !errors_in(answer).empty());
    if (failed && !only_of_ended_jobs(answer))
      throw Error("Slurm does not say which jobs wait or run: " + words_of(answer, "squeue"), {},
                  hint_for(answer));
    all.insert(tasks.begin(), tasks.end());
  }
  return all;
}

void cancel_jobs(const std::vector<SlurmJob>& jobs) {
  std::string complaints, hint;
  for (const auto& [cluster, ids] : by_cluster(jobs)) {
    std::vector<std::string> command = on_cluster({"scancel"}, cluster);
    command.insert(command.end(), ids.begin(), ids.end());
    const Finished answer = run_program(command, "SCANCEL_");
    if ((answer.status == 0 && errors_in(answer).empty()) || only_of_ended_jobs(answer)) continue;
    complaints += (complaints.empty() ? "" : "; ") + words_of(answer, "scancel");
    hint = hint_for(answer);
  }
  if (!complaints.empty()) throw Error("Slurm does not cancel the jobs: " + complaints, {}, hint);
}

SlurmStates task_states(const std::vector<SlurmJob>& jobs) {
  SlurmStates found;
  const auto read = [&](const std::string& output) {
    static const std::regex form("([0-9]+)(?:_|\\s+)([0-9]{1,9})[\\s|]+([A-Z_]+)\\b.*");
    for (const std::string& line : lines_of(output)) {
      std::smatch match;
      if (std::regex_match(line, match, form))
        found.states[match[1].str()].insert({std::stoul(match[2]), match[3].str()});
    }
  };
  constexpr std::chrono::seconds kLimit(60);  // this tells more, and decides nothing
  for (const auto& [cluster, ids] : by_cluster(jobs)) {
    const Finished account =
        run_program(on_cluster({"sacct", "--allocations", "--noheader", "--parsable2",
                                "--format=JobID,State,ExitCode", "--jobs=" + joined(ids)},
                               cluster),
                    "SACCT_", kLimit);
    if (account.status == 0) read(account.out);
    if (account.status != 0 || account.timed_out) found.complaint = words_of(account, "sacct");
    // The controller knows a job for some minutes after its end.
    read(ask_squeue(cluster, {"--states=all", "--jobs=" + joined(ids)}, kLimit).out);
  }
  return found;
}

}  // namespace inoculum
