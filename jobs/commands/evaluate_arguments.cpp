#include "jobs/commands/evaluate_arguments.h"

#include <algorithm>
#include <iterator>
#include <set>

#include <fmt/format.h>

#include "framework/base/error.h"
#include "jobs/config/model_keys.h"
#include "jobs/config/options.h"
#include "jobs/launch/build_info.h"
#include "parallel/checkpoint/files.h"

namespace lexring {
namespace {

constexpr std::int64_t longest_resolution = 2048;  // by default: its time is quadratic in the length

/// Keys that say where and how an evaluation is done, not what is asked; and names whose contents are asked instead.
bool asks_nothing(const std::string& key) {
  static const std::set<std::string> names = {"output",           "overwrite", "unfinished", "checkpoint",
                                              "watchdog.seconds", "data",      "haystack"};
  return names.contains(key) || key.starts_with("mesh.") || key.starts_with("sequence.");
}

}  // namespace

std::vector<Key> EvaluateArguments::keys_of_task() {
  return task_keys(task, "sizes of texts",
                   {Key{"depths", &depths, "so many places of the key or needle in the text, from its begin to its end",
                        "", "0: drawn for every text"}
                        .between(0, 100)
                        .only_with("task", {"passkey", "needle"}),
                    Key{"ignore", &ignore, "share of instructions that are to be ignored; several are compared"}
                        .between(0, 1)
                        .only_with("task", {"flip_flop"})});
}

KeyTable EvaluateArguments::keys() {
  KeyTable table;
  table.add(
      {{"checkpoint", &checkpoints, "runs' directories, or step-* directories in them", "directories"},
       {"data", &data, "dataset to score, made by `lexring prepare`", "file"},
       Key{"lengths", &lengths, "lengths of windows", "tokens", "1, 2, 4, 8 and 16 times train.length"}.at_least(1),
       {"output", &output, "where results and report go; empty: they are only printed", "directory"},
       Key{"overwrite", &overwrite, "replace the evaluation that --output holds, finished or not", "", "", {}, true},
       {"unfinished", &unfinished, "what becomes of an unfinished evaluation of another command in --output"},
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

void EvaluateArguments::parse(const std::vector<std::string>& words) {
  const KeyTable table = keys();
  series.given = table.parse_arguments(words);
  check_task_keys(table, keys_of_task(), task, series.given,
                  {"data", "lengths", "tokens", "resolution", "data.documents"});
  std::sort(task.sizes.begin(), task.sizes.end());
  read_haystack(task);
}

void EvaluateArguments::check() const {
  require_usage(!checkpoints.empty(), "checkpoint is missing; give --checkpoint with a run's directory, or several");
  require_usage(!data.empty() || !task.task.empty(),
                "data is missing; give --data with a file that `lexring prepare` made, or a --task");
  for (const auto& [given, name] :
       {std::pair(overwrite, "overwrite"), std::pair(series.given.contains("unfinished"), "unfinished")}) {
    require_usage(!given || !output.empty(), "--{} has no effect without --output; leave it out, or give --output",
                  name);
  }
}

void EvaluateArguments::fill_defaults(const std::vector<Subject>& subjects) {
  if (lengths.empty()) {
    std::int64_t longest = 0;
    for (const Subject& subject : subjects) longest = std::max(longest, subject.options.train.length);
    for (const std::int64_t times : {1, 2, 4, 8, 16}) lengths.push_back(times * longest);
  }
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  if (resolution.empty()) {
    std::copy_if(lengths.begin(), lengths.end(), std::back_inserter(resolution),
                 [](std::int64_t length) { return length >= 2 && length <= longest_resolution; });
  }
  if (resolution == std::vector<std::int64_t>{0}) resolution.clear();
}

Asked asked(EvaluateArguments args, const std::vector<CheckpointReader>& readers, const std::string& data_hash) {
  Asked all = {{"version", fmt::format("{}, commit {}", build_info.version, build_info.commit)}};
  for (std::size_t i = 0; i < readers.size(); ++i) {
    all.emplace_back(readers.size() == 1 ? "checkpoint" : fmt::format("checkpoint {}", i + 1),
                     fmt::format("step {} with manifest {}", readers[i].state().step,
                                 hash_file(readers[i].path() / "manifest.json")));
  }
  if (!args.data.empty()) all.emplace_back("data", data_hash);
  if (args.task.settings.haystack) all.emplace_back("haystack", hash_text(*args.task.settings.haystack));
  const KeyTable table = args.keys();
  for (const Key& key : table.keys()) {
    if (args.series.given.contains(key.name) && !asks_nothing(key.name))
      all.emplace_back(key.name, text_of(key.target));
  }
  return all;
}

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

}  // namespace lexring
