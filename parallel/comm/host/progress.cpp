#include "parallel/comm/host/progress.h"

#include <sys/prctl.h>

#include <algorithm>

namespace lexring {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Nanoseconds = std::chrono::nanoseconds;
using Seconds = std::chrono::duration<double>;

constexpr Nanoseconds patience_of_callers = 50us;  // before they sleep: a small message takes less
constexpr Nanoseconds patience_with_failed = 30s;  // for their messages: long ones are slow, and some nobody takes

/// How long to leave the processor before the next look.
class Pace {
 public:
  void restart() { moved_ = Clock::now(); }

  Nanoseconds after(bool moved, bool somebody_waits) {
    const auto now = Clock::now();
    if (moved) moved_ = now;
    if (moved) return 0us;
    // A processor that computes is worth more than promptness; one whose owner waits is not.
    const Nanoseconds shortest = somebody_waits ? 20us : 100us;
    return std::clamp<Nanoseconds>((now - moved_) / 8, shortest, 500us);
  }

 private:
  Clock::time_point moved_ = Clock::now();
};

bool truncated(int error) {
  int kind = MPI_SUCCESS;
  return error != MPI_SUCCESS && MPI_Error_class(error, &kind) == MPI_SUCCESS && kind == MPI_ERR_TRUNCATE;
}

}  // namespace

Progress::Progress(Driver driver) {
  if (driver == Driver::thread) thread_ = std::thread([this] { run(); });
}

void Progress::stop() {
  {
    const auto lock = take_turn();
    ending_ = true;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Progress::Lock Progress::take_turn() {
  ++callers_;
  Lock lock(mutex_);
  --callers_;
  return lock;
}

void Progress::start(const std::shared_ptr<Transfer>& transfer) {
  const auto lock = take_turn();
  last_ = {transfer->group().name, transfer->call().operation, transfer->call().number};
  transfer->carrier_ = this;
  transfer->moved_ = Clock::now();
  transfer->group().ledger->transfer_began();
  advance(*transfer);
  news_ = true;
  work_.notify_one();
}

void Progress::wait(Transfer& transfer) {
  for (const auto until = Clock::now() + patience_of_callers; !transfer.done() && Clock::now() < until;) {
    auto lock = take_turn();
    const bool moved = look();
    lock.unlock();
    if (!moved) std::this_thread::yield();
  }
  if (!transfer.done()) {
    auto lock = take_turn();
    waiters_.push_back({&transfer, Clock::now()});
    news_ = true;
    work_.notify_one();
    Pace pace;
    while (!transfer.done()) {
      if (thread_.joinable()) {
        done_.wait(lock);
      } else {
        const bool moved = look();
        done_.wait_for(lock, pace.after(moved, true));
      }
    }
    std::erase_if(waiters_, [&](const Waiter& waiter) { return waiter.transfer == &transfer; });
  }
  if (transfer.error_) std::rethrow_exception(transfer.error_);
}

void Progress::run() {
  prctl(PR_SET_TIMERSLACK, 1);  // naps end when they should, not up to 50 us later
  Pace pace;
  Lock lock(mutex_);
  while (!ending_) {
    if (idle()) {
      work_.wait(lock, [&] { return ending_ || !idle(); });
      pace.restart();
    }
    const bool moved = look();
    const auto nap = pace.after(moved, !waiters_.empty());
    if (nap > 0ns) {
      news_ = false;
      if (work_.wait_for(lock, nap, [&] { return ending_ || news_; })) pace.restart();
    } else {
      lock.unlock();
      do std::this_thread::yield();
      while (callers_.load() > 0);
      lock.lock();
    }
  }
}

void Progress::posted(MPI_Request request, Message message) {
  ++message.transfer->outstanding_;
  message.transfer->bytes_ += message.bytes;
  requests_.push_back(request);
  messages_.push_back(std::move(message));
}

void Progress::gate(Gate gate) {
  ++gate.transfer->outstanding_;
  gates_.push_back(std::move(gate));
}

/// They open in their order, so that one question is enough where the first has not. Returns whether any has.
bool Progress::look_at_gates() {
  bool any = false;
  while (!gates_.empty()) {
    std::exception_ptr error;
    try {
      if (!gates_.front().passed()) break;
    } catch (...) {
      error = std::current_exception();
    }
    const auto transfer = std::move(gates_.front().transfer);
    gates_.pop_front();
    --transfer->outstanding_;
    transfer->moved_ = Clock::now();
    if (error) break_off(*transfer, error);
    else advance(*transfer);
    any = true;
  }
  return any;
}

/// One look at all messages. Returns whether any moved.
bool Progress::look() {
  const bool opened = !gates_.empty() && look_at_gates();
  if (requests_.empty()) return opened;
  indices_.resize(requests_.size());
  statuses_.resize(requests_.size());
  int count = 0;
  const auto before = Clock::now();
  const int status =
      MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, indices_.data(), statuses_.data());
  const bool copied = Clock::now() - before > 10us;  // parts of messages, even where it completed none
  if (status == MPI_SUCCESS || status == MPI_ERR_IN_STATUS) {
    for (int i = 0; i < count; ++i) {  // more may be posted meanwhile, behind these
      const MPI_Status& its = statuses_[static_cast<std::size_t>(i)];
      completed(static_cast<std::size_t>(indices_[static_cast<std::size_t>(i)]), its,
                status == MPI_SUCCESS ? MPI_SUCCESS : its.MPI_ERROR);
    }
  } else {
    const auto failed = messages_;
    for (const Message& message : failed) {
      try {
        LEXRING_MPI_CALL(status);
      } catch (...) {
        break_off(*message.transfer, std::current_exception());
      }
    }
  }
  if (!failed_.empty()) give_up_failed();
  forget_completed();
  return count > 0 || copied || opened;
}

void Progress::completed(std::size_t at, const MPI_Status& status, int error) {
  requests_[at] = MPI_REQUEST_NULL;
  const Message message = std::move(messages_[at]);
  Transfer& transfer = *message.transfer;
  --transfer.outstanding_;
  transfer.moved_ = Clock::now();
  if (transfer.error_) {
    if (transfer.outstanding_ == 0) finish(transfer);
    return;
  }
  try {
    check(message, status, error);
    Stage& stage = *transfer.stages_[transfer.next_stage_ - 1];
    if (message.direction == Direction::receive) stage.arrived(transfer, message.id);
    else stage.sent(transfer, message.peer);
    advance(transfer);
  } catch (...) {
    break_off(transfer, std::current_exception());
  }
}

void Progress::check(const Message& message, const MPI_Status& status, int error) const {
  const Transfer& transfer = *message.transfer;
  const MpiGroup& group = transfer.group();
  int bytes = 0;
  if (message.direction == Direction::receive) MPI_Get_count(&status, MPI_BYTE, &bytes);
  const bool differs =
      message.direction == Direction::receive && (truncated(error) || static_cast<std::size_t>(bytes) != message.bytes);
  if (differs) {
    fail(
        "group {}, call {} ({}): rank {} sends {} bytes where rank {} expects {}. The ranks disagree on what they "
        "exchange; this is a bug, please report it with the command line",
        group.name, transfer.call().number, transfer.call().operation, message.peer,
        static_cast<std::size_t>(bytes) == message.bytes ? "more" : std::to_string(bytes), group.rank, message.bytes);
  }
  if (error != MPI_SUCCESS)
    mpi_failed("a message", error, transfer.call().operation, static_cast<int>(transfer.call().number));
}

/// Begins the next stage where one has ended. Throws nothing: what fails is kept for who waits.
void Progress::advance(Transfer& transfer) {
  try {
    while (transfer.outstanding_ == 0) {
      if (transfer.next_stage_ == transfer.stages_.size()) return finish(transfer);
      transfer.stages_[transfer.next_stage_++]->begin(transfer);
    }
  } catch (...) {
    break_off(transfer, std::current_exception());
  }
}

void Progress::finish(Transfer& transfer) {
  transfer.stages_.clear();
  transfer.group().ledger->transfer_ended();
  transfer.done_.store(true, std::memory_order_release);
  if (!waiters_.empty()) done_.notify_all();
}

/// Whoever waits is told when the call's messages are over, for then its buffers may go. Receives stay, so that others
/// get rid of what they send.
void Progress::break_off(Transfer& transfer, std::exception_ptr error) {
  if (transfer.error_) return;
  transfer.error_ = std::move(error);
  transfer.failed_ = Clock::now();
  if (transfer.outstanding_ == 0) return finish(transfer);
  failed_.push_back(transfer.shared_from_this());
}

/// Messages that nobody took in all that time, or in the watchdog's, nobody will: the run is ending.
void Progress::give_up_failed() {
  std::erase_if(failed_, [&](const std::shared_ptr<Transfer>& transfer) {
    if (transfer->done()) return true;
    const Nanoseconds failed = Clock::now() - transfer->failed_;
    if (failed < patience_with_failed && !(patience() > 0 && failed > Seconds(patience()))) return false;
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      if (messages_[i].transfer != transfer || requests_[i] == MPI_REQUEST_NULL) continue;
      if (messages_[i].direction == Direction::receive) MPI_Cancel(&requests_[i]);
      MPI_Request_free(&requests_[i]);
    }
    finish(*transfer);
    return true;
  });
}

void Progress::forget_completed() {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    if (kept != i) {
      requests_[kept] = requests_[i];
      messages_[kept] = std::move(messages_[i]);
    }
    ++kept;
  }
  requests_.resize(kept);
  messages_.erase(messages_.begin() + static_cast<std::ptrdiff_t>(kept), messages_.end());
}

}  // namespace lexring
