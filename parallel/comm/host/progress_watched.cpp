// What the watchdog sees of the calls under way.
#include <algorithm>

#include "parallel/comm/host/progress.h"

namespace lexring {

void Progress::watch(WatchedCalls& calls) {
  alone([&] { watched_.push_back(&calls); });
}

void Progress::unwatch(WatchedCalls& calls) {
  alone([&] { std::erase(watched_, &calls); });
}

void Progress::began(LastCall call) {
  alone([&] { last_ = std::move(call); });
}

LastCall Progress::last_call() const {
  for (WatchedCalls* calls : watched_) {
    if (auto behind = calls->behind()) return *behind;
  }
  return last_;
}

std::string Progress::failure() const {
  std::string failure;
  for (WatchedCalls* calls : watched_) {
    if (failure.empty()) failure = calls->failure();
  }
  return failure;
}

/// Of several the one that has been held up longest.
std::optional<HeldUpCall> Progress::held_up() const {
  std::optional<HeldUpCall> longest = waiter_held_up();
  for (WatchedCalls* calls : watched_) {
    auto call = calls->held_up();
    if (call && (!longest || call->seconds > longest->seconds)) longest = std::move(call);
  }
  return longest;
}

std::optional<HeldUpCall> Progress::waiter_held_up() const {
  if (waiters_.empty()) return std::nullopt;
  const Waiter& waiter = waiters_.front();
  const Transfer& transfer = *waiter.transfer;
  // Who waits for its own device is held up by nobody.
  if (std::any_of(gates_.begin(), gates_.end(), [&](const Gate& gate) { return gate.transfer.get() == &transfer; }))
    return std::nullopt;
  const double seconds = std::chrono::duration<double>(Clock::now() - std::max(waiter.since, transfer.moved_)).count();
  HeldUpCall call{
      &transfer, transfer.group().name, transfer.call().operation, transfer.call().number, transfer.bytes_, seconds,
      {}};
  for (const Direction direction : {Direction::receive, Direction::send}) {
    if (!call.peers.empty()) break;
    for (const Message& message : messages_) {
      if (message.transfer.get() == &transfer && message.direction == direction)
        call.peers.push_back(transfer.group().world_ranks[static_cast<std::size_t>(message.peer)]);
    }
  }
  std::sort(call.peers.begin(), call.peers.end());
  call.peers.erase(std::unique(call.peers.begin(), call.peers.end()), call.peers.end());
  return call;
}

}  // namespace lexring
