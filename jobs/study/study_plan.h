/// What a study has to do: a training for every method and seed, and an evaluation of each. Every one is a command of
/// this program, the same that a person or a job of a cluster would give.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "jobs/study/study_file.h"

namespace lexring {

/// Where everything of a study lies.
class StudyDirectory {
 public:
  explicit StudyDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  const std::filesystem::path& path() const { return path_; }
  /// "rope-seed1".
  static std::string run_name(const std::string& method, std::int64_t seed);
  std::filesystem::path run(const std::string& name) const { return path_ / "runs" / name; }
  std::filesystem::path evaluation(const std::string& name) const { return path_ / "evaluations" / name; }
  std::filesystem::path log(const std::string& name) const { return path_ / "logs" / (name + ".log"); }
  /// Slurm's id of a job that was handed to it.
  std::filesystem::path ticket(const std::string& name) const { return path_ / "logs" / (name + ".slurm_id"); }
  /// What all trainings share, as `lexring train --config` reads it.
  std::filesystem::path shared_config() const { return path_ / "configs" / "shared.ini"; }
  /// What a job was started with: a study whose file changed must not take another's numbers for its own.
  std::filesystem::path record(const std::string& name) const { return path_ / "configs" / (name + ".ini"); }

 private:
  std::filesystem::path path_;
};

struct StudyJob {
  std::string name;                  ///< "train-rope-seed1", "evaluate-rope-seed1"; of its log and record
  std::vector<std::string> words;    ///< of its command, after "lexring"
  std::optional<std::size_t> after;  ///< the job whose checkpoint it needs
  std::string record;                ///< what StudyDirectory::record holds once it was started
  bool done = false;
  std::int64_t steps = 0;        ///< of a training; 0: an evaluation
  std::filesystem::path output;  ///< run or evaluation
  bool training() const { return steps > 0; }
};

/// What an evaluation of the study leaves.
const char* results_file(const Study& study);

/// The jobs, trainings before what needs them. A training is done when its newest checkpoint is of its last step; an
/// evaluation when its results are there, of the same command, and its training is done. Throws UsageError where a run
/// was begun with another configuration.
std::vector<StudyJob> plan_study(const Study& study, const StudyDirectory& directory);

/// Writes the record of a job that is about to start, and takes away results of an evaluation that is to be made anew;
/// its parts stay, for it to go on from where they are its own.
void prepare(const StudyJob& job, const StudyDirectory& directory);

/// Writes what all trainings share.
void write_shared_config(const Study& study, const StudyDirectory& directory);

/// The last step that a run has reported; 0: none.
std::int64_t last_reported_step(const std::filesystem::path& run);

}  // namespace lexring
