#include "jobs/commands/evaluate.h"

#include <filesystem>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "datasets/tokenizers/bytes.h"
#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "jobs/commands/evaluate_arguments.h"
#include "jobs/commands/evaluate_task.h"
#include "jobs/commands/evaluation_run.h"
#include "jobs/evaluation/evaluator.h"
#include "jobs/evaluation/measurement.h"
#include "jobs/evaluation/records.h"
#include "jobs/evaluation/report.h"
#include "jobs/evaluation/series.h"
#include "jobs/evaluation/subjects.h"
#include "jobs/evaluation/tables.h"
#include "jobs/launch/command_start.h"
#include "jobs/launch/stop_signal.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring evaluate: loss and perplexity by length, pattern and position

  lexring evaluate --checkpoint runs/quickstart --data valid.h5 --lengths 256,512,1024 \
    --patterns causal,blockwise --output results/quickstart
  lexring evaluate --checkpoint runs/rope runs/xpos --data valid.h5 --patterns causal \
    --position.scaling none,linear,ntk,yarn
  lexring evaluate --checkpoint runs/lex --data valid.h5 --patterns blockwise,window --attention.block 64,128 \
    --attention.window 256
  lexring evaluate --checkpoint runs/passkey --task passkey --sizes 1024,4096,16384 --depths 5 --count 50

Prints a table, and with --output writes results.json, results.csv, report.html and loss_by_length.svg. One
series for every checkpoint, rescaling of positions, and pattern with its size. Every length of every series
is measured over the same tokens.

With --task it reads texts of known answers instead of data, and counts the answers that are right as a whole
(writes tasks.json, tasks.csv and tasks.html). They are other texts than `prepare --task` makes of the same seed.

With --output the same command goes on where it was stopped or killed, on any number of ranks: what is done is kept in
evaluation.parts there until the results are written. Its exit code is 0 when they are, 75 when a signal stopped it
before, 1 after an error, 2 for a mistake in the command. --overwrite begins anew.
)";

/// What is known before anything is measured.
EvaluationResults begin(const EvaluateArguments& args, const std::vector<CheckpointReader>& readers,
                        const std::vector<Subject>& subjects, const Dataset& dataset) {
  EvaluationResults results;
  results.lengths = args.lengths;
  results.tokens = tokens_to_score(dataset, args.lengths, args.tokens);
  for (const std::int64_t length : args.resolution) {
    require_usage(length >= 2 && length <= results.tokens,
                  "attention resolution at {} is impossible; choose --resolution from 2 to {}",
                  counted(length, "token"), results.tokens);
  }
  for (std::size_t i = 0; i < subjects.size(); ++i) results.models.push_back(describe(readers[i], subjects[i]));
  results.series = plan_series(args.series, subjects);
  prepare_segments(results);
  results.data = args.data;
  results.data_source = dataset.source();
  results.data_hash = dataset.content_hash();
  results.documents = subjects[0].options.data.documents;
  results.end_of_document = subjects[0].options.data.end_of_document;
  results.objective = subjects[0].options.train.objective;
  results.mlm = subjects[0].options.mlm;
  results.landmark_every = dataset.landmarks().every;
  return results;
}

std::vector<PlannedCell> cells_of(const EvaluationResults& results, const std::vector<Subject>& subjects) {
  std::vector<PlannedCell> cells;
  for (std::size_t s = 0; s < results.series.size(); ++s) {
    for (const std::int64_t length : results.lengths) {
      if (why_not_measured(subjects[results.series[s].model].options.model, length).empty())
        cells.push_back({part_name(s, length), results.tokens / length});
    }
  }
  return cells;
}

void write_all(const EvaluationResults& results, const std::vector<CheckpointReader>& readers,
               EvaluationOutput* output) {
  const StopSignal stop;  // a wish to stop finds it done
  if (output != nullptr) {
    std::vector<TrainingCurve> curves;
    for (std::size_t i = 0; i < readers.size(); ++i) {
      const auto run = std::filesystem::canonical(readers[i].path()).parent_path();
      curves.push_back({results.models[i].name, read_training_curve(run / "metrics.jsonl", results.models[i].step)});
    }
    output->finish({{"results.csv", to_csv(results)},
                    {"loss_by_length.svg", loss_by_length_svg(results)},
                    {"report.html", to_html(results, curves)},
                    {"results.json", to_json(results)}});
  }
  print_result("{}", to_table(results));
  if (output != nullptr) print_result("\nreport: {}\n", (output->path() / "report.html").string());
  else print_result("\nnothing was written; --output DIRECTORY keeps these numbers, with a report\n");
}

int evaluate_data(EvaluateArguments& args, const std::vector<std::string>& words,
                  const std::shared_ptr<Communicator>& world) {
  // All that can be known to be wrong comes before anything that takes time.
  const std::vector<CheckpointReader> readers = open_checkpoints(args.checkpoints, *world);
  Dataset dataset = Dataset::open(args.data);
  const std::vector<Subject> subjects =
      read_subjects(readers, {args.precision, args.documents, args.end_of_document, args.sequence}, &dataset);
  dataset.insert_landmarks(landmark_every_of(subjects[0].options.model));
  args.fill_defaults(subjects);
  EvaluationResults results = begin(args, readers, subjects, dataset);
  sign(results, words, *world);
  EvaluationRun run(args, words, readers, dataset.content_hash(),
                    {"results.json", "results.csv", "loss_by_length.svg", "report.html"}, cells_of(results, subjects),
                    world);
  std::optional<EvaluationProgress> progress;
  try {
    for (std::size_t i = 0; i < subjects.size(); ++i) {
      const RunDevice& device = run.device_for(subjects[i]);
      if (!progress) progress.emplace(results, run.parts(), run.first_rank());
      measure(results, i, subjects[i], readers[i], dataset, {args.mesh, args.sequence, args.chunk, args.resolution},
              device, run.parts(), *progress);
    }
  } catch (const EvaluationStopped&) {
    if (progress) progress->finish();
    return run.stopped();
  }
  progress->finish();
  results.device = run.device().backend->describe();
  summarise(results);
  if (run.first_rank()) write_all(results, readers, run.output());
  return 0;
}

}  // namespace

int evaluate_command(const std::vector<std::string>& words, const std::shared_ptr<Communicator>& world) {
  EvaluateArguments args;
  if (answers_help(words, usage + args.keys().help() + "\n" + task_list(), *world)) return 0;
  args.parse(words);
  args.check();
  return args.task.task.empty() ? evaluate_data(args, words, world) : evaluate_task(args, words, world);
}

void check_evaluation(const std::vector<std::string>& words, const Options& training) {
  EvaluateArguments args;
  args.parse(words);
  args.checkpoints = {training.checkpoint.directory};
  args.check();
  require_usage(args.series.scalings.size() < 2,
                "position.scaling names several rescalings, which would be one method; give each a method of its own");
  Subject subject{"", training};
  if (!args.task.task.empty()) {
    require_usage(training.train.objective == Objective::causal,
                  "train.objective = mlm tells no next token, as the answers of a task are; leave task out");
    for (const std::int64_t size : args.task.sizes) check_size(args.task.kind(), size);
    subject.options.model.vocab = ByteTokenizer().vocab() + training.own_ids();
    plan_series(args.series, {subject});
    return;
  }
  Dataset dataset = Dataset::open(args.data);
  subject.options.model.vocab = dataset.vocab() + training.own_ids();
  dataset.insert_landmarks(landmark_every_of(training.model));
  plan_series(args.series, {subject});
  args.fill_defaults({subject});
  tokens_to_score(dataset, args.lengths, args.tokens);
}

}  // namespace lexring
