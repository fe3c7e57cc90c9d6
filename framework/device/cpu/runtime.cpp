#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "framework/base/error.h"
#include "framework/device/runtime.h"

namespace lexring {
namespace {

constexpr std::size_t alignment = 64;

/// Freed blocks by size. A request takes the smallest block that is at most an eighth too large.
class CpuRuntime final : public Runtime {
 public:
  ~CpuRuntime() override { trim(); }

  Device device() const override { return {}; }

  std::shared_ptr<std::byte> allocate(std::size_t bytes) override {
    const std::size_t wanted = std::max<std::size_t>((bytes + alignment - 1) / alignment * alignment, alignment);
    auto [block, size] = take(wanted);
#ifndef NDEBUG
    std::memset(block, 0xff, size);
#endif
    return {block, [this, size = size](std::byte* p) { give_back(p, size); }};
  }

  void copy_from_host(std::byte* to, const std::byte* from, std::size_t bytes) override { copy(to, from, bytes); }
  void copy_to_host(std::byte* to, const std::byte* from, std::size_t bytes) override { copy(to, from, bytes); }
  void copy(std::byte* to, const std::byte* from, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void synchronise() override {}

  MemoryUse memory() const override {
    const std::scoped_lock lock(mutex_);
    return use_;
  }
  void reset_peak() override {
    const std::scoped_lock lock(mutex_);
    use_.peak = use_.current;
  }
  void trim() override {
    const std::scoped_lock lock(mutex_);
    for (auto& [size, block] : free_) std::free(block);
    free_.clear();
  }

 private:
  std::pair<std::byte*, std::size_t> take(std::size_t wanted) {
    const std::scoped_lock lock(mutex_);
    std::byte* block = nullptr;
    std::size_t size = wanted;
    if (const auto it = free_.lower_bound(wanted); it != free_.end() && it->first <= wanted + wanted / 8) {
      std::tie(size, block) = *it;
      free_.erase(it);
    } else {
      block = static_cast<std::byte*>(std::aligned_alloc(alignment, wanted));
    }
    require(block != nullptr, "no memory for a tensor of {} MiB; {} MiB are held by tensors. Lower train.micro_batch or train.length, or use "
            "train.recompute = block", wanted >> 20, use_.current >> 20);
    use_.current += size;
    use_.peak = std::max(use_.peak, use_.current);
    return {block, size};
  }

  void give_back(std::byte* block, std::size_t size) {
    const std::scoped_lock lock(mutex_);
    use_.current -= size;
    free_.emplace(size, block);
  }

  mutable std::mutex mutex_;
  std::multimap<std::size_t, std::byte*> free_;
  MemoryUse use_;
};

}  // namespace

std::unique_ptr<Runtime> make_cpu_runtime() { return std::make_unique<CpuRuntime>(); }

}  // namespace lexring
