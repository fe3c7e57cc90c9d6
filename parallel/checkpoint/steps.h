/// The step directories of a run: their names, which are complete, which go.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace lexring {

inline constexpr const char* latest_name = "latest";  ///< a text file: the name of the newest complete step directory

/// "step-00001000".
std::string step_name(std::int64_t step);
/// Where a save is written until it is complete: "step-00001000.partial".
std::filesystem::path partial_path(const std::filesystem::path& directory, std::int64_t step);

/// The step directories that have a manifest, newest first. One that a crash left moved aside (".old", while its
/// successor of the same step was not in place yet) counts where the step is not there otherwise.
std::vector<std::pair<std::int64_t, std::filesystem::path>> complete_steps(const std::filesystem::path& directory);

/// Directories of steps after `step` that have the name of a complete checkpoint and no manifest: nothing that lexring
/// does, or is killed at, leaves one.
std::vector<std::filesystem::path> steps_without_manifest(const std::filesystem::path& directory, std::int64_t step);

/// Makes the partial directory of `step` the checkpoint of that step and `latest`; an older one of that name is moved
/// aside, then deleted. `latest` is written first: until the directory is there, the newest complete one counts.
void put_into_place(const std::filesystem::path& directory, std::int64_t step);

/// Renames it to step-00001000.deleted, then deletes the manifest first: what a crash in between leaves is never taken
/// for a checkpoint.
void delete_step(const std::filesystem::path& step_directory);
/// Leaves the checkpoint of `newest` and, of all up to it, the `keep` newest whose last step was not skipped (0: all).
/// One that ends in skipped steps takes nobody's place and goes when a newer one is there. Later ones are of another
/// branch and are not touched, nor are those whose manifest cannot be read.
void delete_old_steps(const std::filesystem::path& directory, std::int64_t newest, std::int64_t keep);
/// Deletes what interrupted saves and deletions left behind. Only while nobody else writes: the caller holds the run's
/// lock.
void delete_debris(const std::filesystem::path& directory);

/// What go_on_from did.
struct Branch {
  std::filesystem::path checkpoint;    ///< where the checkpoint is now
  std::vector<std::string> set_aside;  ///< former names, newest first
  std::string set_aside_as;            ///< what was added to them: ".abandoned-at-00000004"
};
/// Makes a checkpoint the newest of its directory's live branch and `latest`. Those that the run goes back behind are
/// renamed, to step-00000008.abandoned-at-00000004: complete, to be read and resumed by that name, but not found by
/// themselves and never deleted. To go on from such a one brings its own name back and sets aside what was saved since
/// the run went back to step 4. A crash at any point leaves `latest` naming the same checkpoint, or none and it as the
/// newest.
Branch go_on_from(const std::filesystem::path& checkpoint);

}  // namespace lexring
