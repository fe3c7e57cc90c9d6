#include "jobs/commands/prepare.h"

#include <chrono>
#include <cstdint>
#include <optional>

#include <fmt/core.h>

#include "datasets/prepare.h"
#include "framework/base/error.h"
#include "jobs/keys.h"
#include "jobs/progress_bar.h"
#include "jobs/stop_signal.h"

namespace lexring {
namespace {

struct Arguments {
  std::vector<std::string> inputs;
  std::string output;
  std::string tokenizer = "bytes";
  bool skip_bad = false, overwrite = false;
  std::int64_t threads = 0;
};

KeyTable prepare_keys(Arguments& arguments) {
  KeyTable keys;
  keys.add(
      {.name = "input", .target = &arguments.inputs, .meaning = "files (.txt .md .pod .jsonl, each also .zst) and directories of them"});
  keys.add({.name = "output", .target = &arguments.output, .meaning = "the HDF5 file to write"});
  keys.add({.name = "overwrite",
            .target = &arguments.overwrite,
            .meaning = "replace an output that exists, once the new one is whole",
            .flag = true});
  keys.add({.name = "tokenizer", .target = &arguments.tokenizer, .meaning = "how text becomes tokens", .choices = {"bytes"}});
  keys.add({.name = "skip-bad",
            .target = &arguments.skip_bad,
            .meaning = "leave out lines of broken JSON and texts that are not UTF-8, and count them",
            .flag = true});
  keys.add({.name = "threads", .target = &arguments.threads, .meaning = "parse and tokenise on this many", .default_text = "all cores"});
  return keys;
}

void print_report(const PrepareReport& report, const std::string& output, double seconds) {
  fmt::print("{}: {} documents, {} tokens, from {} bytes of text in {} files, {:.1f} MB/s\n", output, report.documents, report.tokens,
             report.text_bytes, report.files, static_cast<double>(report.text_bytes) / 1e6 / seconds);
  if (report.empty > 0) fmt::print("left out: {} documents without text\n", report.empty);
  if (report.ignored_files > 0) fmt::print("left out: {} files of no known kind in the directories given\n", report.ignored_files);
  if (report.replaced_surrogates > 0) {
    fmt::print("replaced: {} lone surrogates (halves of a character in JSON, like \\ud800) by U+FFFD\n", report.replaced_surrogates);
  }
  if (report.skipped == 0) return;
  fmt::print("left out: {} bad lines or files (--skip-bad), among them\n", report.skipped);
  for (const auto& message : report.skipped_examples) fmt::print("  {}\n", message);
}

}  // namespace

int prepare_command(const std::vector<std::string>& args) {
  Arguments arguments;
  const auto keys = prepare_keys(arguments);
  if (asks_help(args)) {
    fmt::print("lexring prepare --input TEXT... --output FILE.h5\n\n{}", keys.help());
    return 0;
  }
  keys.parse_arguments(args);
  require_usage(arguments.threads >= 0 && arguments.threads <= 1024, "--threads {}; choose 1 to 1024, or 0 for all cores",
                arguments.threads);

  const StopSignal stop;
  PrepareOptions options;
  options.inputs = arguments.inputs;
  options.output = arguments.output;
  options.existing = arguments.overwrite ? Existing::replace : Existing::refuse;
  options.tokenizer = arguments.tokenizer;
  options.bad_input = arguments.skip_bad ? BadInput::skip : BadInput::refuse;
  options.threads = static_cast<int>(arguments.threads);
  options.interrupted = [&] { return stop.received(); };

  const auto start = std::chrono::steady_clock::now();
  std::optional<ProgressBar> bar;
  const auto report = prepare(options, [&](const PrepareProgress& progress) {
    if (!bar) bar.emplace("prepare", progress.total_bytes);
    bar->update(progress.bytes,
                fmt::format("{} documents, {} tokens", progress.documents, format_count(static_cast<double>(progress.tokens))));
  });
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  if (bar) bar->finish(fmt::format("{} documents, {} tokens", report.documents, report.tokens));
  print_report(report, arguments.output, elapsed.count());
  return 0;
}

}  // namespace lexring
