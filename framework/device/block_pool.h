/// Blocks of memory cut from larger segments and put together again: what runtimes keep so that a training step asks
/// the system for nothing.
///
/// A request takes the smallest free block that is large enough, and leaves the rest of it free; a returned block is
/// joined with free neighbours. The system is asked for a quarter more than was ever in use at one time only when
/// segments that nobody uses have gone back, so that phases of a step with blocks of different sizes share memory. Only
/// addresses are computed with: it may be any device's memory.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <utility>

namespace lexring {

/// Not thread-safe.
class BlockPool {
 public:
  struct Source {
    std::function<std::byte*(std::size_t bytes)> take;  ///< nullptr: there is none
    std::function<void(std::byte*, std::size_t bytes)> give_back;
  };

  /// Blocks are multiples of `granule`, segments of `segment` bytes.
  BlockPool(Source source, std::size_t granule, std::size_t segment)
      : source_(std::move(source)), granule_(granule), segment_(segment) {}
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;
  /// All blocks must have come back.
  ~BlockPool() { trim(); }

  /// nullptr where the source has no more.
  std::byte* take(std::size_t bytes);
  void give_back(std::byte* block);
  /// Gives segments that nobody uses back to the source.
  void trim();

  std::size_t size_of(std::size_t bytes) const;  ///< of the block that a request for so many gets
  std::size_t reserved() const { return reserved_; }

 private:
  struct Block {
    std::size_t bytes;
    bool used;
    bool begins;  ///< a segment
  };
  using Blocks = std::map<std::byte*, Block>;

  bool grow(std::size_t bytes);
  bool release_one();
  void insert_free(Blocks::iterator block) { free_.emplace(block->second.bytes, block->first); }
  void erase_free(Blocks::iterator block) { free_.erase({block->second.bytes, block->first}); }

  Source source_;
  std::size_t granule_, segment_;
  Blocks blocks_;                                      ///< all, by address
  std::set<std::pair<std::size_t, std::byte*>> free_;  ///< the smallest first
  std::size_t reserved_ = 0, used_ = 0, most_used_ = 0;
};

}  // namespace lexring
