/// The keys of tasks (datasets/tasks/task.h) that making a dataset and scoring a model have in common.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "datasets/tasks/task.h"
#include "jobs/config/keys.h"

namespace lexring {

struct TaskKeys {
  std::string task;  ///< empty: none
  std::vector<std::int64_t> sizes;
  std::int64_t count;
  std::int64_t seed;
  TaskSettings settings;
  std::string haystack;  ///< file; read_haystack puts its text into the settings

  const Task& kind() const { return find_task(task); }
};
/// `task`, `sizes`, `count`, `seed`, `haystack`, `reversed-sum`, and those of the caller, `own`: they have an effect
/// with a task only.
std::vector<Key> task_keys(TaskKeys& keys, const std::string& meaning_of_sizes, std::vector<Key> own);
/// Throws UsageError that names a given key that has no effect: one of a task without a task or with another one, or
/// one of `others`, which are for work without a task, beside one. `table` has them all.
void check_task_keys(const KeyTable& table, const std::vector<Key>& of_tasks, const TaskKeys& keys,
                     const std::set<std::string>& given, const std::vector<std::string>& others);
/// Reads the haystack, where the task hides something in one. Throws UsageError where there is none, naming it.
void read_haystack(TaskKeys& keys);
/// Every task with its unit of size, for help.
std::string task_list();

}  // namespace lexring
