/// Where a run begins: anew, with the weights of a checkpoint (--init), or where it stopped (--resume).
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "jobs/config/options.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/local_place.h"
#include "parallel/checkpoint/local_tier.h"

namespace lexring {

/// parse_options; with --init the model is the checkpoint's where no key says otherwise, and options.init the
/// checkpoint's canonical path, which is what config.ini and manifests record. Once the run has checkpoints of its own,
/// the same command goes on from these, and the first one need not be there any more. Throws UsageError when the run
/// did not begin with those weights. Collective.
Options read_run_options(const std::vector<std::string>& args, Communicator& world);

/// Where nodes keep local checkpoints; nothing where checkpoint.local is empty. With resume = auto, what they have that
/// is newer than the run's own checkpoints becomes one of these, and lines say so. The run is locked. Collective.
std::optional<LocalPlace> local_checkpoints(const Options& options, Communicator& world);
/// Before the first step: from here on local checkpoints are this start's, and none of earlier ones is taken any more.
/// Null where there are none. Collective.
std::unique_ptr<LocalTier> begin_local_checkpoints(const Options& options, Communicator& world,
                                                   const std::optional<LocalPlace>& place);

/// The checkpoint that `resume` means; nothing to start anew. With `auto`, where the newest is damaged, the one before,
/// and rank 0 says so; it is verified then. Collective.
std::optional<CheckpointReader> checkpoint_to_resume(const Options& options, Communicator& world);

/// Throws UsageError where a run that goes on from the checkpoint would have another model, other data, or another
/// order of them: what a resume may not change. Returns the configuration that it was saved with.
Options require_same_run(const Options& options, const CheckpointReader& checkpoint, const std::string& dataset_hash);

/// "resumed from ...", for the first lines.
std::string describe_start(const Options& options, const std::optional<std::filesystem::path>& checkpoint);
/// What --init changes beside the weights, as a line; empty: nothing.
std::string describe_init(const Options& options, const CheckpointReader& checkpoint);

/// Before a run goes on from a checkpoint: says what its configuration `now` changes and keeps the config.ini of
/// before; sets aside the later checkpoints of a run that goes back, and says so. Collective.
void go_on(const std::filesystem::path& checkpoint, const TrainingState& stored, const Options& now,
           Communicator& world);

}  // namespace lexring
