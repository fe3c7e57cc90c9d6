#include <atomic>
#include <exception>
#include <thread>

#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/files.h"
#include "parallel/checkpoint/manifest.h"
#include "parallel/checkpoint/shard.h"
#include "parallel/checkpoint/steps.h"

namespace lexring {

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

  void make_partial(Flight& of) const;
  void start(Flight& of) const;
  void join() const;
  void publish_on_first(std::vector<ManifestFile> files) const;
  void remove_partial() const;
};

CheckpointWriter::CheckpointWriter(std::filesystem::path directory, Communicator& world, std::int64_t keep)
    : impl_(std::make_unique<Impl>(Impl{std::move(directory), &world, keep, nullptr})) {
  require(keep >= 0, "checkpoint.keep = {} is negative; give 0 to keep all", keep);
}

CheckpointWriter::~CheckpointWriter() = default;

bool CheckpointWriter::in_flight() const { return impl_->flight != nullptr; }

/// A directory that cannot be made is a save that fails, as is one that cannot be filled: publish says so.
void CheckpointWriter::Impl::make_partial(Flight& of) const {
  try {
    make_directories(directory);
    delete_step(of.partial);  // what an interrupted save of the same step left
    make_directories(of.partial);
  } catch (const std::exception&) {
    of.error = std::current_exception();
  }
}

void CheckpointWriter::Impl::start(Flight& of) const {
  if (of.parts.empty() || of.error) {
    of.done = true;
    return;
  }
  of.thread = std::jthread([&of, path = of.partial / shard_name(world->rank())] {
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
  require(!in_flight(), "checkpoint: a save while another one is under way");
  Communicator& world = *impl_->world;
  auto flight = std::make_unique<Impl::Flight>();
  flight->state = state;
  flight->partial = partial_path(impl_->directory, state.step);
  HostShard shard;
  agree(world, [&] { shard = copy_to_host(tensors, world.rank()); });
  if (world.rank() == 0) impl_->make_partial(*flight);
  flight->tensors = gather_tensors(world, shard.pieces);  // after which the directory is there for all
  flight->parts = std::move(shard.parts);
  impl_->flight = std::move(flight);
  impl_->start(*impl_->flight);
}

bool CheckpointWriter::shard_done() const { return !in_flight() || impl_->flight->done; }

void CheckpointWriter::Impl::join() const {
  if (flight->thread.joinable()) flight->thread.join();
  if (flight->error) std::rethrow_exception(flight->error);
}

void CheckpointWriter::Impl::publish_on_first(std::vector<ManifestFile> files) const {
  if (const std::string& tokenizer = flight->state.tokenizer.files; !tokenizer.empty()) {
    write_text_file(flight->partial / tokenizer_name, tokenizer);
    files.push_back(file_of(flight->partial / tokenizer_name));
  }
  complete_step(directory, {flight->state, std::move(files), flight->tensors}, keep);
}

/// What cannot be deleted now is deleted by the next save.
void CheckpointWriter::Impl::remove_partial() const {
  try {
    delete_step(flight->partial);
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the save's own problem is what is told
  }
}

std::optional<std::string> CheckpointWriter::publish() {
  require(in_flight(), "checkpoint: publish without a save");
  Communicator& world = *impl_->world;
  auto problem = common_problem(world, [&] { impl_->join(); });
  if (!problem) {
    const auto files = gather_files(world, impl_->flight->shard);
    problem = common_problem(world, [&] {
      if (world.rank() == 0) impl_->publish_on_first(files);
    });
  }
  if (problem && world.rank() == 0) impl_->remove_partial();
  impl_->flight.reset();
  return problem;
}

std::optional<std::string> CheckpointWriter::finish() { return in_flight() ? publish() : std::nullopt; }

}  // namespace lexring
