#include "jobs/commands/evaluate_task.h"

#include <fmt/format.h>

#include "framework/base/console.h"
#include "jobs/commands/evaluation_run.h"
#include "jobs/evaluation/subjects.h"
#include "jobs/evaluation/task_evaluation.h"
#include "jobs/evaluation/task_report.h"
#include "jobs/launch/progress_bar.h"
#include "jobs/launch/stop_signal.h"
#include "models/layer_configs.h"

namespace lexring {
namespace {

/// Depths lie evenly from the begin of the text to its end; one alone is in the middle.
std::vector<TaskVariant> variants_of(const EvaluateArguments& args) {
  std::vector<TaskVariant> variants;
  const auto add = [&](std::string name, double depth, double ignore) {
    TaskSettings settings = args.task.settings;
    settings.depth = depth, settings.ignore = ignore;
    variants.push_back({std::move(name), settings});
  };
  if (args.depths > 0) {
    for (std::int64_t i = 0; i < args.depths; ++i) {
      const double depth = args.depths == 1 ? 0.5 : static_cast<double>(i) / static_cast<double>(args.depths - 1);
      add(fmt::format("depth {:.2f}", depth), depth, args.ignore[0]);
    }
  } else if (args.ignore.size() > 1) {
    for (const double ignore : args.ignore) add(fmt::format("{:g} % ignored", 100 * ignore), -1, ignore);
  } else {
    add("", -1, args.ignore[0]);
  }
  return variants;
}

/// What is known before anything is scored.
TaskResults begin(const EvaluateArguments& args, const std::vector<CheckpointReader>& readers,
                  const std::vector<Subject>& subjects) {
  TaskResults results;
  results.keys = args.task;
  results.variants = variants_of(args);
  for (std::size_t i = 0; i < subjects.size(); ++i) results.models.push_back(describe(readers[i], subjects[i]));
  results.series = plan_series(args.series, subjects);
  results.scores.resize(results.series.size());
  return results;
}

std::vector<PlannedCell> cells_of(const TaskResults& results) {
  std::vector<PlannedCell> cells;
  for (std::size_t s = 0; s < results.series.size(); ++s)
    for (const std::int64_t size : results.keys.sizes)
      for (std::size_t v = 0; v < results.variants.size(); ++v)
        cells.push_back({task_part_name(s, size, v), results.keys.count});
  return cells;
}

/// The bar over the texts of all cells; those that were there do not count for the rate.
ProgressBar progress_over(const std::vector<PlannedCell>& cells, const KeptParts& parts) {
  std::int64_t total = 0, already = 0;
  for (const PlannedCell& cell : cells) total += cell.size, already += parts.reach(cell.name);
  return {"evaluate", "text", static_cast<std::uint64_t>(total), static_cast<std::uint64_t>(already)};
}

void write_all(const TaskResults& results, EvaluationOutput* output) {
  const StopSignal stop;  // a wish to stop finds it done
  if (output != nullptr)
    output->finish(
        {{"tasks.csv", to_csv(results)}, {"tasks.html", to_html(results)}, {"tasks.json", to_json(results)}});
  print_result("{}", to_table(results));
  if (output != nullptr) print_result("\nreport: {}\n", (output->path() / "tasks.html").string());
}

}  // namespace

int evaluate_task(const EvaluateArguments& args, const std::vector<std::string>& words,
                  const std::shared_ptr<Communicator>& world) {
  for (const std::int64_t size : args.task.sizes) check_size(args.task.kind(), size);
  const std::vector<CheckpointReader> readers = open_checkpoints(args.checkpoints, *world);
  const std::vector<Subject> subjects = read_subjects(readers, {args.precision, {}, {}, args.sequence}, nullptr);
  TaskResults results = begin(args, readers, subjects);
  sign(results, words, *world);
  const std::vector<PlannedCell> cells = cells_of(results);
  EvaluationRun run(args, words, readers, "", {"tasks.json", "tasks.csv", "tasks.html"}, cells, world);
  ProgressBar progress = progress_over(cells, run.parts());
  if (!run.first_rank()) progress.silence();
  try {
    for (std::size_t i = 0; i < subjects.size(); ++i)
      score_series(results, i, subjects[i], readers[i], {args.mesh, args.sequence, args.chunk, {}},
                   run.device_for(subjects[i]), run.parts(), progress);
  } catch (const EvaluationStopped&) {
    progress.finish();
    return run.stopped();
  }
  progress.finish();
  results.device = run.device().backend->describe();
  if (run.first_rank()) write_all(results, run.output());
  return 0;
}

}  // namespace lexring
