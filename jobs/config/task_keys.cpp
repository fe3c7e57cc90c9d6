#include "jobs/config/task_keys.h"

#include <algorithm>
#include <fstream>
#include <memory>

#include <fmt/format.h>

#include "framework/base/error.h"

namespace lexring {

std::vector<Key> task_keys(TaskKeys& keys, const std::string& meaning_of_sizes, std::vector<Key> own) {
  std::vector<std::string> names;
  for (const Task& task : tasks()) names.emplace_back(task.name);
  std::vector<Key> all = {
      {"task", &keys.task, "a task of the list below", "", "none", names},
      Key{"sizes", &keys.sizes, meaning_of_sizes, "the task's"}.at_least(1),
      Key{"count", &keys.count, "how many texts", "texts"}.at_least(1),
      {"seed", &keys.seed, "the same seed makes the same texts"},
      Key{"haystack", &keys.haystack, "text to hide the needle in, its first 64 MiB", "file"}.only_with("task",
                                                                                                        {"needle"}),
      Key{"reversed-sum", &keys.settings.reversed_sum, "the lowest digit of the sum first", "true|false"}.only_with(
          "task", {"addition"})};
  for (Key& key : own) all.push_back(std::move(key));
  return all;
}

void check_task_keys(const KeyTable& table, const std::vector<Key>& of_tasks, const TaskKeys& keys,
                     const std::set<std::string>& given, const std::vector<std::string>& others) {
  for (const Key& key : of_tasks) {
    if (!given.contains(key.name)) continue;
    require_usage(!keys.task.empty(), "--{} has no effect without --task; leave it out, or choose a task", key.name);
    const std::string why = table.why_without_effect(*table.find(key.name));
    require_usage(why.empty(), "{}", why);
  }
  for (const std::string& other : others) {
    require_usage(keys.task.empty() || !given.contains(other),
                  "--{} has no effect with --task; leave it out, or leave out --task", other);
  }
  require_usage(keys.task.empty() || !keys.sizes.empty(), "sizes are missing; give --sizes, in {} for task {}",
                keys.task.empty() ? "" : keys.kind().unit, keys.task);
}

void read_haystack(TaskKeys& keys) {
  if (keys.task != "needle") return;
  require_usage(!keys.haystack.empty(), "haystack is missing; give --haystack with a file of text, e.g. a book");
  constexpr std::streamsize most = std::streamsize{1} << 26;
  std::ifstream file(keys.haystack, std::ios::binary);
  std::string text(static_cast<std::size_t>(most), '\0');
  file.read(text.data(), most);
  text.resize(static_cast<std::size_t>(file.gcount()));
  require_usage(!text.empty(), "--haystack {} cannot be read, or is empty; give a file of text", keys.haystack);
  keys.settings.haystack = std::make_shared<const std::string>(std::move(text));
}

std::string task_list() {
  std::string text = "tasks, and what their sizes count:\n";
  for (const Task& task : tasks()) text += fmt::format("  {:<28} {:<8} {}\n", task.name, task.unit, task.what);
  return text;
}

}  // namespace lexring
