#include "tests/emulated_cuda/hopper_memory.h"

#include <algorithm>
#include <cstring>

#include "tests/emulated_cuda/block.h"

namespace lexring::cuda {

constexpr std::uint32_t shared_begin = 1024;

unsigned shared_address(const void* pointer) {
  const std::span<std::byte> shared = emulated::shared_memory_of_block();
  const auto* const byte = static_cast<const std::byte*>(pointer);
  require(byte >= shared.data() && byte < shared.data() + shared.size(), "the address of no shared memory");
  return shared_begin + static_cast<unsigned>(byte - shared.data());
}

namespace hopper {
namespace emulated {

using cuda::emulated::somebody_may_go_on;
using cuda::emulated::thread_of_block;

ProxyView::ProxyView(std::span<std::byte> shared)
    : shared_(shared), published_(shared.size(), std::byte{0xff}), open_(shared.size() / 4 + 1) {}

std::size_t ProxyView::place(std::uint32_t address, std::size_t bytes) const {
  require(address >= shared_begin && address - shared_begin + bytes <= shared_.size(),
          "the asynchronous proxy is sent outside the block's shared memory");
  return address - shared_begin;
}

void ProxyView::written(const void* address, std::size_t bytes) {
  const std::size_t first = place(shared_address(address), bytes) / 4;
  for (std::size_t word = first; word < first + bytes / 4; ++word) {
    open_[word] = true;
    words_[thread_of_block()].push_back(word);
  }
}

void ProxyView::fence() {
  for (const std::size_t word : words_[thread_of_block()]) {
    open_[word] = false;
    std::memcpy(published_.data() + 4 * word, shared_.data() + 4 * word, 4);
  }
  words_.erase(thread_of_block());
}

const std::uint16_t* ProxyView::read(std::uint32_t address) const {
  const std::size_t at = place(address, 16);
  require(std::memcmp(shared_.data() + at, published_.data() + at, 16) == 0,
          "the tensor cores read shared memory that a thread wrote without fence_async_proxy() after it");
  return reinterpret_cast<const std::uint16_t*>(published_.data() + at);
}

void ProxyView::write(std::uint32_t address, const void* bytes) {
  const std::size_t at = place(address, 16);
  for (std::size_t word = at / 4; word < at / 4 + 4; ++word)
    require(!open_[word], "a bulk copy writes over what a thread wrote without fence_async_proxy() after it");
  std::memcpy(shared_.data() + at, bytes, 16);
  std::memcpy(published_.data() + at, bytes, 16);
}

Barriers::State& Barriers::of(const TransactionBarrier& barrier) {
  const auto found = states_.find(&barrier);
  require(found != states_.end(), "a transaction barrier that nobody initialised");
  return found->second;
}

void Barriers::init(const TransactionBarrier& barrier, unsigned arrivals) {
  static_cast<void>(shared_address(&barrier));
  require(arrivals > 0 && reinterpret_cast<std::uintptr_t>(&barrier) % 8 == 0,
          "a transaction barrier of {} arrivals at {}", arrivals, static_cast<const void*>(&barrier));
  states_[&barrier] = {.arrivals = arrivals, .initialised_by = thread_of_block()};
}

void Barriers::fence() {
  for (auto& [barrier, state] : states_) state.published = state.published || state.initialised_by == thread_of_block();
}

void Barriers::advance(State& state) {
  if (state.arrived < state.arrivals || state.bytes != 0) return;
  state.arrived = 0;
  ++state.phase;
  somebody_may_go_on();
}

void Barriers::arrive(const TransactionBarrier& barrier, unsigned expected_bytes) {
  State& state = of(barrier);
  require(state.arrived < state.arrivals, "more threads arrive at a transaction barrier than the {} that it is for",
          state.arrivals);
  ++state.arrived;
  state.bytes += expected_bytes;
  require(state.bytes < 1 << 20, "a transaction barrier expects {} bytes; it can count {}", state.bytes, (1 << 20) - 1);
  advance(state);
}

void Barriers::wait(const TransactionBarrier& barrier, unsigned parity) {
  const State& state = of(barrier);
  require(parity <= 1, "a transaction barrier has no parity {}", parity);
  while (state.phase % 2 == parity) cuda::emulated::wait_for_change(state.phase);
}

void Barriers::completed(const TransactionBarrier& barrier, unsigned bytes) {
  State& state = of(barrier);
  require(state.published, "a bulk copy reports to a barrier whose initialisation no fence_async_proxy() followed");
  state.bytes -= bytes;
  advance(state);
}

void Barriers::ended() const {
  for (const auto& [barrier, state] : states_)
    require(state.bytes == 0, "a block ends while a transaction barrier expects {} more bytes", state.bytes);
}

void CopyEngine::start(void* to, const TensorMap& map, const TransactionBarrier& barrier, int channel, int row,
                       int head) {
  require(reinterpret_cast<std::uintptr_t>(&map) % alignof(TensorMap) == 0, "a tensor map at no multiple of {} bytes",
          alignof(TensorMap));
  Copy copy{.to = shared_address(to), .map = {}, .barrier = &barrier, .at = {channel, row, head}};
  std::memcpy(static_cast<void*>(&copy.map), map.bytes, sizeof(copy.map));
  require(copy.to % 1024 == 0, "a bulk copy to {}, no multiple of 1,024 bytes: its swizzle begins elsewhere", copy.to);
  if (cuda::emulated::one_in(3)) carry_out(copy);
  else copies_.push_back(copy);
}

bool CopyEngine::go_on() {
  if (copies_.empty()) return false;
  const Copy newest = copies_.back();
  copies_.pop_back();
  carry_out(newest);
  return true;
}

void CopyEngine::ended() const { require(copies_.empty(), "a block ends before its bulk copies have arrived"); }

void CopyEngine::carry_out(const Copy& copy) {
  const TensorMapShape& map = copy.map;
  constexpr std::int64_t chunk = 8;
  unsigned bytes = 0;
  for (std::int64_t r = 0; r < map.box[1]; ++r) {
    for (std::int64_t x = 0; x < map.box[0]; x += chunk, bytes += 16) {
      bfloat16 elements[chunk] = {};
      const std::int64_t row = copy.at[1] + r, head = copy.at[2];
      const bool inside = row >= 0 && row < static_cast<std::int64_t>(map.size[1]) && head >= 0 &&
                          head < static_cast<std::int64_t>(map.size[2]);
      for (std::int64_t i = 0; i < chunk; ++i) {
        const std::int64_t channel = copy.at[0] + x + i;
        if (!inside || channel < 0 || channel >= static_cast<std::int64_t>(map.size[0])) continue;
        const auto* const begin = reinterpret_cast<const std::byte*>(map.data) +
                                  row * static_cast<std::int64_t>(map.strides[0]) +
                                  head * static_cast<std::int64_t>(map.strides[1]);
        elements[i] = reinterpret_cast<const bfloat16*>(begin)[channel];
      }
      memory_.write(swizzled_address(copy.to + bytes), elements);
    }
  }
  barriers_.completed(*copy.barrier, bytes);
}

}  // namespace emulated

TensorMap make_tensor_map(const TensorMapShape& shape) {
  TensorMap map{};
  static_assert(sizeof(shape) <= sizeof(map.bytes));
  std::memcpy(map.bytes, &shape, sizeof(shape));
  return map;
}

}  // namespace hopper
}  // namespace lexring::cuda
