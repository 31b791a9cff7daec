#include "experiments/inoculation/task.h"

#include <cstdio>
#include <mutex>
#include <optional>
#include <set>

#include "core/base/error.h"

namespace inoculum {
namespace {

const std::vector<std::string>& task_names() {  // in the order of Task
  static const std::vector<std::string> names = {"train", "pretrain", "reproduce", "sweep"};
  return names;
}

// Keys that one task alone has. A file with none of them is of train.
constexpr std::pair<const char*, Task> kKeysOfOneTask[] = {
    {"grid", Task::sweep},        {"random", Task::sweep},     {"asha", Task::sweep},
    {"launcher", Task::sweep},    {"worlds", Task::reproduce}, {"tokens", Task::pretrain},
    {"tokenizer", Task::pretrain}};

struct Named {
  std::string task;
  void fields(Fields& f) { f.value("task", task, "", one_of(task_names())); }
};

// As the file names it.
std::optional<Task> named_task(const Source& source) {
  if (!source.has("task")) return std::nullopt;
  Named named;
  named.fields(*reader(source));
  for (const Task task : {Task::train, Task::pretrain, Task::reproduce, Task::sweep})
    if (named.task == to_string(task)) return task;
  return std::nullopt;  // null
}

Task task_by_keys(const Source& source) {
  for (const auto& [key, task] : kKeysOfOneTask)
    if (source.has(key)) return task;
  return Task::train;
}

// Once a file.
void warn_of_no_task(const std::string& file, Task task) {
  static std::mutex mutex;
  static std::set<std::string> warned;
  const std::lock_guard lock(mutex);
  if (!warned.insert(file).second) return;
  std::fprintf(stderr, "%s: names no task and is read as one of %s, by its keys\n", file.c_str(),
               to_string(task).c_str());
  std::fprintf(stderr, "  hint: add the line `task: %s`\n", to_string(task).c_str());
}

}  // namespace

std::string to_string(Task task) { return task_names()[static_cast<size_t>(task)]; }

Task task_of(const Source& source) {
  if (const auto named = named_task(source)) return *named;
  const Task task = task_by_keys(source);
  warn_of_no_task(source.where("task").file, task);
  return task;
}

bool is_sweep(const fs::path& file) {
  const Source source = load_config_alone(file);
  return named_task(source).value_or(task_by_keys(source)) == Task::sweep;
}

void check_task(const Source& source, Task wanted) {
  const auto named = named_task(source);
  if (!named) return;
  const std::string name = to_string(*named);
  if (*named != wanted) {
    const Where where = source.where("task");
    throw Error("is " + name + ", where a file of " + to_string(wanted) + " is wanted", where,
                "inoculum " + name + (*named == Task::reproduce ? " --config " : " ") + where.file);
  }
  for (const auto& [key, task] : kKeysOfOneTask)
    if (source.has(key) && task != wanted)
      throw Error("is a key of " + to_string(task) + ", and the file's task is " + name,
                  source.where(key), "name the other task, or remove the key");
}

}  // namespace inoculum
