#include "parallel/checkpoint/shard.h"

#include <map>

#include "framework/base/console.h"
#include "framework/io/hdf5_file.h"
#include "parallel/checkpoint/files.h"
#include "parallel/checkpoint/steps.h"

namespace lexring {
namespace {

void check_part(const LogicalTensor& part) {
  require(!part.name.empty() && part.data.defined(), "checkpoint: a tensor without a name or without data: \"{}\"",
          part.name);
  require(part.offset.size() == part.full_shape.size() && part.data.shape().size() == part.full_shape.size(),
          "checkpoint: tensor {} has shape {}, but its part has shape {} at {}", part.name, to_string(part.full_shape),
          to_string(part.data.shape()), to_string(part.offset));
}

HostPart copy_part(const LogicalTensor& part, const std::string& dataset) {
  const Tensor& data = part.data;
  HostPart host{dataset, data.dtype(), data.shape(), std::make_unique_for_overwrite<std::byte[]>(data.bytes()),
                data.bytes()};
  data.runtime().copy_to_host(host.bytes.get(), data.raw(), data.bytes());
  data.runtime().synchronise();
  return host;
}

/// checkpoint.h5: every tensor whole, stitched from the shards, under its own name.
ManifestFile write_whole(const std::filesystem::path& path, const Manifest& manifest) {
  Hdf5File file(path, Hdf5File::Mode::create);
  for (const ManifestTensor& tensor : manifest.tensors) {
    std::vector<Hdf5File::VirtualPiece> pieces;
    for (const ManifestPiece& piece : tensor.pieces)
      pieces.push_back({piece.file, piece.dataset, piece.offset, piece.shape});
    file.write_virtual(tensor.name, h5_type(tensor.dtype), tensor.shape, pieces);
  }
  write_state(file, manifest.state);
  file.write_attribute("/", "warning",
                       std::string("The values lie in the shard-*.h5 files of this directory. Where one of them is "
                                   "missing, as beside a copy of this file, HDF5 reads NaN without an error. `lexring "
                                   "inspect DIRECTORY --export FILE.h5` writes one file that stands alone."));
  file.close();
  sync_path(path);
  return file_of(path);
}

}  // namespace

std::string shard_name(int rank) { return fmt::format("shard-{:04}.h5", rank); }

HostShard copy_to_host(const std::vector<LogicalTensor>& tensors, int rank) {
  HostShard shard;
  std::map<std::string, int> seen;
  for (const LogicalTensor& part : tensors) {
    check_part(part);
    shard.pieces.push_back({part.name, part.data.dtype(), part.full_shape, {}});
    if (part.data.elements() == 0) continue;
    const int before = seen[part.name]++;
    const std::string dataset = before == 0 ? part.name : fmt::format("{}#{}", part.name, before);
    shard.pieces.back().pieces.push_back({shard_name(rank), dataset, part.offset, part.data.shape()});
    shard.parts.push_back(copy_part(part, dataset));
  }
  return shard;
}

ManifestFile write_shard(const std::filesystem::path& path, const std::vector<HostPart>& parts) {
  Hdf5File file(path, Hdf5File::Mode::create);
  for (const HostPart& part : parts)
    file.write(part.dataset, h5_type(part.dtype), part.shape, {part.bytes.get(), part.size});
  file.close();
  sync_path(path);
  sync_path(path.parent_path());
  return file_of(path);
}

ManifestFile file_of(const std::filesystem::path& path) {
  return {path.filename().string(), size_of_file(path), hash_file(path)};
}

std::vector<ManifestTensor> gather_tensors(Communicator& world, const std::vector<ManifestTensor>& mine) {
  const std::string text = to_text(mine);
  std::map<std::string, ManifestTensor> whole;
  for (const auto& bytes : world.all_gather(std::as_bytes(std::span(text)))) {
    for (ManifestTensor& tensor : tensors_from_text({reinterpret_cast<const char*>(bytes.data()), bytes.size()})) {
      const auto [at, is_new] = whole.try_emplace(tensor.name, tensor);
      if (is_new) continue;
      require(at->second.shape == tensor.shape && at->second.dtype == tensor.dtype,
              "checkpoint: tensor {} is {} {} on one rank and {} {} on another", tensor.name, name_of(at->second.dtype),
              to_string(at->second.shape), name_of(tensor.dtype), to_string(tensor.shape));
      for (ManifestPiece& piece : tensor.pieces) at->second.pieces.push_back(std::move(piece));
    }
  }
  std::vector<ManifestTensor> tensors;
  for (auto& [name, tensor] : whole) tensors.push_back(std::move(tensor));
  check_tiling(tensors);  // the same answer on every rank
  return tensors;
}

std::vector<ManifestFile> gather_files(Communicator& world, const ManifestFile& mine) {
  const std::string text = to_text(mine);
  std::vector<ManifestFile> files;
  for (const auto& bytes : world.all_gather(std::as_bytes(std::span(text)))) {
    files.push_back(file_from_text({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  }
  return files;
}

void complete_step(const std::filesystem::path& directory, Manifest manifest, std::int64_t keep) {
  const std::int64_t step = manifest.state.step;
  const auto partial = partial_path(directory, step);
  std::erase_if(manifest.files, [](const ManifestFile& file) { return file.name.empty(); });
  manifest.files.push_back(write_whole(partial / whole_name, manifest));
  write_text_file(partial / manifest_name, to_text(manifest));
  sync_path(partial);
  put_into_place(directory, step);
  try {
    delete_debris(directory);
    delete_old_steps(directory, step, keep);
  } catch (const Error& error) {  // the checkpoint is in place
    say("an older checkpoint cannot be deleted: {}; tried again with the next save\n", error.what());
  }
}

}  // namespace lexring
