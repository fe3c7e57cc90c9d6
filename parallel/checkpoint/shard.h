/// One rank's part of a checkpoint: its tensors in host memory on their way to its shard, and what all shards hold.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "parallel/checkpoint/manifest.h"
#include "parallel/checkpoint/tensor_source.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// "shard-0003.h5".
std::string shard_name(int rank);

/// A tensor's part in host memory.
struct HostPart {
  std::string dataset;
  Dtype dtype;
  Shape shape;
  std::unique_ptr<std::byte[]> bytes;
  std::size_t size;
};

/// This rank's tensors, copied: all that keeps a step waiting.
struct HostShard {
  std::vector<HostPart> parts;         ///< but those without elements
  std::vector<ManifestTensor> pieces;  ///< what the file will hold, for gather_tensors
};
HostShard copy_to_host(const std::vector<LogicalTensor>& tensors, int rank);

/// Writes and syncs `shard_name(rank)` and the directory. The work of writer threads: no communicator.
ManifestFile write_shard(const std::filesystem::path& path, const std::vector<HostPart>& parts);

/// A file that was written and synced, for the manifest.
ManifestFile file_of(const std::filesystem::path& path);

/// The tensors of all ranks, by name, each with all its pieces, which leave nothing out (check_tiling). Collective.
std::vector<ManifestTensor> gather_tensors(Communicator& world, const std::vector<ManifestTensor>& mine);
/// The files of all ranks, by rank; without a name where a rank wrote none. Collective.
std::vector<ManifestFile> gather_files(Communicator& world, const ManifestFile& mine);

/// Makes a checkpoint of a partial directory in which everything lies that `manifest` lists: writes checkpoint.h5 and
/// the manifest, puts the directory into place, deletes debris and the older ones (delete_old_steps). For one rank.
void complete_step(const std::filesystem::path& directory, Manifest manifest, std::int64_t keep);

}  // namespace lexring
