/// A device without a device: memory whose addresses the host cannot read or write (whoever tries crashes), and streams
/// that do their work later, each in its order, at times of their own.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "framework/device/block_pool.h"
#include "framework/device/runtime.h"
#include "parallel/comm/gpu/side_copies.h"

namespace lexring::testing {

/// A point in a stream's order.
class Signal {
 public:
  void set();
  void wait();
  bool passed();
  std::chrono::steady_clock::time_point when();  ///< it passed

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool passed_ = false;
  std::chrono::steady_clock::time_point when_;
};

class FakeStream {
 public:
  FakeStream();
  ~FakeStream();

  void add(std::function<void()> task);
  std::shared_ptr<Signal> record();
  void wait_for(std::shared_ptr<Signal> signal);
  void synchronise() { record()->wait(); }

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool ending_ = false;
  std::minstd_rand random_;
  std::thread thread_;
};

/// Where the bytes of an address of the device really are; addresses of the host as they are.
std::byte* behind(const void* address);
/// Whether the host can touch the device's addresses: for as long as it plays a kernel.
void show_device_memory(bool shown);

/// Says that it is CUDA device `index`. What tensors are given is NaN.
class FakeRuntime final : public Runtime {
 public:
  explicit FakeRuntime(int index = 0) : index_(index) {}
  Device device() const override { return {DeviceType::cuda, index_}; }
  std::shared_ptr<std::byte> allocate(std::size_t bytes) override;
  void copy_from_host(std::byte* to, const std::byte* from, std::size_t bytes) override;
  void copy_to_host(std::byte* to, const std::byte* from, std::size_t bytes) override;
  void copy(std::byte* to, const std::byte* from, std::size_t bytes) override;
  void synchronise() override { stream_.synchronise(); }
  MemoryUse memory() const override { return {}; }
  std::vector<MemoryShare> shares_at_peak() const override { return {}; }
  void reset_peak() override {}
  void trim() override {}

  FakeStream& stream() { return stream_; }

 private:
  int index_;
  std::mutex mutex_;
  BlockPool pool_{{[](std::size_t bytes) { return take(bytes); }, [](std::byte*, std::size_t) {}}, 64, 1 << 20};
  FakeStream stream_;

  static std::byte* take(std::size_t bytes);
};

std::unique_ptr<SideCopies> make_fake_copies(FakeRuntime& runtime);

}  // namespace lexring::testing
