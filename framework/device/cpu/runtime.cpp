#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "framework/device/block_pool.h"
#include "framework/device/memory_account.h"
#include "framework/device/runtime.h"

namespace lexring {
namespace {

constexpr std::size_t alignment = 64;

constexpr std::size_t huge_page = 2 << 20;

/// Whole huge pages, of which the system is asked to make use; nullptr where there are none.
std::byte* map_memory(std::size_t bytes) {
  void* const mapped = mmap(nullptr, bytes + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(mapped);
  const std::size_t ahead = (huge_page - reinterpret_cast<std::uintptr_t>(begin) % huge_page) % huge_page;
  if (ahead > 0) munmap(begin, ahead);
  if (ahead < huge_page) munmap(begin + ahead + bytes, huge_page - ahead);
  madvise(begin + ahead, bytes, MADV_HUGEPAGE);
  return begin + ahead;
}

/// Small blocks lie apart, so that they do not keep large ones from growing together.
class CpuMemory {
 public:
  std::byte* take(std::size_t bytes) { return pool(bytes).take(bytes); }
  void give_back(std::byte* block, std::size_t bytes) { pool(bytes).give_back(block); }
  std::size_t size_of(std::size_t bytes) { return pool(bytes).size_of(bytes); }
  void trim() { small_.trim(), large_.trim(); }

 private:
  static constexpr std::size_t large = 128 << 10;
  static BlockPool::Source source() {
    return {map_memory, [](std::byte* memory, std::size_t bytes) { munmap(memory, bytes); }};
  }
  /// The same of what was asked for as of the block that was made of it.
  BlockPool& pool(std::size_t bytes) { return small_.size_of(bytes) < large ? small_ : large_; }

  BlockPool small_{source(), alignment, huge_page}, large_{source(), alignment, huge_page};
};

/// Of every block its own, so that a sanitizer sees where it ends, and when it is gone.
class WatchedMemory {
 public:
  std::byte* take(std::size_t bytes) { return static_cast<std::byte*>(std::aligned_alloc(alignment, size_of(bytes))); }
  void give_back(std::byte* block, std::size_t /*bytes*/) { std::free(block); }
  std::size_t size_of(std::size_t bytes) {
    return std::max<std::size_t>((bytes + alignment - 1) / alignment * alignment, alignment);
  }
  void trim() {}
};

#ifdef __SANITIZE_ADDRESS__
using Memory = WatchedMemory;
#else
using Memory = CpuMemory;
#endif

class CpuRuntime final : public Runtime {
 public:
  Device device() const override { return {}; }

  std::shared_ptr<std::byte> allocate(std::size_t bytes) override {
    const Block block = take(bytes);
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
    return account_.shares_at_peak();
  }
  void reset_peak() override {
    const std::scoped_lock lock(mutex_);
    account_.reset_peak();
  }
  void trim() override {
    const std::scoped_lock lock(mutex_);
    memory_.trim();
  }

 private:
  struct Block {
    std::byte* memory;
    std::size_t size;
    MemoryAccount::Place place;
  };

  Block take(std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    std::byte* const memory = memory_.take(bytes);
    if (memory == nullptr) account_.no_memory(bytes);
    const std::size_t size = memory_.size_of(bytes);
    return {memory, size, account_.take(MemoryPurpose::current(), size)};
  }

  void give_back(const Block& block) {
    const std::scoped_lock lock(mutex_);
    account_.give_back(block.place, block.size);
    memory_.give_back(block.memory, block.size);
  }

  mutable std::mutex mutex_;
  Memory memory_;
  MemoryAccount account_;
};

}  // namespace

thread_local const char* MemoryPurpose::current_ = "other";

std::unique_ptr<Runtime> make_cpu_runtime() { return std::make_unique<CpuRuntime>(); }

}  // namespace lexring
