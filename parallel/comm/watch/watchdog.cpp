#include "parallel/comm/watch/watchdog.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <fmt/format.h>

#include "framework/base/console.h"
#include "parallel/comm/watch/side_channel.h"
#include "parallel/comm/watch/standing.h"

namespace lexring {
namespace {

using namespace std::chrono_literals;
using Seconds = std::chrono::duration<double>;

constexpr Seconds others_first = 3s;  // a rank that fails unwinds, then speaks
constexpr auto claims_travel = 300ms;

RankState state_of(const Progress& progress) {
  if (const auto call = progress.held_up())
    return {true, call->group, call->operation, call->number, call->bytes, call->seconds, call->peers, ""};
  const LastCall last = progress.last_call();
  return {false, last.group, last.operation, last.number, 0, 0, {}, describe_main_thread()};
}

}  // namespace

class Watchdog::Thread {
 public:
  explicit Thread(MpiSession& session)
      : session_(&session),
        channel_(session.state(), [progress = session.state().progress.get()] { return state_of(*progress); }),
        thread_([this] { run(); }) {}
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
  ~Thread() {
    {
      const std::scoped_lock lock(mutex_);
      ending_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

 private:
  /// Sleeps; false when the watchdog is to end.
  bool rest(Seconds time) {
    std::unique_lock lock(mutex_);
    return !wake_.wait_for(lock, time, [&] { return ending_; });
  }

  /// The call that has not moved for `seconds`, if any.
  std::optional<HeldUpCall> stuck(double seconds) {
    std::optional<HeldUpCall> call;
    session_->state().progress->alone_within(1s, [&] { call = session_->state().progress->held_up(); });
    if (call && call->seconds < seconds) call.reset();
    return call;
  }

  void run() {
    try {
      watch();
    } catch (const std::exception& error) {
      end_run(fmt::format("cannot be watched any more: {}", error.what()));
    }
  }

  void watch() {
    while (rest(Seconds(seconds_ > 0 ? std::min(0.1, seconds_ / 20) : 0.1))) {
      seconds_ = session_->state().progress->patience();
      answer_time_ = std::clamp(seconds_ / 8, 0.25, 5.0);
      if (channel_.claimed()) continue;  // the rank that speaks ends this one
      if (channel_.serve()) {
        unreachable_since_ = Clock::now();
      } else if (seconds_ > 0 && Seconds(Clock::now() - unreachable_since_).count() > seconds_) {
        speak(fmt::format(
            "a call of this rank into MPI has not returned for {:.1f} s; its last one was {} {} of group {}", seconds_,
            last_.operation, last_.number, last_.group));
      }
      std::string failure;
      session_->state().progress->alone_within(1ms, [&] {
        last_ = session_->state().progress->last_call();
        failure = session_->state().progress->failure();
      });
      if (!failure.empty()) speak_after_others(failure);
      // Asks before the time is over, so that it can speak when it is.
      if (seconds_ <= 0) continue;
      if (const auto call = stuck(std::max(seconds_ - 2 * answer_time_, seconds_ / 2))) judge(*call);
    }
  }

  void judge(const HeldUpCall& call) {
    const int rank = session_->world()->rank();
    const RankState own{true, call.group, call.operation, call.number, call.bytes, seconds_, call.peers, ""};
    const auto patience = std::chrono::duration_cast<std::chrono::milliseconds>(Seconds(answer_time_));
    const Diagnosis diagnosis =
        diagnose(rank, own, [&](const std::vector<int>& ranks) { return channel_.ask(ranks, patience); });
    // Who waits directly for the culprit speaks first, of several the lowest rank; the others hear of it and are
    // silent.
    const double turn = seconds_ + 0.3 * std::min(diagnosis.distance - 1, 5) + place_of(rank);
    for (double waited = 0; waited < turn;) {
      if (!rest(20ms)) return;
      channel_.serve();
      if (channel_.claimed()) return;
      const auto now = stuck(0);
      if (!now || now->identity != call.identity || now->number != call.number || now->seconds < waited)
        return;  // it moved
      waited = now->seconds;
    }
    if (has_the_word()) speak(diagnosis.message);
  }

  /// Whether no other rank speaks. Those that begin at the same time hear of each other, and the lowest does.
  bool has_the_word() {
    if (channel_.claimed()) return false;
    channel_.claim();
    for (const auto until = Clock::now() + claims_travel; Clock::now() < until && rest(20ms);) channel_.serve();
    return !channel_.claimed();
  }

  /// Seconds: of ranks that would speak at the same time, the lowest is the first.
  static double place_of(int rank) { return std::min(0.05 * rank, 1.0); }

  /// What failed here may come of another rank's end; that rank knows why it ended.
  void speak_after_others(const std::string& failure) {
    const auto turn = Clock::now() + others_first + Seconds(place_of(session_->world()->rank()));
    while (Clock::now() < turn) {
      if (!rest(20ms)) return;
      channel_.serve();
      if (channel_.claimed()) return;
    }
    if (has_the_word()) end_run(failure);
  }

  void speak(const std::string& message) {
    end_run(fmt::format("{}. The run ends, because --watchdog.seconds is {}", message, seconds_));
  }

  void end_run(const std::string& message) {
    say("lexring: rank {} {}\n", session_->world()->rank(), message);
    session_->end_all(1);
  }

  using Clock = std::chrono::steady_clock;

  MpiSession* session_;
  double seconds_ = 0;
  double answer_time_ = 0;  ///< seconds that other ranks have to answer
  SideChannel channel_;
  LastCall last_;
  Clock::time_point unreachable_since_ = Clock::now();
  std::mutex mutex_;
  std::condition_variable wake_;
  bool ending_ = false;
  std::thread thread_;
};

Watchdog::Watchdog(MpiSession& session, double seconds) {
  session.state().progress->set_patience(seconds);
  if (session.world()->size() > 1 && session.state().threads) thread_ = std::make_unique<Thread>(session);
}

Watchdog::~Watchdog() = default;

}  // namespace lexring
