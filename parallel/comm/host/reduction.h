/// Reduce-scatter in the order of the ranks, in blocks: however large the slices, staging stays some megabytes.
#pragma once

#include "parallel/comm/fold.h"
#include "parallel/comm/host/staging.h"
#include "parallel/comm/host/transfer.h"

namespace lexring {

/// Every rank sends each other rank its slice, block by block; a block of one's own slice is folded in place when all
/// have come.
class ReductionStage final : public Stage {
 public:
  /// `parts` [size]: this rank's contribution to each rank's slice. Its own part receives the result.
  ReductionStage(std::vector<std::span<std::byte>> parts, Fold fold, StagingPool& pool);
  ~ReductionStage() override;
  void begin(Transfer& transfer) override;
  void arrived(Transfer& transfer, std::size_t block) override;
  void sent(Transfer& transfer, int to) override;

 private:
  void send_block(Transfer& transfer, int to);
  void receive_block(Transfer& transfer, std::size_t block);
  void fold_block(const MpiGroup& group, std::size_t block);
  std::span<std::byte> staged(const MpiGroup& group, int from, std::size_t block, std::size_t bytes) const;

  std::vector<std::span<std::byte>> parts_;
  Fold fold_;
  StagingPool* pool_;
  StagingPool::Memory staging_;
  std::size_t stride_ = 0;           ///< bytes of staging for one rank's part of one block
  std::size_t window_ = 0;           ///< blocks on their way between two ranks
  std::vector<std::size_t> posted_;  ///< [size] blocks sent to a rank so far
  std::vector<int> arrived_;         ///< [window_] how many ranks' parts of a block have come
  std::size_t next_ = 0;             ///< block to be folded
};

}  // namespace lexring
