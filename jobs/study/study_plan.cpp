#include "jobs/study/study_plan.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "framework/base/error.h"
#include "jobs/config/changes.h"
#include "jobs/evaluation/parts_file.h"
#include "jobs/training/run_directory.h"
#include "parallel/checkpoint/checkpoint.h"

namespace lexring {
namespace {

std::string content(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void write(const std::filesystem::path& path, const std::string& text) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream << text;
  stream.close();
  require(stream.good(), "{} cannot be written; check permissions and free space of the study's --output",
          path.string());
}

bool trained(const std::filesystem::path& run, std::int64_t steps) {
  if (!std::filesystem::is_directory(run)) return false;
  const auto checkpoint = find_checkpoint(run);
  return checkpoint && CheckpointReader(*checkpoint).state().step >= steps;
}

/// A run that another configuration began is not this study's.
void require_same_run(const StudyJob& job, const StudyDirectory& directory) {
  if (!std::filesystem::is_directory(job.output)) return;
  const auto path = directory.record(job.name);
  const std::string before = content(path);
  if (before.empty() || before == job.record) return;
  std::vector<std::string> changes;
  for (const Change& change :
       changes_between(parse_ini_text(before, path.string()), parse_ini_text(job.record, "study")))
    changes.push_back(change.text);
  require_usage(
      changes.empty(),
      "{} was begun with another configuration ({}), so its numbers would not be this study's; choose another "
      "--output, or delete that directory to train it again",
      job.output.string(), fmt::join(changes, ", "));
}

StudyJob training_of(const StudyMethod& method, std::int64_t seed, const StudyDirectory& directory) {
  const std::string name = StudyDirectory::run_name(method.name, seed);
  StudyJob job;
  job.name = "train-" + name;
  job.output = directory.run(name);
  job.steps = method.options.train.steps;
  job.words = {"train", "--config", directory.shared_config().string()};
  if (!method.init.empty()) {
    job.words.insert(job.words.end(), {"--init", directory.run(StudyDirectory::run_name(method.init, seed)).string()});
  }
  for (const std::string& word : words_of(method.training)) job.words.push_back(word);
  job.words.push_back(fmt::format("--train.seed={}", seed));
  job.words.push_back("--checkpoint.directory=" + job.output.string());
  Options options = method.options;
  options.train.seed = seed;
  job.record = to_ini(options);
  require_same_run(job, directory);
  job.done = trained(job.output, job.steps);
  return job;
}

StudyJob evaluation_of(const StudyMethod& method, std::int64_t seed, const StudyDirectory& directory) {
  const std::string name = StudyDirectory::run_name(method.name, seed);
  StudyJob job;
  job.name = "evaluate-" + name;
  job.output = directory.evaluation(name);
  job.words = {"evaluate", "--checkpoint", directory.run(StudyDirectory::run_name(method.run_of(), seed)).string()};
  for (const std::string& word : words_of(method.evaluation)) job.words.push_back(word);
  job.words.push_back("--output=" + job.output.string());
  job.record = fmt::format("lexring {}\n", fmt::join(job.words, " "));
  job.words.push_back("--unfinished=replace");  // of a checkpoint, or a version, that was another one
  return job;
}

/// All that an evaluation left but its parts: with those it goes on, or it finds out that they are of another one.
void remove_results(const std::filesystem::path& evaluation) {
  std::error_code error;
  std::vector<std::filesystem::path> results;
  for (std::filesystem::directory_iterator entry(evaluation, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().filename() != PartsFile::name) results.push_back(entry->path());
  }
  for (const auto& path : results) std::filesystem::remove_all(path, error);
}

}  // namespace

std::string StudyDirectory::run_name(const std::string& method, std::int64_t seed) {
  return fmt::format("{}-seed{}", method, seed);
}

const char* results_file(const Study& study) { return study.task.empty() ? "results.json" : "tasks.json"; }

std::vector<StudyJob> plan_study(const Study& study, const StudyDirectory& directory) {
  std::vector<StudyJob> jobs;
  const auto place = [&](const std::string& name) -> std::optional<std::size_t> {
    const auto at = std::find_if(jobs.begin(), jobs.end(), [&](const StudyJob& job) { return job.name == name; });
    if (at == jobs.end()) return std::nullopt;
    return static_cast<std::size_t>(at - jobs.begin());
  };
  for (const std::int64_t seed : study.seeds) {
    for (const bool begun : {false, true}) {  // those that begin with another's weights after it
      for (const StudyMethod& method : study.methods) {
        if (!method.trained() || begun != !method.init.empty()) continue;
        StudyJob job = training_of(method, seed, directory);
        if (begun) job.after = place("train-" + StudyDirectory::run_name(method.init, seed));
        jobs.push_back(std::move(job));
      }
    }
    for (const StudyMethod& method : study.methods) {
      StudyJob job = evaluation_of(method, seed, directory);
      job.after = place("train-" + StudyDirectory::run_name(method.run_of(), seed));
      job.done = jobs[*job.after].done && std::filesystem::exists(job.output / results_file(study)) &&
                 content(directory.record(job.name)) == job.record;
      jobs.push_back(std::move(job));
    }
  }
  return jobs;
}

void prepare(const StudyJob& job, const StudyDirectory& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory.log(job.name).parent_path(), error);
  if (!job.training()) remove_results(job.output);
  write(directory.record(job.name), job.record);
}

void write_shared_config(const Study& study, const StudyDirectory& directory) {
  std::string text = "# What all trainings of this study share; written by `lexring study`.\n";
  for (const auto& [name, value] : study.training) text += fmt::format("{} = {}\n", name, value);
  if (content(directory.shared_config()) != text) write(directory.shared_config(), text);
}

std::int64_t last_reported_step(const std::filesystem::path& run) {
  std::ifstream stream(RunDirectory(run).metrics(), std::ios::binary | std::ios::ate);
  const auto size = static_cast<std::int64_t>(stream.tellg());
  if (size <= 0) return 0;
  stream.seekg(std::max<std::int64_t>(0, size - 1024));
  const std::string tail{std::istreambuf_iterator<char>(stream), {}};
  const auto at = tail.rfind("\"step\":");
  return at == std::string::npos ? 0 : std::atoll(tail.c_str() + at + 7);
}

}  // namespace lexring
