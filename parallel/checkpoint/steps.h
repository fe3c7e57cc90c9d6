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

/// The step directories that have a manifest, newest first. One that a crash left moved aside (".old", while its successor of the same step
/// was not in place yet) counts where the step is not there otherwise.
std::vector<std::pair<std::int64_t, std::filesystem::path>> complete_steps(const std::filesystem::path& directory);

/// Makes the partial directory of `step` the checkpoint of that step and `latest`; an older one of that name is moved aside, then deleted.
void put_into_place(const std::filesystem::path& directory, std::int64_t step);

/// Deletes the manifest first, so that what is left after a crash in between is never taken for a checkpoint.
void delete_step(const std::filesystem::path& step_directory);
/// Leaves the checkpoint of `newest` and the `keep` - 1 newest others (0: all); deletes what interrupted saves left behind.
void delete_old_steps(const std::filesystem::path& directory, std::int64_t newest, std::int64_t keep);

}  // namespace lexring
