#include "parallel/checkpoint/local_tier.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <functional>
#include <span>
#include <string_view>
#include <thread>
#include <utility>

#include "framework/base/error.h"
#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/files.h"
#include "parallel/checkpoint/manifest.h"
#include "parallel/checkpoint/shard.h"
#include "parallel/checkpoint/steps.h"

namespace lexring {
namespace {

enum class Stage { writing, sending, copying, removing };

/// A neighbour's shard on its way from memory to our node.
struct Copy {
  ManifestFile file;
  std::unique_ptr<char[]> bytes;
};

/// One save. A thread and an exchange use what is here: they end before it does.
struct Flight {
  Stage stage = Stage::writing;
  TrainingState state;
  std::filesystem::path directory;
  HostShard shard;
  ManifestFile file;                // what this rank wrote; no name: nothing
  std::string outgoing;             // its bytes
  std::vector<ManifestFile> files;  // of all ranks
  std::vector<Copy> copies;
  Pending exchange;
  std::exception_ptr error;
  std::atomic<bool> done = false;
  std::jthread thread;

  void begin(Stage next, std::function<void()> work) {
    stage = next;
    done = false;
    thread = std::jthread([this, work = std::move(work)] {
      try {
        work();
      } catch (...) {
        error = std::current_exception();
      }
      done = true;
    });
  }
  void join() {
    if (thread.joinable()) thread.join();
    if (error) std::rethrow_exception(error);
  }
};

void write_copy(const std::filesystem::path& directory, const Copy& copy) {
  const std::string_view bytes(copy.bytes.get(), copy.file.bytes);
  require(hash_text(bytes) == copy.file.hash, "{} has another checksum here than on the node that it comes from",
          copy.file.name);
  write_text_file(directory / copy.file.name, bytes);
}

void write_manifest(const std::filesystem::path& directory, Manifest manifest) {
  if (const std::string& files = manifest.state.tokenizer.files; !files.empty()) {
    write_text_file(directory / tokenizer_name, files);
    manifest.files.push_back({tokenizer_name, files.size(), hash_text(files)});
  }
  write_text_file(directory / manifest_name, to_text(manifest));
}

/// All but one of what a node keeps of a turn.
void remove_others(const std::filesystem::path& newest) {
  std::vector<std::filesystem::path> others;
  for (const auto& entry : std::filesystem::directory_iterator(newest.parent_path())) {
    if (entry.path() != newest) others.push_back(entry.path());
  }
  for (const auto& other : others) remove_tree(other);
}

}  // namespace

struct LocalTier::Impl {
  std::unique_ptr<Communicator> group;  // its own: what goes through it is told apart from training's messages
  LocalPlace place;
  std::string turn;
  std::optional<std::string> left_over;  // why something of earlier turns could not be deleted
  std::vector<ManifestTensor> tensors;   // of all ranks; the same in every save
  std::int64_t newest = -1;
  bool failing = false;
  std::unique_ptr<Flight> flight;

  bool leads() const { return place.own_place() == 0; }
  void write(Flight& of) const;  // threads know their own flight only: who drops it waits for them
  std::optional<std::string> send();
  void copy();
  std::optional<std::string> given_up(const std::string& problem);
};

LocalTier::LocalTier(Communicator& host, LocalPlace place)
    : impl_(std::make_unique<Impl>(
          Impl{host.split("local checkpoints", 0), std::move(place), "", {}, {}, -1, false, {}})) {
  begin_turn();
}

LocalTier::~LocalTier() = default;

void LocalTier::begin_turn() {
  impl_->flight.reset();
  impl_->newest = -1;
  Communicator& group = *impl_->group;
  group.barrier();  // nobody writes any more
  std::string turn;
  agree(group, [&] {
    if (group.rank() == 0) turn = lexring::begin_turn(impl_->place.run());
  });
  const auto turns = group.all_gather(std::as_bytes(std::span(turn)));
  impl_->turn.assign(reinterpret_cast<const char*>(turns[0].data()), turns[0].size());
  impl_->left_over = common_problem(group, [&] {
    if (impl_->leads()) remove_tree(impl_->place.directory());
  });
}

bool LocalTier::in_flight() const { return impl_->flight != nullptr; }
std::int64_t LocalTier::newest() const { return impl_->newest; }

std::string LocalTier::describe(const std::vector<LogicalTensor>& tensors) const {
  const LocalPlace& place = impl_->place;
  std::int64_t own = 0;
  for (const LogicalTensor& part : tensors) own += static_cast<std::int64_t>(part.data.bytes());
  const auto all = impl_->group->all_gather(std::as_bytes(std::span(&own, 1)));
  std::vector<std::int64_t> of_node(static_cast<std::size_t>(place.nodes()));
  for (int rank = 0; rank < impl_->group->size(); ++rank) {
    std::int64_t bytes = 0;
    std::memcpy(&bytes, all[static_cast<std::size_t>(rank)].data(), sizeof bytes);
    of_node[static_cast<std::size_t>(place.node_of(rank))] += bytes;
    if (const int keeper = place.keeper_of(rank); keeper >= 0)
      of_node[static_cast<std::size_t>(place.node_of(keeper))] += bytes;
  }
  const double most = static_cast<double>(*std::max_element(of_node.begin(), of_node.end())) / (1 << 20);
  std::string text = fmt::format("local checkpoints in {}: {:.1f} MiB on a node, twice that during a save; {}",
                                 place.directory().string(), most,
                                 place.nodes() > 1 ? fmt::format("with a copy on the next of {} nodes", place.nodes())
                                                   : "on one node, so that there is none to hold a copy");
  if (impl_->left_over) text += fmt::format("\nearlier ones could not be deleted: {}", *impl_->left_over);
  return text;
}

void LocalTier::save(const TrainingState& state, const std::vector<LogicalTensor>& tensors) {
  require(!in_flight(), "checkpoint: a local save while another one is under way");
  impl_->flight = std::make_unique<Flight>();
  Flight& flight = *impl_->flight;
  flight.state = state;
  flight.directory = impl_->place.of_node(impl_->turn) / step_name(state.step);
  try {
    flight.shard = copy_to_host(tensors, impl_->group->rank());
  } catch (const std::bad_alloc&) {  // as a full disk: told by the first advance
    flight.error = std::current_exception();
    flight.done = true;
    return;
  }
  flight.begin(Stage::writing, [this, &flight] { impl_->write(flight); });
}

void LocalTier::Impl::write(Flight& of) const {
  make_directories(of.directory);
  if (of.shard.parts.empty()) return;
  const auto path = of.directory / shard_name(group->rank());
  of.file = write_shard(path, of.shard.parts);
  of.shard.parts.clear();
  if (place.nodes() > 1) of.outgoing = read_text_file(path);
}

bool LocalTier::stage_done() const {
  if (!in_flight()) return true;
  return impl_->flight->stage == Stage::sending ? impl_->flight->exchange.done() : impl_->flight->done.load();
}

/// Every shard to its keeper. A problem is of all ranks.
std::optional<std::string> LocalTier::Impl::send() {
  flight->files = gather_files(*group, flight->file);
  if (tensors.empty()) tensors = gather_tensors(*group, flight->shard.pieces);
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  auto problem = common_problem(*group, [&] {
    for (int rank = 0; rank < group->size(); ++rank) {
      const ManifestFile& file = flight->files[static_cast<std::size_t>(rank)];
      const int keeper = place.keeper_of(rank);
      if (file.name.empty() || keeper < 0) continue;
      if (rank == group->rank()) outgoing.push_back({keeper, std::as_bytes(std::span(flight->outgoing))});
      if (keeper != group->rank()) continue;
      flight->copies.push_back({file, std::make_unique_for_overwrite<char[]>(file.bytes)});
      incoming.push_back({rank, std::as_writable_bytes(std::span(flight->copies.back().bytes.get(), file.bytes))});
    }
  });
  if (problem) return problem;
  flight->exchange = group->start_exchange(std::move(outgoing), std::move(incoming));
  flight->stage = Stage::sending;
  return std::nullopt;
}

void LocalTier::Impl::copy() {
  flight->outgoing = {};
  flight->begin(Stage::copying, [this, &of = *flight] {
    for (Copy& copy : of.copies) {
      write_copy(of.directory, copy);
      copy.bytes.reset();
    }
    if (leads()) {
      Manifest manifest{of.state, of.files, tensors};
      std::erase_if(manifest.files, [](const ManifestFile& file) { return file.name.empty(); });
      write_manifest(of.directory, std::move(manifest));
    }
    sync_path(of.directory);
  });
}

std::optional<std::string> LocalTier::Impl::given_up(const std::string& problem) {
  const std::int64_t step = flight->state.step;
  if (flight->stage != Stage::removing && leads()) {
    try {
      remove_tree(flight->directory);
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the next one that is whole deletes all others
    }
  }
  flight.reset();
  if (std::exchange(failing, true)) return std::nullopt;
  return fmt::format("local save of step {} failed: {}; going on; said once, and tried again whenever one is due", step,
                     problem);
}

std::optional<std::string> LocalTier::advance() {
  require(in_flight(), "checkpoint: no local save is under way");
  Flight& flight = *impl_->flight;
  flight.exchange.wait();
  auto problem = common_problem(*impl_->group, [&] { flight.join(); });
  if (!problem && flight.stage == Stage::writing) problem = impl_->send();
  else if (!problem && flight.stage == Stage::sending) impl_->copy();
  else if (!problem && flight.stage == Stage::copying) {
    impl_->newest = flight.state.step;
    flight.begin(Stage::removing, [&flight, leads = impl_->leads()] {
      if (leads) remove_others(flight.directory);
    });
  } else if (!problem) {
    impl_->failing = false;
    impl_->flight.reset();
  }
  return problem ? impl_->given_up(*problem) : std::nullopt;
}

void LocalTier::clear() {
  impl_->flight.reset();
  impl_->group->barrier();
  static_cast<void>(common_problem(*impl_->group, [&] {
    if (impl_->group->rank() == 0) forget_turn(impl_->place.run());
    if (impl_->leads()) remove_tree(impl_->place.directory());
  }));
}

}  // namespace lexring
