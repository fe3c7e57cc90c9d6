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

/// Bytes by purpose, now and at the peak.
class MemoryAccount {
 public:
  using Place = std::size_t;  ///< of a purpose

  Place take(const char* purpose, std::size_t bytes) {
    Place place = 0;
    while (place < shares_.size() && std::strcmp(shares_[place].purpose, purpose) != 0) ++place;
    if (place == shares_.size()) shares_.push_back({purpose, 0});
    shares_[place].bytes += bytes;
    use_.current += bytes;
    if (use_.current > use_.peak) reset_peak();
    return place;
  }
  void give_back(Place place, std::size_t bytes) {
    shares_[place].bytes -= bytes;
    use_.current -= bytes;
  }
  void reset_peak() {
    use_.peak = use_.current;
    at_peak_ = shares_;
  }
  const MemoryUse& use() const { return use_; }
  const std::vector<MemoryShare>& at_peak() const { return at_peak_; }

 private:
  MemoryUse use_;
  std::vector<MemoryShare> shares_, at_peak_;
};

/// Freed blocks by size. A request takes the smallest block that is at most an eighth too large.
class CpuRuntime final : public Runtime {
 public:
  ~CpuRuntime() override { trim(); }

  Device device() const override { return {}; }

  std::shared_ptr<std::byte> allocate(std::size_t bytes) override {
    const std::size_t wanted = std::max<std::size_t>((bytes + alignment - 1) / alignment * alignment, alignment);
    const Block block = take(wanted);
#ifndef NDEBUG
    std::memset(block.memory, 0xff, block.size);
#endif
    return {block.memory, [this, block](std::byte*) { give_back(block); }};
  }

  void copy_from_host(std::byte* to, const std::byte* from, std::size_t bytes) override { copy(to, from, bytes); }
  void copy_to_host(std::byte* to, const std::byte* from, std::size_t bytes) override { copy(to, from, bytes); }
  void copy(std::byte* to, const std::byte* from, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void synchronise() override {}

  MemoryUse memory() const override {
    const std::scoped_lock lock(mutex_);
    return account_.use();
  }
  std::vector<MemoryShare> shares_at_peak() const override {
    const std::scoped_lock lock(mutex_);
    std::vector<MemoryShare> shares = account_.at_peak();
    std::stable_sort(shares.begin(), shares.end(), [](const MemoryShare& a, const MemoryShare& b) { return a.bytes > b.bytes; });
    return shares;
  }
  void reset_peak() override {
    const std::scoped_lock lock(mutex_);
    account_.reset_peak();
  }
  void trim() override {
    const std::scoped_lock lock(mutex_);
    for (auto& [size, block] : free_) std::free(block);
    free_.clear();
  }

 private:
  struct Block {
    std::byte* memory;
    std::size_t size;
    MemoryAccount::Place place;
  };

  Block take(std::size_t wanted) {
    const std::scoped_lock lock(mutex_);
    std::byte* memory = nullptr;
    std::size_t size = wanted;
    if (const auto it = free_.lower_bound(wanted); it != free_.end() && it->first <= wanted + wanted / 8) {
      std::tie(size, memory) = *it;
      free_.erase(it);
    } else {
      memory = static_cast<std::byte*>(std::aligned_alloc(alignment, wanted));
    }
    require(memory != nullptr, "no memory for a tensor of {} MiB; {} MiB are held by tensors. Lower train.micro_batch or train.length, or use "
            "train.recompute = block", wanted >> 20, account_.use().current >> 20);
    return {memory, size, account_.take(MemoryPurpose::current(), size)};
  }

  void give_back(const Block& block) {
    const std::scoped_lock lock(mutex_);
    account_.give_back(block.place, block.size);
    free_.emplace(block.size, block.memory);
  }

  mutable std::mutex mutex_;
  std::multimap<std::size_t, std::byte*> free_;
  MemoryAccount account_;
};

}  // namespace

thread_local const char* MemoryPurpose::current_ = "other";

std::unique_ptr<Runtime> make_cpu_runtime() { return std::make_unique<CpuRuntime>(); }

}  // namespace lexring
