#include "tests/emulated_cuda/hopper_products.h"

#include <algorithm>
#include <bit>

#include "tests/emulated_cuda/block.h"

namespace lexring::cuda::hopper::emulated {
namespace {

using cuda::emulated::thread_of_block;

constexpr std::uint32_t poison = 0x7fc0dead;  // a NaN

float number(std::uint16_t bits) { return static_cast<float>(std::bit_cast<bfloat16>(bits)); }

struct Descriptor {
  std::uint32_t address, leading, stride;

  explicit Descriptor(std::uint64_t bits) {
    const auto field = [&](int from) { return static_cast<std::uint32_t>(bits >> from & 0x3fffU) << 4; };
    address = field(0), leading = field(16), stride = field(32);
    require(bits >> 62 == 1, "a matrix descriptor of another layout than the 128-byte swizzle");
    require((bits & 0x3fffc000c000c000U) == 0, "a matrix descriptor with a base offset, or bits that have no meaning");
    require((address >> 7 & 7U) == 0, "a matrix descriptor that begins inside the pattern of the swizzle");
  }
};

}  // namespace

TensorCores::TensorCores(const ProxyView& memory, unsigned threads)
    : memory_(memory), warpgroups_(threads / group_threads), threads_(threads) {}

void TensorCores::fence() { threads_[thread_of_block()].fenced = true; }

void TensorCores::start(float* d, int columns, const unsigned* left, std::uint64_t a, std::uint64_t b,
                        bool accumulate) {
  const unsigned thread = thread_of_block(), lane = thread % group_threads;
  require(thread / group_threads < warpgroups_.size(), "wgmma in a warp that is in no whole warpgroup");
  Warpgroup& group = warpgroups_[thread / group_threads];
  Thread& me = threads_[thread];
  require(me.fenced, "wgmma without a wgmma_fence() since registers could last be touched");
  const std::uint64_t number = group.by_thread[lane]++;
  if (number == group.first + group.products.size())
    group.products.push_back({columns, a, b, left != nullptr, accumulate});
  Product& product = group.products[number - group.first];
  require(product.columns == columns && product.a == a && product.b == b && product.registers == (left != nullptr) &&
              product.accumulate == accumulate,
          "threads of a warpgroup start different products");
  product.left[lane] = left;
  const auto [sums, fresh] = me.sums.try_emplace(d);
  if (fresh) {
    sums->second.value.assign(d, d + columns / 2);
    std::fill(d, d + columns / 2, std::bit_cast<float>(poison));
  }
  ++sums->second.products;
  me.open.push_back({number, d});
  if (std::any_of(group.by_thread.begin(), group.by_thread.end(), [&](std::uint64_t n) { return n <= number; })) return;
  group.started = number + 1;
  if (group.computed == number && cuda::emulated::one_in(3)) compute_next(group);
}

void TensorCores::commit() {
  Thread& me = threads_[thread_of_block()];
  me.groups.push_back(std::move(me.open));
  me.open.clear();
}

void TensorCores::wait(int groups) {
  Thread& me = threads_[thread_of_block()];
  me.fenced = false;
  for (; me.groups.size() > static_cast<std::size_t>(groups); me.groups.pop_front())
    for (const Started& started : me.groups.front()) deliver(started);
}

void TensorCores::deliver(const Started& started) {
  const unsigned thread = thread_of_block(), lane = thread % group_threads;
  Warpgroup& group = warpgroups_[thread / group_threads];
  while (group.computed <= started.number) cuda::emulated::wait_for_change(group.computed);
  Product& product = group.products[started.number - group.first];
  Sums& sums = threads_[thread].sums.at(started.d);
  for (std::size_t i = 0; i < sums.value.size(); ++i) {
    require(std::bit_cast<std::uint32_t>(started.d[i]) == poison, "sums of a product are written before it is done");
    const std::size_t row = lane / 32 * 16 + lane % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
    const float x = product.result[row * static_cast<std::size_t>(product.columns) + column];
    sums.value[i] = product.accumulate ? sums.value[i] + x : x;
  }
  if (--sums.products == 0) {
    std::copy(sums.value.begin(), sums.value.end(), started.d);
    threads_[thread].sums.erase(started.d);
  }
  ++product.delivered;
  for (; !group.products.empty() && group.products.front().delivered == group_threads; ++group.first)
    group.products.pop_front();
}

bool TensorCores::go_on() {
  for (Warpgroup& group : warpgroups_) {
    if (group.computed == group.started) continue;
    compute_next(group);
    return true;
  }
  return false;
}

void TensorCores::compute_next(Warpgroup& group) const {
  Product& product = group.products[group.computed - group.first];
  std::array<std::array<float, depth>, rows> a;
  if (product.registers) {
    for (std::size_t thread = 0; thread < group_threads; ++thread) {
      const std::size_t lane = thread % 32, row = thread / 32 * 16 + lane / 4;
      for (std::size_t i = 0; i < 4; ++i) {
        const std::size_t column = lane % 4 * 2 + i / 2 * 8;
        a[row + i % 2 * 8][column] = number(static_cast<std::uint16_t>(product.left[thread][i]));
        a[row + i % 2 * 8][column + 1] = number(static_cast<std::uint16_t>(product.left[thread][i] >> 16));
      }
    }
  } else {
    const Descriptor from(product.a);
    for (std::uint32_t row = 0; row < rows; ++row)
      for (std::uint32_t k = 0; k < depth; ++k)
        a[row][k] = number(
            memory_.read(swizzled_address((from.address + row / 8 * from.stride + row % 8 * 128) + k / 8 * 16))[k % 8]);
  }
  const auto columns = static_cast<std::uint32_t>(product.columns);
  std::vector<float> b(depth * columns);
  const Descriptor from(product.b);
  for (std::uint32_t n = 0; n < columns; ++n) {
    for (std::uint32_t k = 0; k < depth; ++k) {
      const std::uint32_t address =
          product.registers  // transposed
              ? from.address + n / 64 * from.leading + k / 8 * from.stride + k % 8 * 128 + n % 64 / 8 * 16
              : from.address + n / 8 * from.stride + n % 8 * 128 + k / 8 * 16;
      b[k * columns + n] = number(memory_.read(swizzled_address(address))[product.registers ? n % 8 : k % 8]);
    }
  }
  product.result.assign(rows * columns, 0.0F);
  for (std::size_t row = 0; row < rows; ++row) {
    float* const sum = product.result.data() + row * columns;
    for (std::size_t k = 0; k < depth; ++k) {
      const float x = a[row][k];
      const float* const y = b.data() + k * columns;
      for (std::size_t n = 0; n < columns; ++n) sum[n] += x * y[n];
    }
  }
  ++group.computed;
  cuda::emulated::somebody_may_go_on();
}

void TensorCores::ended() const {
  for (const Thread& thread : threads_)
    require(thread.sums.empty(), "a block ends before its products have been waited for");
}

}  // namespace lexring::cuda::hopper::emulated
