/// A task -> a dataset (datasets/dataset.h) in which only answers count.
///
/// Texts are drawn one after the other, each of a size between two bounds, and laid whole into windows of one length:
/// where the next one does not fit, the window is filled up with end-of-document tokens. The same options make the same
/// file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "datasets/output_target.h"
#include "datasets/tasks/task.h"

namespace lexring {

struct TaskDataset {
  std::string task;
  std::int64_t least = 0, most = 0;  ///< sizes, in the task's unit; drawn uniformly, both included
  TaskSettings settings;
  std::int64_t count = 1;  ///< texts
  std::uint64_t seed = 0;
  std::int64_t window = 0;  ///< tokens; 0: the longest text and its end
  std::filesystem::path output;
  Existing existing = Existing::refuse;
  std::function<bool()> interrupted;  ///< as in PrepareOptions
};

struct TaskReport {
  std::int64_t texts = 0, answers = 0, tokens = 0, window = 0;
  std::string content_hash;
};

/// `progress` gets the number of texts so far. Throws UsageError for impossible options, Error for what writing runs
/// into, Interrupted (prepare.h).
TaskReport prepare_task(const TaskDataset& options, const std::function<void(std::int64_t)>& progress = {});

/// The text of number `index` in the series of `seed`: what a dataset of a task and an evaluation on it are made of.
ScoredText text_of_series(const Task& task, std::uint64_t seed, std::int64_t index, std::int64_t least,
                          std::int64_t most, const TaskSettings& settings);

}  // namespace lexring
