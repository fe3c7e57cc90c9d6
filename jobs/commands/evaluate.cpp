#include "jobs/commands/evaluate.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <thread>

#include "framework/base/console.h"
#include "jobs/evaluation/evaluator.h"
#include "jobs/evaluation/output.h"
#include "jobs/evaluation/tables.h"
#include "jobs/mesh_setup.h"
#include "jobs/model_state.h"
#include "jobs/options.h"
#include "jobs/progress_bar.h"
#include "jobs/report.h"
#include "jobs/stop_signal.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring evaluate: loss and perplexity by length, pattern and position

  lexring evaluate --checkpoint runs/quickstart --data valid.h5 --lengths 256,512,1024 --patterns causal,blockwise --output runs/quickstart

Writes results.json, results.csv, report.html and loss_by_length.svg. Every length is measured over the same tokens.
)";

constexpr std::int64_t longest_resolution = 2048;  // by default: its time is quadratic in the length
constexpr std::int64_t resolution_texts = 16;

struct Arguments {
  std::string checkpoint, data, output, documents, precision;
  DeviceKeys device;
  std::vector<std::int64_t> lengths, resolution;
  std::vector<std::string> patterns;
  std::int64_t tokens = 0, chunk = 4096, window = 0, block = 0, sinks = -1, watchdog_seconds = 3600;
  MeshKeys mesh;
  SequenceKeys sequence;

  KeyTable keys() {
    KeyTable table;
    table.add(
        {{"checkpoint", &checkpoint, "a run's directory or a step-* directory in it", "directory"},
         {"data", &data, "dataset to score, made by `lexring prepare`", "file"},
         {"lengths", &lengths, "lengths of windows", "tokens", "1, 2, 4, 8 and 16 times train.length"},
         {"patterns", &patterns, "attention patterns", "", "causal,blockwise", {"causal", "blockwise", "window", "sink_window"}},
         {"output", &output, "where results and report go", "directory"},
         {"tokens", &tokens, "tokens to score, from the first of the data", "tokens", "262144, or the longest length if that is more"},
         {"data.documents", &documents, "mask hides other documents of a window, ignore does not", "", "that of the training", {"mask", "ignore"}},
         {"resolution", &resolution, "lengths at which attention resolution is measured; 0: none", "tokens", "the lengths up to 2048"},
         {"chunk", &chunk, "tokens of one forward pass; longer windows are streamed, or shared by mesh.cp", "tokens"},
         {"attention.block", &block, "of the blockwise pattern", "tokens", "the checkpoint's"},
         {"attention.window", &window, "of the window patterns", "tokens", "the checkpoint's, or train.length"},
         {"attention.sinks", &sinks, "of the sink_window pattern", "tokens", "the checkpoint's, or 4"},
         {"train.precision", &precision, "working precision", "", "that of the training", {"bf16", "tf32", "fp32", "fp64"}}});
    table.add(device_keys(device));
    table.add({"watchdog.seconds", &watchdog_seconds,
               "the run ends when a rank waited so long for another, e.g. for its last window; 0: never", "seconds"});
    table.add(mesh_keys(mesh));
    table.add(sequence_keys(sequence));
    return table;
  }
};

AttentionConfig pattern_of(const std::string& name, const Arguments& args, const Options& options) {
  AttentionConfig a = options.model.attention;
  a.pattern = name;
  if (args.block > 0) a.block = args.block;
  if (args.window > 0) a.window = args.window;
  if (args.sinks >= 0) a.sinks = args.sinks;
  if (a.block == 0) a.block = std::max<std::int64_t>(1, options.train.length / 2);
  if (a.window == 0) a.window = options.train.length;
  if (name == "sink_window" && a.sinks == 0 && args.sinks < 0) a.sinks = 4;
  if (name != "sink_window") a.sinks = 0;
  return a;
}

std::string describe(const AttentionConfig& a) {
  if (a.pattern == "blockwise") return fmt::format("blockwise, block {}", a.block);
  if (a.pattern == "window") return fmt::format("window of {}", a.window);
  if (a.pattern == "sink_window") return fmt::format("window of {} and {} sinks", a.window, a.sinks);
  return a.pattern;
}

std::string describe(const ModelConfig& m) {
  return fmt::format("{} layers, width {}, {} heads, {} positions, vocabulary {}", m.layers, m.width, m.heads,
                     m.position.scaling == "none" ? m.position.kind : m.position.kind + " (" + m.position.scaling + ")", m.vocab);
}

std::string describe_machine() {
  utsname name{};
  uname(&name);
  return fmt::format("{}, {}, {} processors", name.nodename, name.machine, std::thread::hardware_concurrency());
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  return fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(time));
}

std::string why_not(const ModelConfig& model, std::int64_t length) {
  if (model.position.kind == "learned" && length > model.max_length) {
    return fmt::format("beyond max_length = {} of the learned positions", model.max_length);
  }
  return "";
}

void fill_defaults(Arguments& args, const Options& options) {
  if (args.lengths.empty()) {
    for (const std::int64_t times : {1, 2, 4, 8, 16}) args.lengths.push_back(times * options.train.length);
  }
  std::sort(args.lengths.begin(), args.lengths.end());
  args.lengths.erase(std::unique(args.lengths.begin(), args.lengths.end()), args.lengths.end());
  if (args.patterns.empty()) args.patterns = {"causal", "blockwise"};
  std::vector<std::string> once;
  for (const std::string& name : args.patterns) {
    if (std::find(once.begin(), once.end(), name) == once.end()) once.push_back(name);
  }
  args.patterns = once;
  if (args.resolution.empty()) {
    std::copy_if(args.lengths.begin(), args.lengths.end(), std::back_inserter(args.resolution),
                 [](std::int64_t length) { return length >= 2 && length <= longest_resolution; });
  }
  if (args.resolution == std::vector<std::int64_t>{0}) args.resolution.clear();
}

void check(const Arguments& args) {
  require_usage(!args.checkpoint.empty(), "checkpoint is missing; give --checkpoint with a run's directory");
  require_usage(!args.data.empty(), "data is missing; give --data with a file that `lexring prepare` made");
  for (const auto& [key, value, least] : {std::tuple("attention.block", args.block, 0), std::tuple("attention.window", args.window, 0),
                                          std::tuple("attention.sinks", args.sinks, -1), std::tuple("tokens", args.tokens, 0),
                                          std::tuple("watchdog.seconds", args.watchdog_seconds, 0)}) {
    require_usage(value >= least, "--{} {} is impossible; give 1 or more, or leave it out", key, value);
  }
  require_usage(args.chunk >= 1, "--chunk {} is impossible; give 1 token or more, e.g. 4096", args.chunk);
}

/// The mesh, for the longest windows and the pattern that sees most.
RunMesh mesh_of(const std::shared_ptr<Communicator>& world, const Arguments& args, const Options& options) {
  ModelConfig model = options.model;
  const bool causal = std::find(args.patterns.begin(), args.patterns.end(), "causal") != args.patterns.end();
  model.attention = pattern_of(causal ? "causal" : args.patterns.front(), args, options);
  return make_run_mesh(world, args.mesh, args.sequence, model, {1, args.lengths.back(), options.train.precision == "bf16" ? 2 : 4});
}

Documents documents_of(const Options& options) { return options.data.documents == "mask" ? Documents::mask : Documents::ignore; }

/// All cells; collective.
void measure_all(EvaluationResults& results, const Arguments& args, const Options& options, Transformer& model, const Context& context,
                 const Dataset& dataset) {
  const TokenStream stream{results.tokens, documents_of(options), args.chunk};
  const std::int64_t ranks = context.axis(Axis::dp).size();
  std::int64_t done_cells = 0, done = 0;
  ProgressBar progress("evaluate", static_cast<std::uint64_t>(results.tokens) * args.lengths.size() * args.patterns.size());
  if (context.world().rank() != 0) progress.silence();
  progress.update(0);  // the clock starts before the first cell
  for (const std::string& name : args.patterns) {
    const AttentionConfig attention = pattern_of(name, args, options);
    model.set_attention(attention);
    PatternRow row{name, describe(attention), {}};
    for (const std::int64_t length : args.lengths) {
      const std::string reason = why_not(options.model, length);
      const std::string note = fmt::format("{} {}", name, length);
      done = 0;
      if (reason.empty()) {
        row.cells.push_back(measure(model, context, dataset, stream, length, [&](std::int64_t tokens) {
          done += tokens;
          progress.update(static_cast<std::uint64_t>(done_cells * results.tokens + std::min(done * ranks, results.tokens)), note);
        }));
      } else {
        Cell cell;
        cell.length = length;
        cell.not_measured = reason;
        row.cells.push_back(cell);
      }
      done_cells += 1;
    }
    results.patterns.push_back(std::move(row));
  }
  progress.finish();
}

/// Attention resolution compares all tokens of a text, so ranks that share sequences elsewhere take texts of their own here. Collective.
void measure_resolutions(EvaluationResults& results, const Arguments& args, const Options& options, const CheckpointReader& reader,
                         const RunDevice& device, int tp, const Dataset& dataset) {
  const Context context(device.world, make_mesh(device.world->size(), 0, 1, tp));
  Transformer model(options.model, runtime_of(options), context, *device.backend);
  load_parameters(reader, model);
  const TokenStream stream{results.tokens, documents_of(options), args.chunk};
  for (const std::int64_t length : args.resolution) {
    if (why_not(options.model, length).empty()) {
      results.resolution.push_back(measure_resolution(model, context, dataset, stream, length, resolution_texts));
    }
  }
}

void write_all(const EvaluationResults& results, const OutputDirectory& output, const std::filesystem::path& metrics) {
  const StopSignal stop;  // a wish to stop finds it done
  output.write("results.json", to_json(results));
  output.write("results.csv", to_csv(results));
  output.write("loss_by_length.svg", loss_by_length_svg(results));
  output.write("report.html", to_html(results, read_training_curve(metrics)));
  print_result("{}", to_table(results));
  print_result("\nreport: {}\n", (output.path() / "report.html").string());
}

}  // namespace

int evaluate_command(const std::vector<std::string>& words, const std::shared_ptr<Communicator>& world) {
  Arguments args;
  const KeyTable keys = args.keys();
  const bool first_rank = world->rank() == 0;
  if (asks_help(words)) {
    if (first_rank) print_result("{}{}", usage, keys.help());
    return 0;
  }
  keys.parse_arguments(words);
  check(args);
  // Before anything that takes time.
  std::optional<OutputDirectory> output;
  if (first_rank) output.emplace(args.output);
  const CheckpointReader reader(*world, args.checkpoint);
  Options options = parse_ini_text(reader.state().configuration, reader.path().string() + " (stored configuration)");
  if (!args.precision.empty()) {
    options.train.precision = args.precision;
    if (args.precision != "bf16") options.train.residual = "f32";
  }
  if (!args.documents.empty()) options.data.documents = args.documents;
  options.sequence = args.sequence;
  fill_defaults(args, options);
  const Dataset dataset = Dataset::open(args.data);
  require(dataset.vocab() == options.model.vocab,
          "{} has a vocabulary of {} and the model of {} one of {}; evaluate on data prepared with the tokenizer of the training",
          dataset.path().string(), dataset.vocab(), reader.path().string(), options.model.vocab);

  EvaluationResults results;
  results.tokens = tokens_to_score(dataset, args.lengths, args.tokens);
  for (const std::int64_t length : args.resolution) {
    require_usage(length >= 2 && length <= results.tokens,
                  "attention resolution at {} tokens is impossible; choose --resolution from 2 to {}", length, results.tokens);
  }
  world->set_patience(static_cast<double>(args.watchdog_seconds));
  const RunDevice device = open_device(args.device, options.train.precision, world);
  Backend& backend = *device.backend;
  const RunMesh mesh = mesh_of(device.world, args, options);
  const Context& context = mesh.context;
  if (first_rank && world->size() > 1) say("{}\n", mesh.description);
  reader.verify(*world);
  Transformer model(options.model, runtime_of(options), context, backend);
  load_parameters(reader, model);

  results.checkpoint = reader.path().string();
  const auto run = std::filesystem::absolute(reader.path()).lexically_normal().parent_path();
  results.run = run.filename().string();
  results.data = args.data;
  results.data_source = dataset.source();
  results.data_hash = dataset.content_hash();
  results.model = describe(options.model);
  results.device = std::string(backend.name());
  results.precision = options.train.precision;
  results.documents = options.data.documents;
  results.machine = describe_machine();
  results.date = now();
  results.step = reader.state().step;
  results.parameters = model.parameter_count();
  results.ranks = world->size();
  results.train_length = options.train.length;
  results.lengths = args.lengths;
  measure_all(results, args, options, model, context, dataset);
  measure_resolutions(results, args, options, reader, device, context.mesh().size(Axis::tp), dataset);
  summarise(results);
  if (first_rank) write_all(results, *output, run / "metrics.jsonl");
  return 0;
}

}  // namespace lexring
