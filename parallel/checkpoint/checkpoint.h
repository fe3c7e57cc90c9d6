/// Checkpoints: logical tensors in, logical tensors out, any mesh to any mesh. Format: parallel/checkpoint/README.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/checkpoint/tensor_source.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// What made a model's tokens, as plain data, for whoever can make a tokenizer of it.
struct StoredTokenizer {
  std::string kind;   ///< "bytes"; empty: not known, as in checkpoints from before tokenizers were stored
  std::string files;  ///< its files, as bytes; empty where it needs none
  bool operator==(const StoredTokenizer&) const = default;
};

/// What decides whether a step is a spike and where the run goes back to (jobs/training/spike.h).
struct SpikeState {
  std::vector<double> losses, gradient_norms;  ///< of the newest accepted steps, the oldest first
  std::int64_t in_a_row = 0;                   ///< of skipped_in_a_row, those that were spikes
  std::int64_t back_to = -1;                   ///< the newest checkpoint that fell due, by its step; -1: none
  std::int64_t rollbacks = 0;                  ///< to that checkpoint so far
  bool operator==(const SpikeState&) const = default;
};

/// What a run must know besides its tensors to go on as if it had not stopped.
struct TrainingState {
  std::int64_t step = 0;
  std::int64_t samples = 0;  ///< sequences consumed
  std::int64_t skipped_steps = 0;
  std::string dataset_hash;
  std::string configuration;          ///< the whole configuration, as INI text
  std::int64_t skipped_in_a_row = 0;  ///< of skipped_steps, those just before this state
  StoredTokenizer tokenizer = {};
  SpikeState spikes = {};
};

/// Saves in the background. A save copies this rank's tensors to host memory and returns; a writer thread writes and
/// fsyncs its shard. It never calls a communicator; HDF5 is shared with other threads by its lock (hdf5_handle.h).
class CheckpointWriter {
 public:
  /// `keep`: how many of the newest checkpoints stay (delete_old_steps); 0 keeps all.
  CheckpointWriter(std::filesystem::path directory, Communicator& world, std::int64_t keep);
  ~CheckpointWriter();  ///< waits for the writer; an unfinished checkpoint stays under its temporary name

  /// Begins a save; every rank calls it with what it alone is to write (no part twice over all ranks). Nothing is in
  /// flight.
  void save(const TrainingState& state, const std::vector<LogicalTensor>& tensors);
  /// This rank's flag, summed by a step's all-reduce: 1 when nothing is in flight here, its shard is safely on disk, or
  /// cannot be written.
  bool shard_done() const;
  /// Every rank calls it once all shards are done: rank 0 writes manifest and checkpoint.h5, renames into place,
  /// replaces `latest`, deletes old ones. Where any rank failed, on a full disk, the save is given up: what it wrote is
  /// removed, the checkpoints before stay, and every rank gets the first rank's problem.
  [[nodiscard]] std::optional<std::string> publish();
  bool in_flight() const;
  /// publish, where something is in flight, waiting for all shards. Collective.
  [[nodiscard]] std::optional<std::string> finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A checkpoint's files are not what was written. Not thrown for what may pass: a file that cannot be opened, that
/// another program holds locked, a format that is newer than this program.
class DamagedCheckpoint : public Error {
 public:
  using Error::Error;
};

struct Manifest;

/// Reads a checkpoint by its manifest. Anything that cannot be opened, read or verified is an Error that names the
/// file.
class CheckpointReader final : public TensorSource {
 public:
  /// `path` is a step directory, or a directory of them (its `latest` is taken).
  explicit CheckpointReader(const std::filesystem::path& path);
  /// The one that rank 0 finds, on every rank. Collective.
  CheckpointReader(Communicator& world, const std::filesystem::path& path);
  /// Of a step directory whose manifest somebody else has read, with the tokenizer's files; sizes are left to verify.
  CheckpointReader(std::filesystem::path step, Manifest manifest);
  ~CheckpointReader() override;
  CheckpointReader(CheckpointReader&&) noexcept;
  CheckpointReader& operator=(CheckpointReader&&) noexcept;

  const std::filesystem::path& path() const;  ///< the step directory
  const TrainingState& state() const;
  /// Size and XXH3 of every file (rank i of `world` hashes every P-th), and that all ranks read the same checkpoint;
  /// collective, throws on all ranks. What was found whole is not read again.
  void verify(Communicator& world) const;
  /// The same, but damage is not thrown: its message, on all ranks; empty where all is whole.
  std::string damage(Communicator& world) const;

  std::string origin() const override;
  std::vector<std::string> names() const override;
  std::optional<Info> info(const std::string& name) const override;

 private:
  /// From whatever pieces its elements lie in.
  void do_read(const std::string& name, const Shape& offset, const Shape& shape,
               std::span<std::byte> out) const override;

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The step directory that `path` means (itself, or what its `latest` names, or the newest complete one), as a
/// canonical path; nullopt when there is none. Throws Error naming a directory that cannot be read.
std::optional<std::filesystem::path> find_checkpoint(const std::filesystem::path& path);
/// What rank 0 finds, on every rank: while a run goes on, one may find another than the next. Collective.
std::optional<std::filesystem::path> find_checkpoint(Communicator& world, const std::filesystem::path& path);

}  // namespace lexring
