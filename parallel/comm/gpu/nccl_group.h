/// NCCL's group of processes, its stream, and the calls under way on it: what the watchdog and the books see of them.
///
/// A call begins, in a stream of the group's own, when the runtime's stream has come to where it was when the call was
/// made; Pending::wait lets the runtime's stream wait for it. The host waits only while NCCL connects ranks or hands a
/// call to the device in the background.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/tensor/tensor.h"
#include "parallel/comm/gpu/cuda_event.h"
#include "parallel/comm/gpu/nccl_call.h"
#include "parallel/comm/host/progress.h"

namespace lexring {

class NcclGroup;

/// The device of this process, and NCCL's groups on it. Groups are made, are called and end in one thread.
struct NcclDevice {
  Runtime& runtime;
  cudaStream_t stream;  ///< the runtime's
  std::vector<NcclGroup*> groups = {};
};

/// An error of one breaks all of its device off.
class NcclGroup final : public WatchedCalls, public std::enable_shared_from_this<NcclGroup> {
 public:
  NcclGroup(std::shared_ptr<NcclDevice> device, std::string name, std::vector<int> world_ranks, int rank,
            std::shared_ptr<CommLedger> ledger, std::shared_ptr<Progress> progress);
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;
  /// Waits, some seconds, for the ranks to come to their ends too; NCCL's group is broken off where they do not, and
  /// all are after an error.
  ~NcclGroup() override;

  /// Or was, until an error.
  bool connected() const { return handle_ != nullptr || broken_; }
  /// Collective.
  void connect(const CommCall& call, const ncclUniqueId& id);

  /// Everything that one call asks of the device. `peers`: ranks of this group it depends on. `scratch` lives until it
  /// is waited for.
  struct Request {
    CommCall call;
    std::size_t bytes;  ///< of its messages
    std::vector<int> peers;
    Tensor scratch;
  };
  /// `enqueue` works on stream() and calls complete() after every group of NCCL's calls.
  Pending start(Request request, const std::function<void()>& enqueue);

  ncclComm_t handle() const { return handle_; }
  cudaStream_t stream() const { return stream_.get(); }
  /// Returns when NCCL has handed to the device what was asked of it.
  void complete();

  /// Charges calls that have ended.
  void settle();

  std::optional<HeldUpCall> held_up() override;
  std::optional<LastCall> behind() override;
  std::string failure() override;

 private:
  using Clock = std::chrono::steady_clock;
  struct Call;
  class Work;
  class HostCall;

  void wait(Call& call);
  void settle_locked();
  HeldUpCall describe(const Request& request, const void* identity, Clock::time_point since) const;
  void break_off();

  std::shared_ptr<NcclDevice> device_;
  std::string name_;
  std::vector<int> world_ranks_;  ///< by rank of this group
  int rank_;
  std::shared_ptr<CommLedger> ledger_;
  std::shared_ptr<Progress> progress_;
  CudaStream stream_{
      CudaStream::Priority::
          highest};  ///< above computing, so that a small message does not wait for a large product's end
  CudaEvent asked_;
  ncclComm_t handle_ = nullptr;
  bool broken_ = false;

  std::mutex mutex_;                         ///< of what follows, and of the handle's end
  std::deque<std::shared_ptr<Call>> calls_;  ///< not known to have ended, or not charged yet
  std::optional<LastCall> reached_;          ///< the last one known to have begun on the device
  std::string device_error_;                 ///< of CUDA, that the watchdog met
  const Request* host_in_ = nullptr;         ///< the call in which the host waits for NCCL
  Clock::time_point host_since_;
};

}  // namespace lexring
