#include "jobs/commands/evaluate.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/utsname.h>

#include "datasets/tokenizers/bytes.h"
#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "jobs/config/mesh_keys.h"
#include "jobs/config/options.h"
#include "jobs/config/task_keys.h"
#include "jobs/evaluation/evaluator.h"
#include "jobs/evaluation/measurement.h"
#include "jobs/evaluation/output.h"
#include "jobs/evaluation/records.h"
#include "jobs/evaluation/report.h"
#include "jobs/evaluation/series.h"
#include "jobs/evaluation/subjects.h"
#include "jobs/evaluation/tables.h"
#include "jobs/evaluation/task_evaluation.h"
#include "jobs/evaluation/task_report.h"
#include "jobs/launch/build_info.h"
#include "jobs/launch/command_start.h"
#include "jobs/launch/devices.h"
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
)";

const char* const files[] = {"results.json", "results.csv", "loss_by_length.svg", "report.html"};
const char* const task_files[] = {"tasks.json", "tasks.csv", "tasks.html"};
constexpr std::int64_t longest_resolution = 2048;  // by default: its time is quadratic in the length

struct Arguments {
  std::string data, output;
  std::optional<Documents> documents;
  std::optional<EndOfDocument> end_of_document;
  std::optional<PrecisionChoice> precision;
  DeviceKeys device;
  std::vector<std::string> checkpoints;
  std::vector<std::int64_t> lengths, resolution;
  std::int64_t tokens = 0, chunk = 4096, watchdog_seconds = 3600;
  bool overwrite = false;
  SeriesKeys series;
  MeshKeys mesh;
  SequenceKeys sequence;
  TaskKeys task{.task = "", .sizes = {}, .count = 100, .seed = 0, .settings = {}, .haystack = ""};
  std::int64_t depths = 0;
  std::vector<double> ignore = {TaskSettings().ignore};

  std::vector<Key> keys_of_task() {
    return task_keys(
        task, "sizes of texts",
        {Key{"depths", &depths, "so many places of the key or needle in the text, from its begin to its end", "",
             "0: drawn for every text"}
             .between(0, 100)
             .only_with("task", {"passkey", "needle"}),
         Key{"ignore", &ignore, "share of instructions that are to be ignored; several are compared"}
             .between(0, 1)
             .only_with("task", {"flip_flop"})});
  }
  KeyTable keys() {
    KeyTable table;
    table.add(
        {{"checkpoint", &checkpoints, "runs' directories, or step-* directories in them", "directories"},
         {"data", &data, "dataset to score, made by `lexring prepare`", "file"},
         Key{"lengths", &lengths, "lengths of windows", "tokens", "1, 2, 4, 8 and 16 times train.length"}.at_least(1),
         {"output", &output, "where results and report go; empty: they are only printed", "directory"},
         Key{"overwrite", &overwrite, "replace the evaluation that --output holds", "", "", {}, true},
         Key{"tokens", &tokens, "tokens to score, from the first of the data", "tokens",
             "262144, or the longest length if that is more"}
             .at_least(0),
         {"data.documents", &documents, "mask hides other documents of a window, ignore does not", "",
          "that of the training"},
         {"data.end_of_document", &end_of_document, "whether a document's last token, its end, counts as a target", "",
          "that of the training"},
         Key{"resolution", &resolution,
             "lengths at which attention resolution is measured (not with ReLU or fire); 0: none", "tokens",
             "the lengths up to 2048"}
             .at_least(0),
         Key{"chunk", &chunk, "tokens of one forward pass; longer windows are streamed, or shared by mesh.cp", "tokens"}
             .between(1, most_tokens_at_once),
         {"train.precision",
          &precision,
          "working precision",
          "",
          "that of the training",
          {"bf16", "tf32", "fp32", "fp64"}}});
    table.add(keys_of_task());
    table.add(device_keys(device));
    table.add(series_keys(series));
    table.add(limited_as_in_a_run(
        {"watchdog.seconds", &watchdog_seconds,
         "the run ends when a rank waited so long for another, e.g. for its last window; 0: never", "seconds"}));
    table.add(mesh_keys(mesh));
    table.add(sequence_keys(sequence));
    return table;
  }
};

std::string describe_machine() {
  utsname name{};
  uname(&name);
  return fmt::format("{}, {}, {}", name.nodename, name.machine,
                     counted(std::thread::hardware_concurrency(), "processor"));
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  return fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(time));
}

/// As a shell would read it again.
std::string command_line(const std::vector<std::string>& words) {
  std::string line = "lexring evaluate";
  for (const std::string& word : words) {
    const bool plain =
        !word.empty() &&
        word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./,=:+@%") ==
            std::string::npos;
    std::string quoted;
    for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += plain ? " " + word : " '" + quoted + "'";
  }
  return line;
}

void parse(Arguments& args, const std::vector<std::string>& words) {
  const KeyTable keys = args.keys();
  args.series.given = keys.parse_arguments(words);
  check_task_keys(keys, args.keys_of_task(), args.task, args.series.given,
                  {"data", "lengths", "tokens", "resolution", "data.documents"});
  read_haystack(args.task);
}

void check(const Arguments& args) {
  require_usage(!args.checkpoints.empty(),
                "checkpoint is missing; give --checkpoint with a run's directory, or several");
  require_usage(!args.data.empty() || !args.task.task.empty(),
                "data is missing; give --data with a file that `lexring prepare` made, or a --task");
  require_usage(!args.overwrite || !args.output.empty(),
                "--overwrite has no effect without --output; leave it out, or give --output");
}

void fill_defaults(Arguments& args, const std::vector<Subject>& subjects) {
  if (args.lengths.empty()) {
    std::int64_t longest = 0;
    for (const Subject& subject : subjects) longest = std::max(longest, subject.options.train.length);
    for (const std::int64_t times : {1, 2, 4, 8, 16}) args.lengths.push_back(times * longest);
  }
  std::sort(args.lengths.begin(), args.lengths.end());
  args.lengths.erase(std::unique(args.lengths.begin(), args.lengths.end()), args.lengths.end());
  if (args.resolution.empty()) {
    std::copy_if(args.lengths.begin(), args.lengths.end(), std::back_inserter(args.resolution),
                 [](std::int64_t length) { return length >= 2 && length <= longest_resolution; });
  }
  if (args.resolution == std::vector<std::int64_t>{0}) args.resolution.clear();
}

/// What is known before anything is measured.
EvaluationResults begin(const Arguments& args, const std::vector<CheckpointReader>& readers,
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
  results.machine = describe_machine();
  results.date = now();
  return results;
}

void write_all(const EvaluationResults& results, const std::vector<CheckpointReader>& readers,
               OutputDirectory* output) {
  const StopSignal stop;  // a wish to stop finds it done
  if (output != nullptr) {
    std::vector<TrainingCurve> curves;
    for (std::size_t i = 0; i < readers.size(); ++i) {
      const auto run = std::filesystem::canonical(readers[i].path()).parent_path();
      curves.push_back({results.models[i].name, read_training_curve(run / "metrics.jsonl", results.models[i].step)});
    }
    const std::string texts[] = {to_json(results), to_csv(results), loss_by_length_svg(results),
                                 to_html(results, curves)};
    for (std::size_t i = 0; i < std::size(files); ++i) output->write(files[i], texts[i]);
  }
  print_result("{}", to_table(results));
  if (output != nullptr) print_result("\nreport: {}\n", (output->path() / "report.html").string());
  else print_result("\nnothing was written; --output DIRECTORY keeps these numbers, with a report\n");
}

/// Depths lie evenly from the begin of the text to its end; one alone is in the middle.
std::vector<TaskVariant> variants_of(const Arguments& args) {
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

/// The device for a subject: the one that is open, unless the subject's precision is another choice of the device.
void open_for(const Subject& subject, const Subject* before, const DeviceKeys& keys,
              const std::shared_ptr<Communicator>& world, std::optional<RunDevice>& device) {
  PrecisionChoice precision = subject.options.train.precision;
  // What multiplies in TF32 is a choice of the device.
  if (device && before != nullptr && precision == before->options.train.precision) return;
  device.reset();
  device.emplace(open_device(keys, precision, world));
}

int evaluate_task(const Arguments& args, const std::vector<std::string>& words,
                  const std::shared_ptr<Communicator>& world) {
  for (const std::int64_t size : args.task.sizes) check_size(args.task.kind(), size);
  const std::vector<CheckpointReader> readers = open_checkpoints(args.checkpoints, *world);
  const std::vector<Subject> subjects = read_subjects(readers, {args.precision, {}, {}, args.sequence}, nullptr);
  TaskResults results;
  results.keys = args.task;
  std::sort(results.keys.sizes.begin(), results.keys.sizes.end());
  results.variants = variants_of(args);
  for (std::size_t i = 0; i < subjects.size(); ++i) results.models.push_back(describe(readers[i], subjects[i]));
  results.series = plan_series(args.series, subjects);
  results.scores.resize(results.series.size());
  results.machine = describe_machine();
  results.date = now();
  results.command = command_line(words);
  results.version = fmt::format("lexring {}, commit {}", build_info.version, build_info.commit);
  results.ranks = world->size();
  const bool first_rank = world->rank() == 0;
  std::optional<OutputDirectory> output;
  if (first_rank && !args.output.empty())
    output.emplace(args.output, std::vector<std::string>(std::begin(task_files), std::end(task_files)),
                   args.overwrite ? Existing::replace : Existing::refuse);
  world->set_patience(static_cast<double>(args.watchdog_seconds));
  for (const CheckpointReader& reader : readers) reader.verify(*world);

  ProgressBar progress("evaluate", "text",
                       static_cast<std::uint64_t>(results.keys.count) * results.keys.sizes.size() *
                           results.variants.size() * results.series.size());
  if (!first_rank) progress.silence();
  std::optional<RunDevice> device;
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    open_for(subjects[i], i == 0 ? nullptr : &subjects[i - 1], args.device, world, device);
    score_series(results, i, subjects[i], readers[i], {args.mesh, args.sequence, args.chunk, {}}, *device, progress);
  }
  progress.finish();
  results.device = device->backend->describe();
  if (!first_rank) return 0;
  const StopSignal stop;  // a wish to stop finds it done
  if (output) {
    const std::string texts[] = {to_json(results), to_csv(results), to_html(results)};
    for (std::size_t i = 0; i < std::size(task_files); ++i) output->write(task_files[i], texts[i]);
  }
  print_result("{}", to_table(results));
  if (output) print_result("\nreport: {}\n", (output->path() / "tasks.html").string());
  return 0;
}

}  // namespace

int evaluate_command(const std::vector<std::string>& words, const std::shared_ptr<Communicator>& world) {
  Arguments args;
  const KeyTable keys = args.keys();
  const bool first_rank = world->rank() == 0;
  if (answers_help(words, usage + keys.help() + "\n" + task_list(), *world)) return 0;
  parse(args, words);
  check(args);
  if (!args.task.task.empty()) return evaluate_task(args, words, world);
  // All that can be known to be wrong comes before anything that takes time.
  const std::vector<CheckpointReader> readers = open_checkpoints(args.checkpoints, *world);
  Dataset dataset = Dataset::open(args.data);
  const std::vector<Subject> subjects =
      read_subjects(readers, {args.precision, args.documents, args.end_of_document, args.sequence}, &dataset);
  dataset.insert_landmarks(landmark_every_of(subjects[0].options.model));
  fill_defaults(args, subjects);
  EvaluationResults results = begin(args, readers, subjects, dataset);
  results.command = command_line(words);
  results.version = fmt::format("lexring {}, commit {}", build_info.version, build_info.commit);
  results.ranks = world->size();
  std::optional<OutputDirectory> output;
  if (first_rank && !args.output.empty()) {
    output.emplace(args.output, std::vector<std::string>(std::begin(files), std::end(files)),
                   args.overwrite ? Existing::replace : Existing::refuse);
  }
  world->set_patience(static_cast<double>(args.watchdog_seconds));
  for (const CheckpointReader& reader : readers) reader.verify(*world);

  std::optional<RunDevice> device;
  std::optional<EvaluationProgress> progress;
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    open_for(subjects[i], i == 0 ? nullptr : &subjects[i - 1], args.device, world, device);
    if (!progress) progress.emplace(results, first_rank);
    measure(results, i, subjects[i], readers[i], dataset, {args.mesh, args.sequence, args.chunk, args.resolution},
            *device, *progress);
  }
  progress->finish();
  results.device = device->backend->describe();
  summarise(results);
  if (first_rank) write_all(results, readers, output ? &*output : nullptr);
  return 0;
}

void check_evaluation(const std::vector<std::string>& words, const Options& training) {
  Arguments args;
  parse(args, words);
  args.checkpoints = {training.checkpoint.directory};
  check(args);
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
  fill_defaults(args, {subject});
  tokens_to_score(dataset, args.lengths, args.tokens);
}

}  // namespace lexring
