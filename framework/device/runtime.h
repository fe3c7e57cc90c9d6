/// Where memory lives, and who hands it out.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "framework/device/trace.h"

namespace lexring {

enum class DeviceType { cpu, cuda };

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

struct MemoryUse {
  std::size_t current = 0;  ///< bytes held by live tensors
  std::size_t peak = 0;     ///< most bytes held by live tensors at one time
};

/// Bytes that tensors of one purpose hold.
struct MemoryShare {
  const char* purpose;
  std::size_t bytes;
};

/// Says what tensors are for, to people who ask where memory went: those that this thread allocates until the scope
/// ends. The innermost scope counts. `purpose` is a literal. Also a TraceRange, to people who ask where time went.
class MemoryPurpose {
 public:
  explicit MemoryPurpose(const char* purpose) : outer_(current_), range_(purpose) { current_ = purpose; }
  MemoryPurpose(const MemoryPurpose&) = delete;
  MemoryPurpose& operator=(const MemoryPurpose&) = delete;
  ~MemoryPurpose() { current_ = outer_; }

  static const char* current() { return current_; }

 private:
  static thread_local const char* current_;
  const char* outer_;
  TraceRange range_;
};

/// One device's memory and its order of execution. Work on a device is stream-ordered: what is allocated, copied and
/// computed through one runtime happens in the order of the calls; only `synchronise` waits for it. On the CPU
/// everything has happened on return.
///
/// Ownership: memory belongs to the returned shared_ptr and goes back to the runtime's cache with its last copy; the
/// runtime must outlive all of it. Thread safety: allocate, release and copy_from_host from any thread.
class Runtime {
 public:
  Runtime() = default;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  virtual ~Runtime() = default;

  virtual Device device() const = 0;
  /// `bytes` of memory aligned to 64 bytes. Contents are undefined; in debug builds every element reads as NaN (all
  /// bits set). Throws Error when there is no memory left, naming what was asked for and what is held.
  virtual std::shared_ptr<std::byte> allocate(std::size_t bytes) = 0;
  virtual void copy_from_host(std::byte* to, const std::byte* from, std::size_t bytes) = 0;
  virtual void copy_to_host(std::byte* to, const std::byte* from, std::size_t bytes) = 0;
  /// Device to device, ranges must not overlap.
  virtual void copy(std::byte* to, const std::byte* from, std::size_t bytes) = 0;
  virtual void synchronise() = 0;
  virtual MemoryUse memory() const = 0;
  /// What the peak consisted of, the largest first.
  virtual std::vector<MemoryShare> shares_at_peak() const = 0;
  virtual void reset_peak() = 0;
  /// Gives cached, unused memory back to the system.
  virtual void trim() = 0;
};

/// The CPU's runtime. Freed blocks are kept and reused, so a training step allocates nothing after the first.
std::unique_ptr<Runtime> make_cpu_runtime();

}  // namespace lexring
