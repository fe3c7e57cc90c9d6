#include "jobs/commands/prepare.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>

#include <fmt/core.h>

#include "datasets/prepare.h"
#include "datasets/prepare_task.h"
#include "datasets/tokenizers/tokenizer.h"
#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "framework/base/error.h"
#include "jobs/config/keys.h"
#include "jobs/config/task_keys.h"
#include "jobs/launch/progress_bar.h"
#include "jobs/launch/stop_signal.h"

namespace lexring {
namespace {

struct Arguments {
  std::vector<std::string> inputs;
  std::string output;
  std::string tokenizer = "bytes", end_of_document;
  bool skip_bad = false, overwrite = false;
  std::int64_t threads = 0, window = 0;
  TaskKeys task{.task = "", .sizes = {}, .count = 10000, .seed = 0, .settings = {}, .haystack = ""};
};

const char* const usage = R"(lexring prepare: text, or a task with known answers, becomes tokens in HDF5

  lexring prepare --input TEXT... --output FILE.h5
  lexring prepare --input TEXT... --tokenizer llama3/tokenizer.json --output FILE.h5
  lexring prepare --task flip_flop --sizes 256 --count 20000 --output FILE.h5
  lexring prepare --task parity --sizes 1,40 --count 100000 --seed 1 --output FILE.h5

A dataset of a task holds whole texts in windows of one length, which train.length must be, and only bytes of answers
are trained on and scored. Landmark tokens (attention.landmark_every) are in no dataset: train and evaluate put them in
as they read, and then ask for longer windows of a task.

)";

std::vector<Key> text_keys(Arguments& arguments) {
  return {{.name = "input",
           .target = &arguments.inputs,
           .meaning = "files (.txt .md .pod .jsonl, each also .zst) and directories of them"},
          {.name = "tokenizer",
           .target = &arguments.tokenizer,
           .meaning = "bytes, or byte-level BPE: a tokenizer.json, or a directory with one or with vocab.json and "
                      "merges.txt"},
          {.name = "end-of-document",
           .target = &arguments.end_of_document,
           .meaning = "the special token that ends documents, where the files of the tokenizer do not say it",
           .default_text = "eos_token"},
          {.name = "skip-bad",
           .target = &arguments.skip_bad,
           .meaning = "leave out lines of broken JSON and texts that are not UTF-8, and count them",
           .flag = true},
          {.name = "threads",
           .target = &arguments.threads,
           .meaning = "parse and tokenise on this many",
           .default_text = "all cores"}};
}

std::vector<Key> keys_of_task(Arguments& arguments) {
  return task_keys(arguments.task, "size of every text, or the least and the most of sizes drawn uniformly",
                   {Key{"depth", &arguments.task.settings.depth, "share of the filler before the key", "", "-1: drawn"}
                        .between(-1, 1)
                        .only_with("task", {"passkey", "needle"}),
                    Key{"ignore", &arguments.task.settings.ignore, "share of instructions that are to be ignored"}
                        .between(0, 1)
                        .only_with("task", {"flip_flop"}),
                    Key{"window", &arguments.window, "length of the windows that texts are laid into", "tokens",
                        "that of the longest text and its end"}
                        .at_least(0)});
}

KeyTable prepare_keys(Arguments& arguments) {
  KeyTable keys;
  keys.add({.name = "output", .target = &arguments.output, .meaning = "the HDF5 file to write"});
  keys.add({.name = "overwrite",
            .target = &arguments.overwrite,
            .meaning = "replace an output that exists, once the new one is whole",
            .flag = true});
  keys.add(text_keys(arguments));
  keys.add(keys_of_task(arguments));
  return keys;
}

void print_list(const std::vector<std::string>& examples, std::int64_t all) {
  for (const auto& example : examples) print_result("  {}\n", example);
  const auto more = all - static_cast<std::int64_t>(examples.size());
  if (more > 0) print_result("  and {} more\n", more);
}

void print_report(const PrepareReport& report, const std::string& output, double seconds) {
  print_result("{}: {}, {}, from {} of text in {}, {:.1f} MB/s\n", output, counted(report.documents, "document"),
               counted(report.tokens, "token"), counted(report.text_bytes, "byte"), counted(report.files, "file"),
               static_cast<double>(report.text_bytes) / 1e6 / seconds);
  if (report.replaced_surrogates > 0) {
    print_result("replaced by U+FFFD: {} (half a character in JSON, like \\ud800)\n",
                 counted(report.replaced_surrogates, "lone surrogate"));
  }
  if (report.empty > 0) print_result("left out: {} without text\n", counted(report.empty, "document"));
  if (report.left_out.count > 0) {
    print_result("left out: {} of the directories given\n", counted(report.left_out.count, "entry", "entries"));
    print_list(report.left_out.examples, report.left_out.count);
  }
  if (report.skipped > 0) {
    print_result("left out: {} (--skip-bad)\n", counted(report.skipped, "bad line or file", "bad lines or files"));
    print_list(report.skipped_examples, report.skipped);
  }
}

int prepare_texts(const Arguments& arguments, const StopSignal& stop) {
  PrepareOptions options;
  options.inputs = arguments.inputs;
  options.output = arguments.output;
  options.existing = arguments.overwrite ? Existing::replace : Existing::refuse;
  options.tokenizer = arguments.tokenizer;
  options.end_of_document = arguments.end_of_document;
  options.bad_input = arguments.skip_bad ? BadInput::skip : BadInput::refuse;
  options.threads = static_cast<int>(arguments.threads);
  options.interrupted = [&] { return stop.received(); };

  const auto start = std::chrono::steady_clock::now();
  std::optional<ProgressBar> bar;
  const auto report = prepare(options, [&](const PrepareProgress& progress) {
    if (!bar) bar.emplace("prepare", "byte", progress.total_bytes);
    bar->update(progress.bytes,
                fmt::format("{}, {} {}", counted(progress.documents, "document"),
                            format_count(static_cast<double>(progress.tokens)), noun(progress.tokens, "token")));
  });
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  if (bar) bar->finish(counted(report.documents, "document") + ", " + counted(report.tokens, "token"));
  print_report(report, arguments.output, elapsed.count());
  return 0;
}

int prepare_task_texts(const Arguments& arguments, const StopSignal& stop) {
  const TaskKeys& keys = arguments.task;
  require_usage(keys.sizes.size() <= 2, "--sizes has {} values; give one size, or the least and the most",
                keys.sizes.size());
  const TaskDataset options{.task = keys.task,
                            .least = keys.sizes.front(),
                            .most = keys.sizes.back(),
                            .settings = keys.settings,
                            .count = keys.count,
                            .seed = static_cast<std::uint64_t>(keys.seed),
                            .window = arguments.window,
                            .output = arguments.output,
                            .existing = arguments.overwrite ? Existing::replace : Existing::refuse,
                            .interrupted = [&] { return stop.received(); }};
  ProgressBar bar("prepare", "text", static_cast<std::uint64_t>(keys.count));
  const TaskReport report =
      prepare_task(options, [&](std::int64_t texts) { bar.update(static_cast<std::uint64_t>(texts)); });
  bar.finish();
  print_result("{}: {} of task {}, {}, in windows of {}: train with --train.length {}\n", arguments.output,
               counted(report.texts, "text"), keys.task, counted(report.answers, "answer"),
               counted(report.window, "token"), report.window);
  return 0;
}

}  // namespace

int prepare_command(const std::vector<std::string>& args) {
  Arguments arguments;
  const auto keys = prepare_keys(arguments);
  if (asks_help(args)) {
    print_result("{}{}\n{}", usage, keys.help(), task_list());
    return 0;
  }
  const std::set<std::string> given = keys.parse_arguments(args);
  check_task_keys(keys, keys_of_task(arguments), arguments.task, given,
                  {"input", "tokenizer", "end-of-document", "skip-bad", "threads"});
  read_haystack(arguments.task);
  require_usage(arguments.threads >= 0 && arguments.threads <= 1024,
                "--threads {}; choose 1 to 1024, or 0 for all cores", arguments.threads);
  const StopSignal stop;
  return arguments.task.task.empty() ? prepare_texts(arguments, stop) : prepare_task_texts(arguments, stop);
}

}  // namespace lexring
