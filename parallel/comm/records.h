/// What the calls of a group cost: how many, how many bytes, how many seconds.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace lexring {

/// Calls of one operation ("start_" left out) since the last reset.
struct CommRecord {
  std::string operation;
  std::uint64_t calls = 0;
  std::uint64_t bytes = 0;  ///< that this rank sent to others, as the messages left it; headers of announcements apart
  double exposed = 0;       ///< seconds that the caller was held up: in blocking calls, in starting, in Pending::wait
};

/// One call of a group.
struct CommCall {
  const char* operation = "";  ///< a literal
  std::uint64_t number = 0;    ///< counts from 1; the same on every rank of the group
  std::size_t record = 0;      ///< of its operation, in the ledger
};

/// The books of one group. Thread safe: transfers end on the progress thread.
class CommLedger {
 public:
  CommCall begin(const char* operation);
  void sent(const CommCall& call, std::size_t bytes);
  void held_up(const CommCall& call, double seconds);
  void transfer_began();
  void transfer_ended();
  /// The same of a transfer that somebody else has timed, and that no other of the group overlapped.
  void was_busy(double seconds);

  std::vector<CommRecord> records() const;
  /// Seconds during which at least one transfer of the group was under way.
  double busy() const;
  /// Counts from here on; numbers of calls go on.
  void reset();

 private:
  using Clock = std::chrono::steady_clock;

  mutable std::mutex mutex_;
  std::vector<CommRecord> records_;
  std::uint64_t number_ = 0;
  int under_way_ = 0;
  Clock::time_point busy_since_;
  double busy_ = 0;
};

/// Charges its life to a call, as time that the caller was held up.
class HeldUp {
 public:
  HeldUp(CommLedger& ledger, const CommCall& call)
      : ledger_(&ledger), call_(call), since_(std::chrono::steady_clock::now()) {}
  HeldUp(const HeldUp&) = delete;
  HeldUp& operator=(const HeldUp&) = delete;
  ~HeldUp() {
    ledger_->held_up(call_, std::chrono::duration<double>(std::chrono::steady_clock::now() - since_).count());
  }

 private:
  CommLedger* ledger_;
  CommCall call_;
  std::chrono::steady_clock::time_point since_;
};

}  // namespace lexring
