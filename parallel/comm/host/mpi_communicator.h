/// A group of MPI processes behind the communicator.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/fold.h"
#include "parallel/comm/host/progress.h"
#include "parallel/comm/host/transfer.h"

namespace lexring {

/// Takes `comm` over; a group of one needs no MPI and gives its handle back. `parent`: what it was split from; null for
/// all ranks.
std::unique_ptr<Communicator> make_mpi_communicator(const std::string& name, MPI_Comm comm, const MpiGroup* parent,
                                                    std::shared_ptr<Progress> progress);

/// What every blocking call begins with: each rank tells all others which call it is in. A mismatch becomes an error on
/// every rank instead of a hang or wrong numbers, and a payload that fits travels with it, so small collectives are one
/// message.
struct Announcement {
  static constexpr std::size_t room = 224;
  char operation[16] = {};
  std::uint64_t number = 0;
  std::uint64_t bytes = 0;
  std::byte payload[room] = {};
};

/// Tensors are in host memory; derived groups move those of a device in another way, and inherit what blocks.
class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<MpiGroup> group, std::shared_ptr<Progress> progress);
  ~MpiCommunicator() override;

  const std::shared_ptr<Progress>& progress() const { return progress_; }
  /// The group, for a communicator of another kind. Nothing may be asked of this one any more.
  std::shared_ptr<MpiGroup> release() { return std::move(group_); }

 protected:
  void do_all_reduce(std::span<float> values, Reduce op) override;
  void do_all_reduce(std::span<double> values, Reduce op) override;
  void do_all_reduce(std::span<std::int64_t> values, Reduce op) override;
  void do_broadcast(std::span<std::byte> values, int root) override;
  std::vector<std::vector<std::byte>> do_all_gather(std::span<const std::byte> mine) override;
  void do_barrier() override;
  std::unique_ptr<Communicator> do_split(const std::string& name, int color) override;
  Pending do_reduce_scatter(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) override;
  Pending do_gather_slices(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) override;
  Pending do_start_all_reduce(std::span<std::byte> values, Dtype dtype) override;
  Pending do_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming) override;
  void do_set_patience(double seconds) override { progress_->set_patience(seconds); }

  const MpiGroup& group() const { return *group_; }
  /// At most Transfer::most_stages.
  std::shared_ptr<Transfer> transfer(std::vector<std::unique_ptr<Stage>> stages) const;
  std::shared_ptr<Transfer> transfer(std::unique_ptr<Stage> first, std::unique_ptr<Stage> second = nullptr) const;
  std::unique_ptr<Stage> reduction_stage(std::span<std::byte> values, std::size_t element,
                                         const std::vector<std::int64_t>& borders, Fold fold) const;

 private:
  enum class Sizes { equal, may_differ };
  /// Everybody's, by rank, until the next one.
  const std::vector<Announcement>& announce(std::size_t bytes, std::span<const std::byte> payload,
                                            Sizes sizes = Sizes::equal);
  void reduce(std::span<std::byte> values, std::size_t element, Fold fold);

  Pending start(std::shared_ptr<Transfer> transfer) const;
  void run(const std::shared_ptr<Transfer>& transfer) const;

  std::shared_ptr<MpiGroup> group_;
  std::shared_ptr<Progress> progress_;
  std::vector<Announcement> announcements_;
};

}  // namespace lexring
