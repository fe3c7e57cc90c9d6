#include "parallel/comm/host/reduction.h"

#include <algorithm>

namespace lexring {
namespace {

constexpr std::size_t block_bytes = std::size_t{256} << 10;  // folded while it is in the cache
constexpr std::size_t staging_bytes = std::size_t{16} << 20;
constexpr std::size_t longest_window = 8;

/// The last block is shorter than the others, perhaps empty, so that ranks that disagree about a slice disagree about a
/// message.
std::size_t blocks_of(std::span<const std::byte> part) { return part.size() / block_bytes + 1; }

std::span<std::byte> block_of(std::span<std::byte> part, std::size_t block) {
  const std::size_t first = block * block_bytes;
  return part.subspan(first, std::min(block_bytes, part.size() - first));
}

}  // namespace

ReductionStage::ReductionStage(std::vector<std::span<std::byte>> parts, Fold fold, StagingPool& pool)
    : parts_(std::move(parts)), fold_(fold), pool_(&pool), posted_(parts_.size()) {}

ReductionStage::~ReductionStage() { pool_->give_back(std::move(staging_)); }

void ReductionStage::begin(Transfer& transfer) {
  const auto rank = static_cast<std::size_t>(transfer.group().rank);
  const std::size_t others = parts_.size() - 1;
  window_ = std::clamp<std::size_t>(staging_bytes / (block_bytes * others), 2, longest_window);
  const std::size_t own_blocks = std::min(window_, blocks_of(parts_[rank]));
  arrived_.assign(window_, 0);
  stride_ = std::min(parts_[rank].size(), block_bytes);
  staging_ = pool_->take(stride_ * own_blocks * others);
  for (std::size_t block = 0; block < own_blocks; ++block) receive_block(transfer, block);
  for (std::size_t k = 1; k < parts_.size(); ++k) {  // everybody begins with another rank
    const int to = static_cast<int>((rank + k) % parts_.size());
    for (std::size_t i = 0; i < window_; ++i) send_block(transfer, to);
  }
}

void ReductionStage::sent(Transfer& transfer, int to) { send_block(transfer, to); }

void ReductionStage::send_block(Transfer& transfer, int to) {
  const auto part = parts_[static_cast<std::size_t>(to)];
  std::size_t& block = posted_[static_cast<std::size_t>(to)];
  if (block < blocks_of(part)) transfer.send(to, block_of(part, block++));
}

/// Where a rank's part of a block arrives: blocks a window apart share the place.
std::span<std::byte> ReductionStage::staged(const MpiGroup& group, int from, std::size_t block,
                                            std::size_t bytes) const {
  const auto other = static_cast<std::size_t>(from < group.rank ? from : from - 1);
  return {staging_.bytes.get() + ((block % window_) * (parts_.size() - 1) + other) * stride_, bytes};
}

void ReductionStage::receive_block(Transfer& transfer, std::size_t block) {
  const MpiGroup& group = transfer.group();
  const std::size_t bytes = block_of(parts_[static_cast<std::size_t>(group.rank)], block).size();
  for (int k = 1; k < group.size; ++k) {
    const int from = (group.rank + group.size - k) % group.size;
    transfer.receive(from, staged(group, from, block, bytes), block);
  }
}

/// Blocks are folded, and received, in their order: messages of one rank match in the order in which they were posted.
void ReductionStage::arrived(Transfer& transfer, std::size_t block) {
  const MpiGroup& group = transfer.group();
  const std::size_t blocks = blocks_of(parts_[static_cast<std::size_t>(group.rank)]);
  ++arrived_[block % window_];
  while (next_ < blocks && arrived_[next_ % window_] == group.size - 1) {
    fold_block(group, next_);
    arrived_[next_ % window_] = 0;
    if (next_ + window_ < blocks) receive_block(transfer, next_ + window_);
    ++next_;
  }
}

void ReductionStage::fold_block(const MpiGroup& group, std::size_t block) {
  const auto own = block_of(parts_[static_cast<std::size_t>(group.rank)], block);
  std::vector<const std::byte*> parts;
  for (int r = 0; r < group.size; ++r)
    parts.push_back(r == group.rank ? own.data() : staged(group, r, block, own.size()).data());
  fold_(own, parts);
}

}  // namespace lexring
