// Slurm's programs, asked as a user would ask them. Sites let filters, wrappers and plugins write
// beside the answers: each answer is found among what stands around it, and a question that fails
// is an Error, never an empty answer.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/files.h"

namespace inoculum {

struct SlurmJob {
  std::string id, cluster = {};  // cluster: empty but where Slurm has several
};

// Tasks of an array job.
struct SlurmTasks {
  bool all = false;
  std::set<size_t> some = {};

  bool contains(size_t task) const { return all || some.contains(task); }
};

// The job that sbatch's standard output names: a line "4711", "4711;cluster" or "Submitted batch
// job 4711", the last of them.
std::optional<SlurmJob> submitted_job(const std::string& output);
// "3", "0-2,7", "[0-9:2%4]"; all of them where it is anything else, such as a list cut short.
SlurmTasks tasks_in(const std::string& text);
// job → its tasks, from squeue's lines "job task", "job_task" or "job_[tasks]".
std::map<std::string, SlurmTasks> queued_tasks(const std::string& output);
// A line of a job's script: #SBATCH --name=value, quoted; value empty: #SBATCH --name.
std::string sbatch_line(const std::string& name, const std::string& value);
std::string without_patterns(const std::string& path);  // for an option that takes % for a pattern

// Calls `note` as soon as the job has a number, before an Error that may follow.
SlurmJob submit_job(const fs::path& script, const std::function<void(const SlurmJob&)>& note);
size_t largest_array();  // MaxArraySize
// Of those that wait or run.
std::map<std::string, SlurmTasks> queued_tasks(const std::vector<SlurmJob>& jobs);
void cancel_jobs(const std::vector<SlurmJob>& jobs);  // ended ones among them are no fault

// How tasks ended, such as OUT_OF_MEMORY: job → task → state. Accounting says it, or what the
// controller still remembers; `complaint` is why nothing is known of the others.
struct SlurmStates {
  std::map<std::string, std::map<size_t, std::string>> states;
  std::string complaint;
};
SlurmStates task_states(const std::vector<SlurmJob>& jobs);

}  // namespace inoculum
