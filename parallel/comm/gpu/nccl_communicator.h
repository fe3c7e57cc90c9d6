/// A group of MPI processes with a GPU each: what blocks goes through MPI, tensors through NCCL.
///
/// Sums are made by ourselves, in the order of the ranks: every rank's part of a slice goes to its owner, whose GPU
/// adds them. NCCL's own sums depend on how GPUs are connected, and round bf16 at every step. As many bytes as a ring
/// moves; other ranks' parts take at most 64 MiB at once.
///
/// NCCL compares no sizes: ranks that disagree about the bytes of a message get no Error, as communicator.h promises,
/// but wait until the watchdog ends the run, or get wrong numbers.
#pragma once

#include "parallel/comm/gpu/nccl_group.h"
#include "parallel/comm/host/mpi_communicator.h"

namespace lexring {

class NcclCommunicator : public MpiCommunicator {
 public:
  NcclCommunicator(MpiCommunicator& host, std::shared_ptr<NcclDevice> device);
  /// One that all ranks of `host` know. Collective.
  static ncclUniqueId agree_on_id(Communicator& host);
  /// Makes NCCL's group, which else the first asynchronous call does; in call `number` of the group that it is split
  /// from. Collective.
  void connect(const ncclUniqueId& id, std::uint64_t number);

 protected:
  Pending do_reduce_scatter(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) override;
  Pending do_gather_slices(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) override;
  Pending do_start_all_reduce(std::span<std::byte> values, Dtype dtype) override;
  Pending do_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming) override;
  std::unique_ptr<Communicator> do_split(const std::string& name, int color) override;
  std::unique_ptr<Communicator> do_alone(const std::string& name) const override;
  void do_settle() const override { nccl_->settle(); }

 private:
  std::vector<int> everybody_else() const;
  Pending start(std::size_t bytes, std::vector<int> peers, Tensor scratch, const std::function<void()>& enqueue);
  Tensor scratch_for(Dtype dtype, const std::vector<std::int64_t>& borders) const;
  std::int64_t block_of(Dtype dtype, const std::vector<std::int64_t>& borders) const;

  // In the group's stream:
  void reduce(std::span<std::byte> values, Dtype dtype, const std::vector<std::int64_t>& borders,
              const Tensor& scratch);
  void gather(std::span<std::byte> values, std::size_t element, const std::vector<std::int64_t>& borders);
  void exchange(const std::vector<Outgoing>& outgoing, const std::vector<Incoming>& incoming);

  std::shared_ptr<NcclDevice> device_;
  std::shared_ptr<NcclGroup> nccl_;
};

}  // namespace lexring
