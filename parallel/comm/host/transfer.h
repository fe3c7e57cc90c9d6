/// A call under way: stages of point-to-point messages, one stage after another, driven by Progress.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/host/mpi_call.h"

namespace lexring {

class Transfer;

/// What messages know of their group; outlives the communicator while some are under way.
struct MpiGroup {
  std::string name;
  MPI_Comm comm;
  int rank;
  int size;
  std::vector<int> world_ranks;  ///< [size]
  std::shared_ptr<CommLedger> ledger;
};

/// Who carries what transfers post (Progress). Called while a stage runs, by whoever drives.
class MessageCarrier {
 public:
  enum class Direction { send, receive };
  struct Message {
    std::shared_ptr<Transfer> transfer;
    Direction direction;
    int peer;
    std::size_t bytes;
    std::size_t id;
  };
  virtual void posted(MPI_Request request, Message message) = 0;
  struct Gate {
    std::shared_ptr<Transfer> transfer;
    std::function<bool()> passed;
  };
  virtual void gate(Gate gate) = 0;

 protected:
  ~MessageCarrier() = default;
};

/// Messages, and what is done with them as they come. Called by whoever drives, one at a time.
class Stage {
 public:
  virtual ~Stage() = default;
  /// Posts the first messages.
  virtual void begin(Transfer& transfer) = 0;
  /// A message, posted with this `id`, is complete; more may be posted. The stage ends when none is outstanding.
  virtual void arrived(Transfer& /*transfer*/, std::size_t /*id*/) {}
  virtual void sent(Transfer& /*transfer*/, int /*to*/) {}
};

class Transfer : public std::enable_shared_from_this<Transfer> {
 public:
  /// Announcements are told apart from other messages, so that ranks in different calls still hear each other.
  enum class Kind { announcement, payload };

  static constexpr int most_stages = 4;

  Transfer(std::shared_ptr<const MpiGroup> group, CommCall call, Kind kind)
      : group_(std::move(group)), call_(call), kind_(kind) {}
  void add(std::unique_ptr<Stage> stage) { stages_.push_back(std::move(stage)); }

  // ---- for stages

  const MpiGroup& group() const { return *group_; }
  void send(int to, std::span<const std::byte> bytes);
  /// Anything but exactly bytes.size() bytes from `from` is an error.
  void receive(int from, std::span<std::byte> bytes, std::size_t id = 0);
  /// The stage does not end before `passed`, which is asked again and again once all that was waited for so before, by
  /// any transfer, has passed. For what this process waits for beside messages, which comes about in its order: work of
  /// one stream.
  void until(std::function<bool()> passed);

  // ---- for everybody

  const CommCall& call() const { return call_; }
  bool done() const { return done_.load(std::memory_order_acquire); }

 private:
  friend class Progress;
  using Clock = std::chrono::steady_clock;

  int tag() const;

  std::shared_ptr<const MpiGroup> group_;
  CommCall call_;
  Kind kind_;
  std::vector<std::unique_ptr<Stage>> stages_;

  // Progress's, under its lock.
  MessageCarrier* carrier_ = nullptr;
  std::size_t next_stage_ = 0;
  std::size_t outstanding_ = 0;  ///< messages, and what is waited for beside them
  std::size_t bytes_ = 0;        ///< of the messages posted so far, both ways
  Clock::time_point moved_;      ///< when a message was last completed
  std::exception_ptr error_;
  Clock::time_point failed_;  ///< when it was
  std::atomic<bool> done_ = false;
};

/// All messages at once. Parts to and from oneself are left out: copy_to_oneself.
class ExchangeStage final : public Stage {
 public:
  ExchangeStage(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming)
      : outgoing_(std::move(outgoing)), incoming_(std::move(incoming)) {}
  void begin(Transfer& transfer) override;

 private:
  std::vector<Outgoing> outgoing_;
  std::vector<Incoming> incoming_;
};

/// Rank r's slice of `values`, which are elements of so many bytes.
std::span<std::byte> slice(std::span<std::byte> values, std::size_t element, const std::vector<std::int64_t>& borders,
                           int rank);

/// This rank's slice reaches everybody, everybody's arrives.
std::unique_ptr<Stage> gather_stage(const MpiGroup& group, std::span<std::byte> values, std::size_t element,
                                    const std::vector<std::int64_t>& borders);

}  // namespace lexring
