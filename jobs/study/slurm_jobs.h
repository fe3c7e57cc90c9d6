/// Jobs of a study as jobs of a Slurm cluster: one each, after the one whose checkpoint it needs, and a last one that
/// writes tables and report. Started from the root of the repository, by jobs/slurm/study.sbatch.
#pragma once

#include <string>
#include <vector>

#include "jobs/study/study_plan.h"

namespace lexring {

struct Submission {
  std::string name;      ///< of the study's job
  std::string id;        ///< Slurm's
  bool waiting = false;  ///< submitted before, and still there
};

/// Throws UsageError where sbatch is not there, or this is not the root of the repository.
void require_slurm();

/// Hands over what is neither done nor with Slurm already, with these options of sbatch; `tables` are the words of the
/// last job's command. What a job needs must have ended well, or Slurm takes the job back; the tables are written of
/// what there is. Ids are kept in the study's directory. Throws UsageError where sbatch refuses.
std::vector<Submission> submit_jobs(const std::vector<StudyJob>& jobs, const StudyDirectory& directory,
                                    const std::vector<std::string>& tables, const std::string& options);

}  // namespace lexring
