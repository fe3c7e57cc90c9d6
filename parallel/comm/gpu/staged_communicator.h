/// A group of MPI processes whose tensors are on a device: messages go through pinned host memory.
///
/// A call copies out what it sends (beside the runtime's work), sends when that has arrived, copies in what came, and
/// Pending::wait lets the runtime's later work wait for that. The host waits for messages in Pending::wait, never for
/// the device. Several ranks may share a device.
#pragma once

#include <mutex>
#include <vector>

#include "framework/device/runtime.h"
#include "parallel/comm/gpu/side_copies.h"
#include "parallel/comm/host/mpi_communicator.h"

namespace lexring {

/// A device and pinned memory for what is on its way; shared by all groups of a process.
class DeviceStaging {
 public:
  struct Memory {
    std::shared_ptr<std::byte> bytes;
    std::size_t size = 0;
  };

  DeviceStaging(Runtime& device, std::unique_ptr<SideCopies> side) : runtime(device), copies(std::move(side)) {}

  /// At least `size` bytes. Keeps what was ever needed at one time.
  Memory take(std::size_t size);
  /// To be used again when `last` (nullptr: at once) has passed.
  void give_back(Memory memory, std::unique_ptr<SideCopies::Event> last);

  Runtime& runtime;

 private:
  struct Free {
    Memory memory;
    std::unique_ptr<SideCopies::Event> last;
  };
  std::mutex mutex_;
  std::vector<Free> free_;

 public:
  const std::unique_ptr<SideCopies> copies;  ///< ends before the memory does: its end waits for what is still copied
};

/// Takes `host` over, a group of MPI or of one, for tensors on the device.
std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> host,
                                                       std::shared_ptr<DeviceStaging> device);

class StagedCommunicator : public MpiCommunicator {
 public:
  StagedCommunicator(MpiCommunicator& host, std::shared_ptr<DeviceStaging> device)
      : MpiCommunicator(host.release(), host.progress()), device_(std::move(device)) {}

 protected:
  Pending do_reduce_scatter(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) override;
  Pending do_gather_slices(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) override;
  Pending do_start_all_reduce(std::span<std::byte> values, Dtype dtype) override;
  Pending do_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming) override;
  std::unique_ptr<Communicator> do_split(const std::string& name, int color) override;
  std::unique_ptr<Communicator> do_alone(const std::string& name) const override;

 private:
  class Call;
  std::shared_ptr<Call> begin(std::size_t bytes) const;
  Pending start(const std::shared_ptr<Call>& staged, std::unique_ptr<Stage> first,
                std::unique_ptr<Stage> second = nullptr) const;

  std::shared_ptr<DeviceStaging> device_;
};

}  // namespace lexring
