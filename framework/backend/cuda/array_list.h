/// Several arrays in one launch: its blocks are dealt out to them, in order.
#pragma once

#include <memory>
#include <vector>

#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"

namespace lexring::cuda {

/// What a kernel needs of one array; items of a kernel derive from it.
struct ArrayItem {
  std::int64_t count = 0;        ///< elements
  std::int64_t first_block = 0;  ///< of the launch
};

/// The array that this block works on, for every thread of it. `found` is shared memory.
template <class Item>
__device__ const Item& item_of_block(const Item* items, int count, int& found) {
  const auto block = static_cast<std::int64_t>(blockIdx.x);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
    if (items[i].first_block <= block && (i + 1 == count || items[i + 1].first_block > block)) found = i;
  }
  __syncthreads();
  return items[found];
}

/// Host side: items gathered, then brought to the device.
template <class Item>
class ArrayList {
 public:
  /// Blocks do up to `of_block` elements each.
  explicit ArrayList(std::int64_t of_block) : of_block_(of_block) {}

  /// An array without elements gets no block.
  void add(Item item) {
    if (item.count == 0) return;
    item.first_block = blocks_;
    blocks_ += ceil_div(item.count, of_block_);
    items_.push_back(item);
  }
  bool empty() const { return items_.empty(); }
  int size() const { return static_cast<int>(items_.size()); }
  dim3 blocks() const { return {static_cast<unsigned>(blocks_)}; }
  std::int64_t block_count() const { return blocks_; }
  std::shared_ptr<std::byte> upload(Runtime& runtime) const {
    auto memory = runtime.allocate(items_.size() * sizeof(Item));
    runtime.copy_from_host(memory.get(), reinterpret_cast<const std::byte*>(items_.data()),
                           items_.size() * sizeof(Item));
    return memory;
  }

 private:
  std::int64_t of_block_, blocks_ = 0;
  std::vector<Item> items_;
};

}  // namespace lexring::cuda
