#include "parallel/comm/host/mpi_communicator.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "framework/base/error.h"
#include "parallel/comm/host/reduction.h"

namespace lexring {
namespace {

class MpiWork final : public Pending::Work {
 public:
  MpiWork(std::shared_ptr<Transfer> transfer, std::shared_ptr<Progress> progress)
      : transfer_(std::move(transfer)), progress_(std::move(progress)) {}
  void wait() override { progress_->wait(*transfer_); }
  bool done() const override { return transfer_->done(); }

 private:
  std::shared_ptr<Transfer> transfer_;
  std::shared_ptr<Progress> progress_;
};

std::vector<int> world_ranks_of(MPI_Comm comm, int size, const MpiGroup* parent) {
  std::vector<int> ranks(static_cast<std::size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  if (parent == nullptr) return ranks;
  MPI_Group own = MPI_GROUP_NULL, whole = MPI_GROUP_NULL;
  LEXRING_MPI_CALL(MPI_Comm_group(comm, &own));
  LEXRING_MPI_CALL(MPI_Comm_group(parent->comm, &whole));
  std::vector<int> in_parent(ranks.size());
  LEXRING_MPI_CALL(MPI_Group_translate_ranks(own, size, ranks.data(), whole, in_parent.data()));
  MPI_Group_free(&own);
  MPI_Group_free(&whole);
  std::transform(in_parent.begin(), in_parent.end(), ranks.begin(),
                 [&](int r) { return parent->world_ranks[static_cast<std::size_t>(r)]; });
  return ranks;
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(const std::string& name, MPI_Comm comm, const MpiGroup* parent,
                                                    std::shared_ptr<Progress> progress) {
  int rank = 0, size = 1;
  LEXRING_MPI_CALL(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN));
  LEXRING_MPI_CALL(MPI_Comm_rank(comm, &rank));
  LEXRING_MPI_CALL(MPI_Comm_size(comm, &size));
  if (size == 1) {
    LEXRING_MPI_CALL(MPI_Comm_free(&comm));
    return make_self_communicator(name);
  }
  auto group =
      std::make_shared<MpiGroup>(MpiGroup{name, comm, rank, size, world_ranks_of(comm, size, parent), nullptr});
  return std::make_unique<MpiCommunicator>(std::move(group), std::move(progress));
}

MpiCommunicator::MpiCommunicator(std::shared_ptr<MpiGroup> group, std::shared_ptr<Progress> progress)
    : Communicator(group->name, group->rank, group->size),
      progress_(std::move(progress)),
      announcements_(static_cast<std::size_t>(group->size)) {
  group->ledger = ledger();
  group_ = std::move(group);
}

MpiCommunicator::~MpiCommunicator() {
  if (!group_) return;
  progress_->alone([&] {
    int finalized = 0;
    MPI_Comm comm = group_->comm;
    MPI_Finalized(&finalized);
    if (!finalized) MPI_Comm_free(&comm);  // lives on until what is under way is done
  });
}

// ---- how calls are made

std::shared_ptr<Transfer> MpiCommunicator::transfer(std::vector<std::unique_ptr<Stage>> stages) const {
  auto made = std::make_shared<Transfer>(group_, call(), Transfer::Kind::payload);
  for (auto& stage : stages) made->add(std::move(stage));
  return made;
}

std::shared_ptr<Transfer> MpiCommunicator::transfer(std::unique_ptr<Stage> first, std::unique_ptr<Stage> second) const {
  std::vector<std::unique_ptr<Stage>> stages;
  stages.push_back(std::move(first));
  if (second) stages.push_back(std::move(second));
  return transfer(std::move(stages));
}

Pending MpiCommunicator::start(std::shared_ptr<Transfer> transfer) const {
  progress_->start(transfer);
  return Pending(std::make_unique<MpiWork>(std::move(transfer), progress_));
}

void MpiCommunicator::run(const std::shared_ptr<Transfer>& transfer) const {
  progress_->start(transfer);
  progress_->wait(*transfer);
}

const std::vector<Announcement>& MpiCommunicator::announce(std::size_t bytes, std::span<const std::byte> payload,
                                                           Sizes sizes) {
  Announcement& own = announcements_[static_cast<std::size_t>(rank())];
  own = {};
  std::strncpy(own.operation, call().operation, sizeof(own.operation) - 1);
  own.number = call().number;
  own.bytes = bytes;
  if (!payload.empty() && payload.size() <= Announcement::room) {
    std::memcpy(own.payload, payload.data(), payload.size());
    ledger()->sent(call(), payload.size() * static_cast<std::size_t>(size() - 1));
  }
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    outgoing.push_back({r, std::as_bytes(std::span(&own, 1))});
    incoming.push_back({r, std::as_writable_bytes(std::span(&announcements_[static_cast<std::size_t>(r)], 1))});
  }
  auto announcement = std::make_shared<Transfer>(group_, call(), Transfer::Kind::announcement);
  announcement->add(std::make_unique<ExchangeStage>(std::move(outgoing), std::move(incoming)));
  run(announcement);
  for (std::size_t r = 0; r < announcements_.size(); ++r) {
    const Announcement& a = announcements_[r];
    const bool agrees = a.number == own.number && std::strcmp(a.operation, own.operation) == 0 &&
                        (sizes == Sizes::may_differ || a.bytes == own.bytes);
    require(agrees,
            "ranks of group {} are not in the same call: rank {} is in {} of {} bytes (call {}), rank {} in {} of {} "
            "bytes (call {}). This is a bug; please report it with the command line",
            name(), rank(), own.operation, own.bytes, own.number, r, a.operation, a.bytes, a.number);
  }
  return announcements_;
}

// ---- blocking

void MpiCommunicator::do_all_reduce(std::span<float> values, Reduce op) {
  reduce(std::as_writable_bytes(values), sizeof(float), fold_of<float>(op));
}
void MpiCommunicator::do_all_reduce(std::span<double> values, Reduce op) {
  reduce(std::as_writable_bytes(values), sizeof(double), fold_of<double>(op));
}
void MpiCommunicator::do_all_reduce(std::span<std::int64_t> values, Reduce op) {
  reduce(std::as_writable_bytes(values), sizeof(std::int64_t), fold_of<std::int64_t>(op));
}

void MpiCommunicator::reduce(std::span<std::byte> values, std::size_t element, Fold fold) {
  const auto& all = announce(values.size(), values);
  if (values.size() <= Announcement::room) {
    std::vector<const std::byte*> parts;
    for (const Announcement& a : all) parts.push_back(a.payload);
    fold(values, parts);
    return;
  }
  const auto borders = even_borders(static_cast<std::int64_t>(values.size() / element), size());
  run(transfer(reduction_stage(values, element, borders, fold), gather_stage(*group_, values, element, borders)));
}

/// Large values: the root gives every rank a slice, and the slices are gathered; no rank sends more than twice the
/// whole.
void MpiCommunicator::do_broadcast(std::span<std::byte> values, int root) {
  const bool mine = rank() == root;
  const auto& all = announce(values.size(), mine ? values : std::span<std::byte>{});
  if (values.size() <= Announcement::room) {
    if (!values.empty()) std::memcpy(values.data(), all[static_cast<std::size_t>(root)].payload, values.size());
    return;
  }
  const auto borders = even_borders(static_cast<std::int64_t>(values.size()), size());
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (int r = 0; mine && r < size(); ++r) outgoing.push_back({r, slice(values, 1, borders, r)});
  if (!mine) incoming.push_back({root, slice(values, 1, borders, rank())});
  run(transfer(std::make_unique<ExchangeStage>(std::move(outgoing), std::move(incoming)),
               gather_stage(*group_, values, 1, borders)));
}

std::vector<std::vector<std::byte>> MpiCommunicator::do_all_gather(std::span<const std::byte> mine) {
  const auto& all = announce(mine.size(), mine, Sizes::may_differ);
  std::vector<std::vector<std::byte>> result;
  for (const Announcement& a : all) result.emplace_back(a.bytes);
  std::copy(mine.begin(), mine.end(), result[static_cast<std::size_t>(rank())].begin());
  // A rank whose bytes fitted has sent them along; the others send them now.
  const bool sent = mine.size() <= Announcement::room;
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (int r = 0; r < size(); ++r) {
    const Announcement& a = all[static_cast<std::size_t>(r)];
    auto& bytes = result[static_cast<std::size_t>(r)];
    if (r != rank() && !sent) outgoing.push_back({r, mine});
    if (r != rank() && a.bytes > Announcement::room) incoming.push_back({r, bytes});
    if (a.bytes <= Announcement::room) std::copy_n(a.payload, a.bytes, bytes.begin());
  }
  run(transfer(std::make_unique<ExchangeStage>(std::move(outgoing), std::move(incoming))));
  return result;
}

void MpiCommunicator::do_barrier() { announce(0, {}); }

std::unique_ptr<Communicator> MpiCommunicator::do_split(const std::string& name, int color) {
  announce(0, {});
  return progress_->alone([&] {  // everybody is here: it does not wait for long
    MPI_Comm part = MPI_COMM_NULL;
    LEXRING_MPI_CALL(MPI_Comm_split(group_->comm, color, rank(), &part));
    return make_mpi_communicator(name, part, group_.get(), progress_);
  });
}

// ---- asynchronous

std::unique_ptr<Stage> MpiCommunicator::reduction_stage(std::span<std::byte> values, std::size_t element,
                                                        const std::vector<std::int64_t>& borders, Fold fold) const {
  std::vector<std::span<std::byte>> parts;
  for (int r = 0; r < size(); ++r) parts.push_back(slice(values, element, borders, r));
  return std::make_unique<ReductionStage>(std::move(parts), fold, progress_->staging());
}

Pending MpiCommunicator::do_reduce_scatter(std::span<std::byte> values, Dtype dtype,
                                           std::vector<std::int64_t> borders) {
  return start(transfer(reduction_stage(values, size_of(dtype), borders, sum_of(dtype))));
}

Pending MpiCommunicator::do_gather_slices(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) {
  return start(transfer(gather_stage(*group_, values, size_of(dtype), borders)));
}

Pending MpiCommunicator::do_start_all_reduce(std::span<std::byte> values, Dtype dtype) {
  const auto borders = even_borders(static_cast<std::int64_t>(values.size() / size_of(dtype)), size());
  return start(transfer(reduction_stage(values, size_of(dtype), borders, sum_of(dtype)),
                        gather_stage(*group_, values, size_of(dtype), borders)));
}

Pending MpiCommunicator::do_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming) {
  copy_to_oneself(outgoing, incoming, rank());
  return start(transfer(std::make_unique<ExchangeStage>(std::move(outgoing), std::move(incoming))));
}

}  // namespace lexring
