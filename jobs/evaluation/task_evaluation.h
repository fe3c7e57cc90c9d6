/// Series of checkpoints and patterns, scored on the texts of a task: sizes by depths.
#pragma once

#include <string>
#include <vector>

#include "jobs/config/task_keys.h"
#include "jobs/evaluation/measurement.h"
#include "jobs/evaluation/results.h"
#include "jobs/evaluation/subjects.h"
#include "jobs/evaluation/task_scores.h"

namespace lexring {

struct TaskResults {
  TaskKeys keys;
  std::vector<double> depths;  ///< of a passkey; one -1: drawn for every text
  std::string device, machine, date, version, command;
  std::int64_t ranks = 1;
  std::vector<MeasuredModel> models;
  std::vector<Series> series;                  ///< without cells
  std::vector<std::vector<TaskScore>> scores;  ///< of each series: size by size, within it depth by depth
};

/// The texts of one size and depth. None is of a dataset that `prepare --task` made with the same seed.
std::vector<ScoredText> texts_of(const TaskResults& results, std::size_t size, std::size_t depth);
/// Scores the series of model `index`; text i of a size and depth is the same for all. Collective.
void score_series(TaskResults& results, std::size_t index, const Subject& subject, const CheckpointReader& reader,
                  const MeasurementKeys& keys, const RunDevice& device, ProgressBar& progress);

/// For people: a line per series (and depth), a column per size.
std::string to_table(const TaskResults& results);
std::string to_json(const TaskResults& results);
std::string to_csv(const TaskResults& results);

}  // namespace lexring
