/// Jobs of a study as processes of this machine.
#pragma once

#include <string>
#include <vector>

#include "jobs/study/study_plan.h"

namespace lexring {

/// While one lives no other study works in the directory; the processes that a study started hold it too, so that one
/// that was killed and is started again waits until they have ended. Waits; throws Interrupted when told to stop.
class StudyLock {
 public:
  explicit StudyLock(const std::filesystem::path& directory);
  StudyLock(const StudyLock&) = delete;
  StudyLock& operator=(const StudyLock&) = delete;
  ~StudyLock();

 private:
  int file_ = -1;
};

struct JobFailure {
  std::string name;
  std::string reason;  ///< "exit code 1: " and the last line of its log
};

struct StudyEnd {
  bool stopped = false;  ///< by a signal; trainings have written a checkpoint, evaluations have kept what is done
  std::vector<JobFailure> failures;
};

/// Runs what is not done, `parallel` at a time, each with its share of the processors, and marks what is done. A job
/// whose training failed is left out; the others go on. Told to stop, it waits until all processes have ended; those
/// that stopped then have not failed.
StudyEnd run_jobs(std::vector<StudyJob>& jobs, const StudyDirectory& directory, int parallel);

}  // namespace lexring
