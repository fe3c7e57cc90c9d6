/// From which of its checkpoints a run goes on by itself: the newest one that is not damaged.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "parallel/checkpoint/checkpoint.h"

namespace lexring {

struct NewestWhole {
  std::optional<CheckpointReader> reader;  ///< verified; nothing where the directory has no checkpoint
  std::vector<std::string> passed_over;    ///< on rank 0: what is wrong with newer ones; each message names the file
};

/// The checkpoint that find_checkpoint finds, or where it is damaged (not: unreadable, locked) the one before, and so
/// on. Reads all files of those that it looks at. Throws where there are some and all are damaged. Collective.
NewestWhole open_newest_whole(Communicator& world, const std::filesystem::path& directory);

/// The newest checkpoint whose manifest, tokenizer and sizes are right. For one rank. Throws where there are some and
/// all are damaged.
std::optional<std::filesystem::path> newest_readable(const std::filesystem::path& directory);
/// As far as manifest, tokenizer and sizes tell, without reading tensors: its path. Collective.
std::optional<std::filesystem::path> find_newest_readable(Communicator& world, const std::filesystem::path& directory);

/// A step directory's checkpoint, for all ranks: rank 0 alone opens manifest and tokenizer. Sizes are left to verify,
/// where ranks share the files: a thousand ranks that each look at a thousand shards ask a file system a million times.
/// Collective.
CheckpointReader open_for_all(Communicator& world, const std::filesystem::path& step);

/// Runs `work` on every rank. The first message of a DamagedCheckpoint, with its rank where that is another one, on
/// every rank; empty: none. Other errors are thrown on all ranks. Collective.
std::string damage_of(Communicator& world, const std::function<void()>& work);

}  // namespace lexring
