/// Copies between a device and host memory, beside the runtime's own work: nobody waits for them. What staging needs of
/// a device.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace lexring {

/// Thread safe: copies in are begun by the thread that moves messages.
class SideCopies {
 public:
  struct Part {
    std::byte* to;
    const std::byte* from;
    std::size_t bytes;
  };

  /// A point in the order of execution.
  class Event {
   public:
    virtual ~Event() = default;
    virtual bool passed() = 0;
  };

  virtual ~SideCopies() = default;

  /// Host memory that copies reach without a detour; at least one byte.
  virtual std::shared_ptr<std::byte> pinned(std::size_t bytes) = 0;
  /// To the host, after all that the runtime was asked for before, beside what it is asked for later. The event: when
  /// they are done.
  virtual std::unique_ptr<Event> out(std::span<const Part> parts) = 0;
  /// To the device, after `before`, beside everything else.
  virtual std::unique_ptr<Event> in(std::span<const Part> parts, const Event& before) = 0;
  /// What the runtime is asked for from now on happens after `event`.
  virtual void let_runtime_wait(const Event& event) = 0;
};

}  // namespace lexring
