/// A group of processes and its collectives. Public functions check and record; a private virtual does.
///
/// Every rank of the group calls the same functions in the same order. Blocking calls are about numbers of the host;
/// asynchronous ones about tensors: memory of the device that the group was made for (comm/gpu/device.h; the host's
/// where it was made for none). A group of one returns at once. Errors: a mismatch or a failure of the library throws
/// Error naming operation, group and sequence number.
///
/// start_X begins X and returns; X advances by itself, all of its stages, while the caller computes, and is done when
/// Pending::wait returned (on a device: for all work of its runtime that is asked for after that, as it begins after
/// what was asked for before; nobody waits for the device). Any number may be under way, and be waited for in any
/// order; buffers given must live, and stay untouched, until then. Ranks that disagree about the bytes of a message get
/// an Error that names group, call, ranks and both sizes (of one that is too long, that more came).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "framework/device/runtime.h"
#include "framework/tensor/dtype.h"
#include "parallel/comm/records.h"

namespace lexring {

enum class Reduce { sum, max, min };

/// Something under way. Default-constructed: nothing, done. Destroying one that was not waited for waits, and drops its
/// error.
class Pending {
 public:
  class Work {
   public:
    virtual ~Work() = default;
    virtual void wait() = 0;                    ///< called once; throws what failed
    virtual bool done() const { return true; }  ///< overridden where wait() may hold up the host
  };

  Pending() = default;
  explicit Pending(std::unique_ptr<Work> work) : work_(std::move(work)) {}
  Pending(Pending&&) noexcept = default;
  Pending& operator=(Pending&&) noexcept;
  ~Pending();

  /// Returns when it is done; at once where it was waited for already. Sleeps meanwhile. Throws Error.
  void wait();
  /// Whether wait() would return at once. Advances nothing, and tells this rank's view only.
  bool done() const { return !work_ || work_->done(); }

 private:
  friend class Communicator;

  std::unique_ptr<Work> work_;
  std::shared_ptr<CommLedger> ledger_;  ///< where the time spent waiting is charged
  CommCall call_;
};

/// Part of an exchange: bytes to, or from, one rank (which may be oneself).
struct Outgoing {
  int to;
  std::span<const std::byte> bytes;
};
struct Incoming {
  int from;
  std::span<std::byte> bytes;
};

class Communicator {
 public:
  Communicator(std::string name, int rank, int size)
      : name_(std::move(name)), rank_(rank), size_(size), ledger_(std::make_shared<CommLedger>()) {}
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  const std::string& name() const { return name_; }
  int rank() const { return rank_; }
  int size() const { return size_; }

  // ---- blocking

  /// In place. Deterministic: values are added in the order of the ranks, so the same group and inputs give the same
  /// bits on every rank, in every run and with every MPI library. A max or min over NaN is NaN.
  void all_reduce(std::span<float> values, Reduce op);
  void all_reduce(std::span<double> values, Reduce op);
  void all_reduce(std::span<std::int64_t> values, Reduce op);
  /// `values` of rank `root` to everybody, in place.
  void broadcast(std::span<std::byte> values, int root);
  /// Every rank's bytes (sizes may differ), by rank, on every rank.
  std::vector<std::vector<std::byte>> all_gather(std::span<const std::byte> mine);
  void barrier();
  /// Ranks with the same `color` form a group, ordered by their rank here. Collective.
  std::unique_ptr<Communicator> split(const std::string& name, int color);
  /// This rank as a group, for the same device. Not collective.
  std::unique_ptr<Communicator> alone(const std::string& name) const { return do_alone(name); }

  // ---- asynchronous

  /// `values` are elements of a floating dtype, cut into a slice per rank: rank r's is [borders[r], borders[r + 1]),
  /// borders [size + 1] ascending from 0. Afterwards this rank's slice is the sum over ranks, added in the order of the
  /// ranks (bf16: in f32, rounded once); the rest of `values` is scratch.
  [[nodiscard]] Pending start_reduce_scatter(std::span<std::byte> values, Dtype dtype,
                                             std::vector<std::int64_t> borders);
  /// This rank's slice of `values` (borders as above) reaches everybody, everybody's arrives.
  [[nodiscard]] Pending start_all_gather(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders);
  /// reduce_scatter, then all_gather of equal slices: the sum on every rank, deterministic as above.
  [[nodiscard]] Pending start_all_reduce(std::span<std::byte> values, Dtype dtype);
  /// Point-to-point messages, all under way at once. Ranks call it together, with whatever they have to send and to
  /// receive, also nothing. Between two ranks, the i-th outgoing part meets the i-th incoming one; sizes must agree.
  /// All-to-all and ring shifts are exchanges.
  [[nodiscard]] Pending start_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming);

  /// How long a call of any group of this process's MPI session may be held up without any movement, before the
  /// watchdog ends the run (comm/watch/watchdog.h), in seconds; 0: for ever. The same on every rank. Nothing for a
  /// group of one.
  void set_patience(double seconds) { do_set_patience(seconds); }

  // ---- what it cost

  /// Calls so far: the number of the call that failed, in error messages.
  std::uint64_t sequence() const { return call_.number; }

  /// Calls, bytes and held-up time by operation ("start_" left out), since the last reset. Bytes of a call are complete
  /// when it is done.
  std::vector<CommRecord> records() const {
    do_settle();
    return ledger_->records();
  }
  /// Seconds during which at least one transfer of this group was under way: communicating, whether or not anybody
  /// waited.
  double busy() const {
    do_settle();
    return ledger_->busy();
  }
  void reset_records() {
    do_settle();
    ledger_->reset();
  }

 protected:
  /// The call that is being begun: the number is in error messages and tells messages of calls under way apart.
  const CommCall& call() const { return call_; }
  const std::shared_ptr<CommLedger>& ledger() const { return ledger_; }

 private:
  virtual void do_all_reduce(std::span<float> values, Reduce op) = 0;
  virtual void do_all_reduce(std::span<double> values, Reduce op) = 0;
  virtual void do_all_reduce(std::span<std::int64_t> values, Reduce op) = 0;
  virtual void do_broadcast(std::span<std::byte> values, int root) = 0;
  virtual std::vector<std::vector<std::byte>> do_all_gather(std::span<const std::byte> mine) = 0;
  virtual void do_barrier() = 0;
  virtual std::unique_ptr<Communicator> do_split(const std::string& name, int color) = 0;
  virtual Pending do_reduce_scatter(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) = 0;
  virtual Pending do_gather_slices(std::span<std::byte> values, Dtype dtype, std::vector<std::int64_t> borders) = 0;
  virtual Pending do_start_all_reduce(std::span<std::byte> values, Dtype dtype) = 0;
  virtual Pending do_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming) = 0;
  virtual std::unique_ptr<Communicator> do_alone(const std::string& name) const;
  virtual void do_set_patience(double /*seconds*/) {}
  /// Charges what the device has done since it was last asked.
  virtual void do_settle() const {}

  /// A call begins; its caller is held up while the result lives.
  HeldUp begin(const char* operation);
  /// Charges waiting for `pending` to the call.
  Pending charged(Pending pending) const;
  void check_slices(std::span<const std::byte> values, Dtype dtype, const std::vector<std::int64_t>& borders) const;

  std::string name_;
  int rank_;
  int size_;
  std::shared_ptr<CommLedger> ledger_;
  CommCall call_;
};

/// Cuts `count` into `parts` nearly equal slices: border r is count * r / parts. [parts + 1]
std::vector<std::int64_t> even_borders(std::int64_t count, int parts);

/// The parts of an exchange that `rank` sends to itself: the i-th outgoing one into the i-th incoming one. `device`:
/// whose memory; nullptr: the host's.
void copy_to_oneself(const std::vector<Outgoing>& outgoing, const std::vector<Incoming>& incoming, int rank,
                     Runtime* device = nullptr);

/// A group of one process, without any library.
std::unique_ptr<Communicator> make_self_communicator(std::string name = "self", Runtime* device = nullptr);

}  // namespace lexring
