/// Moves messages while the program computes: one thread per MPI session drives every call under way.
///
/// One thread at a time is inside MPI, the progress thread or a caller; callers go first. The thread looks again at
/// once while bytes move, naps between looks while nothing does (the longer nothing moved, the longer), and sleeps when
/// nothing is under way. Whoever waits looks for some tens of microseconds, then sleeps until woken: ranks that wait
/// leave the processors to those that compute.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/host/mpi_call.h"
#include "parallel/comm/host/staging.h"
#include "parallel/comm/host/transfer.h"

namespace lexring {

/// What a rank that is held up waits for.
struct HeldUpCall {
  const void* identity = nullptr;  ///< tells one from the next; not to be followed
  std::string group;
  std::string operation;
  std::uint64_t number = 0;
  std::size_t bytes = 0;   ///< of the call's messages so far, sent and received
  double seconds = 0;      ///< since somebody waits and nothing of it moved
  std::vector<int> peers;  ///< world ranks whose messages have not come; where all came, those that have not taken ours
};

/// The call that a rank began last.
struct LastCall {
  std::string group;
  std::string operation;
  std::uint64_t number = 0;
};

/// Calls under way that are not messages of MPI, for the watchdog. Asked by other threads, under Progress's lock.
class WatchedCalls {
 public:
  virtual ~WatchedCalls() = default;
  virtual std::optional<HeldUpCall> held_up() = 0;
  /// The last call that the device has come to, where it has not come to the last one begun.
  virtual std::optional<LastCall> behind() = 0;
  /// What the library says has failed; empty: nothing.
  virtual std::string failure() = 0;
};

// NOLINTNEXTLINE(cppcoreguidelines-virtual-class-destructor): nobody owns one as a MessageCarrier
class Progress final : MessageCarrier {
 public:
  /// caller: the library lets no second thread in, so messages move while somebody waits.
  enum class Driver { thread, caller };

  explicit Progress(Driver driver);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { stop(); }
  /// Ends the thread. What is under way stays where it is.
  void stop();

  void start(const std::shared_ptr<Transfer>& transfer);
  /// Throws what failed.
  void wait(Transfer& transfer);

  /// f() with MPI to itself.
  template <class F>
  auto alone(const F& f) {
    const auto lock = take_turn();
    return f();
  }
  /// The same for who cannot wait for long; false when somebody else was in MPI all the time.
  template <class F>
  bool alone_within(std::chrono::milliseconds patience, const F& f) {
    const auto until = Clock::now() + patience;
    Lock lock(mutex_, std::try_to_lock);
    while (!lock.owns_lock() && Clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      lock.try_lock();
    }
    if (lock.owns_lock()) f();
    return lock.owns_lock();
  }

  /// Under the lock (alone, alone_within).
  std::optional<HeldUpCall> held_up() const;
  LastCall last_call() const;
  std::string failure() const;

  /// From now on the watchdog sees these too.
  void watch(WatchedCalls& calls);
  void unwatch(WatchedCalls& calls);
  /// A call that is not a transfer begins.
  void began(LastCall call);

  StagingPool& staging() { return staging_; }

  /// The watchdog's: seconds that a call may be held up; 0: for ever.
  double patience() const { return patience_.load(); }
  void set_patience(double seconds) { patience_.store(seconds); }

 private:
  using Clock = std::chrono::steady_clock;
  using Lock = std::unique_lock<std::mutex>;
  struct Waiter {
    const Transfer* transfer;
    Clock::time_point since;
  };

  void posted(MPI_Request request, Message message) override;
  void gate(Gate gate) override;

  Lock take_turn();
  void run();
  bool look();
  bool look_at_gates();
  bool idle() const { return requests_.empty() && gates_.empty(); }
  void completed(std::size_t at, const MPI_Status& status, int error);
  void check(const Message& message, const MPI_Status& status, int error) const;
  void advance(Transfer& transfer);
  void finish(Transfer& transfer);
  void break_off(Transfer& transfer, std::exception_ptr error);
  void give_up_failed();
  void forget_completed();
  std::optional<HeldUpCall> waiter_held_up() const;

  StagingPool staging_;
  std::mutex mutex_;              ///< who holds it may call MPI
  std::atomic<int> callers_ = 0;  ///< want the mutex: the thread leaves it to them
  std::condition_variable work_;  ///< wakes the thread
  std::condition_variable done_;  ///< wakes who waits
  bool news_ = false;
  bool ending_ = false;
  std::vector<MPI_Request> requests_;
  std::vector<Message> messages_;  ///< of the requests, at the same places
  std::vector<int> indices_;
  std::vector<MPI_Status> statuses_;
  std::deque<Gate> gates_;
  std::vector<std::shared_ptr<Transfer>> failed_;  ///< with messages under way
  std::vector<Waiter> waiters_;
  LastCall last_;
  std::vector<WatchedCalls*> watched_;
  std::atomic<double> patience_ = 0;
  std::thread thread_;
};

}  // namespace lexring
