#include <atomic>
#include <exception>
#include <map>
#include <thread>

#include "framework/io/hdf5_file.h"
#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/files.h"
#include "parallel/checkpoint/manifest.h"
#include "parallel/checkpoint/steps.h"

namespace lexring {
namespace {

/// A tensor's part in host memory on its way to the shard.
struct HostPart {
  std::string dataset;
  Dtype dtype;
  Shape shape;
  std::unique_ptr<std::byte[]> bytes;
  std::size_t size;
};

void check_part(const LogicalTensor& part) {
  require(!part.name.empty() && part.data.defined(), "checkpoint: a tensor without a name or without data: \"{}\"",
          part.name);
  require(part.offset.size() == part.full_shape.size() && part.data.shape().size() == part.full_shape.size(),
          "checkpoint: tensor {} has shape {}, but its part has shape {} at {}", part.name, to_string(part.full_shape),
          to_string(part.data.shape()), to_string(part.offset));
}

HostPart copy_to_host(const LogicalTensor& part, const std::string& dataset) {
  const Tensor& data = part.data;
  HostPart host{dataset, data.dtype(), data.shape(), std::make_unique_for_overwrite<std::byte[]>(data.bytes()),
                data.bytes()};
  data.runtime().copy_to_host(host.bytes.get(), data.raw(), data.bytes());
  data.runtime().synchronise();
  return host;
}

/// A file that was written and synced, for the manifest.
ManifestFile file_of(const std::filesystem::path& path) {
  return {path.filename().string(), size_of_file(path), hash_file(path)};
}

/// The only work of the writer thread.
ManifestFile write_shard(const std::filesystem::path& path, const std::vector<HostPart>& parts) {
  Hdf5File file(path, Hdf5File::Mode::create);
  for (const HostPart& part : parts)
    file.write(part.dataset, h5_type(part.dtype), part.shape, {part.bytes.get(), part.size});
  file.close();
  sync_path(path);
  sync_path(path.parent_path());
  return file_of(path);
}

/// The tensors of all ranks, by name, each with all its pieces.
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
  return tensors;
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

struct CheckpointWriter::Impl {
  /// One save from its copy to its place.
  struct Flight {
    TrainingState state;
    std::filesystem::path partial;
    std::vector<ManifestTensor> tensors;  // of all ranks
    std::vector<HostPart> parts;          // of this rank
    ManifestFile shard;                   // no name: this rank wrote none
    std::exception_ptr error;
    std::atomic<bool> done = false;
    std::jthread thread;  // the last member: joined before the others go
  };

  std::filesystem::path directory;
  Communicator* world;
  std::int64_t keep;
  std::unique_ptr<Flight> flight;

  std::vector<ManifestTensor> copy_parts(const std::vector<LogicalTensor>& tensors, Flight& to) const;
  void start(Flight& of) const;
  void wait();
  void publish_on_first(const std::vector<std::vector<std::byte>>& shards) const;
};

CheckpointWriter::CheckpointWriter(std::filesystem::path directory, Communicator& world, std::int64_t keep)
    : impl_(std::make_unique<Impl>(Impl{std::move(directory), &world, keep, nullptr})) {
  require(keep >= 0, "checkpoint.keep = {} is negative; give 0 to keep all", keep);
}

CheckpointWriter::~CheckpointWriter() = default;

bool CheckpointWriter::in_flight() const { return impl_->flight != nullptr; }

std::vector<ManifestTensor> CheckpointWriter::Impl::copy_parts(const std::vector<LogicalTensor>& tensors,
                                                               Flight& to) const {
  const std::string file = fmt::format("shard-{:04}.h5", world->rank());
  std::map<std::string, int> seen;
  std::vector<ManifestTensor> mine;
  for (const LogicalTensor& part : tensors) {
    check_part(part);
    mine.push_back({part.name, part.data.dtype(), part.full_shape, {}});
    if (part.data.elements() == 0) continue;
    const int before = seen[part.name]++;
    const std::string dataset = before == 0 ? part.name : fmt::format("{}#{}", part.name, before);
    mine.back().pieces.push_back({file, dataset, part.offset, part.data.shape()});
    to.parts.push_back(copy_to_host(part, dataset));
  }
  return mine;
}

void CheckpointWriter::Impl::start(Flight& of) const {
  if (of.parts.empty()) {
    of.done = true;
    return;
  }
  const auto path = of.partial / fmt::format("shard-{:04}.h5", world->rank());
  of.thread = std::jthread([&of, path] {
    try {
      of.shard = write_shard(path, of.parts);
    } catch (...) {
      of.error = std::current_exception();
    }
    of.parts.clear();
    of.done = true;
  });
}

void CheckpointWriter::save(const TrainingState& state, const std::vector<LogicalTensor>& tensors) {
  if (in_flight()) finish();
  Communicator& world = *impl_->world;
  auto flight = std::make_unique<Impl::Flight>();
  flight->state = state;
  flight->partial = partial_path(impl_->directory, state.step);
  std::vector<ManifestTensor> mine;
  agree(world, [&] {
    mine = impl_->copy_parts(tensors, *flight);
    if (world.rank() != 0) return;
    make_directories(impl_->directory);
    delete_step(flight->partial);  // what an interrupted save of the same step left
    make_directories(flight->partial);
  });
  flight->tensors = gather_tensors(world, mine);
  check_tiling(flight->tensors);  // the same answer on every rank
  impl_->flight = std::move(flight);
  impl_->start(*impl_->flight);
}

void CheckpointWriter::Impl::wait() {
  if (flight->thread.joinable()) flight->thread.join();
  if (!flight->error) return;
  const auto error = flight->error;
  flight.reset();
  std::rethrow_exception(error);
}

bool CheckpointWriter::shard_done() {
  if (!in_flight()) return true;
  if (!impl_->flight->done) return false;
  impl_->wait();
  return true;
}

void CheckpointWriter::Impl::publish_on_first(const std::vector<std::vector<std::byte>>& shards) const {
  Manifest manifest{flight->state, {}, flight->tensors};
  for (const auto& bytes : shards) {
    ManifestFile file = file_from_text({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if (!file.name.empty()) manifest.files.push_back(std::move(file));
  }
  if (const std::string& files = flight->state.tokenizer.files; !files.empty()) {
    write_text_file(flight->partial / tokenizer_name, files);
    manifest.files.push_back(file_of(flight->partial / tokenizer_name));
  }
  manifest.files.push_back(write_whole(flight->partial / whole_name, manifest));
  write_text_file(flight->partial / manifest_name, to_text(manifest));
  sync_path(flight->partial);
  put_into_place(directory, flight->state.step);
  delete_debris(directory);
  delete_old_steps(directory, flight->state.step, keep);
}

void CheckpointWriter::publish() {
  require(in_flight(), "checkpoint: publish without a save");
  Communicator& world = *impl_->world;
  agree(world, [&] { impl_->wait(); });
  const std::string mine = to_text(impl_->flight->shard);
  const auto shards = world.all_gather(std::as_bytes(std::span(mine)));
  agree(world, [&] {
    if (world.rank() == 0) impl_->publish_on_first(shards);
  });
  impl_->flight.reset();
}

void CheckpointWriter::finish() {
  if (in_flight()) publish();
}

}  // namespace lexring
