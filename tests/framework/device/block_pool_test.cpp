// Blocks cut from segments and put together again, checked by where they lie; the memory is made of addresses only.
#include "framework/device/block_pool.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace lexring {
namespace {

/// A system that has `limit` bytes.
class System {
 public:
  explicit System(std::size_t limit = ~std::size_t{0}) : limit_(limit) {}
  BlockPool::Source source() {
    return {[this](std::size_t bytes) -> std::byte* {
              ++asked;
              if (given + bytes > limit_) return nullptr;
              given += bytes;
              next_ += bytes;  // segments touch each other: their blocks must not grow together all the same
              return reinterpret_cast<std::byte*>(next_ - bytes);
            },
            [this](std::byte*, std::size_t bytes) { given -= bytes; }};
  }

  std::size_t given = 0;
  int asked = 0;

 private:
  std::size_t limit_, next_ = 1 << 20;
};

constexpr std::size_t granule = 64, segment = 4096;

TEST(BlockPool, CutsAndJoins) {
  System system;
  BlockPool pool(system.source(), granule, segment);
  std::byte *a = pool.take(1000), *b = pool.take(64), *c = pool.take(2000);
  EXPECT_EQ(system.given, segment);
  EXPECT_EQ(b, a + 1024);
  EXPECT_EQ(c, b + 64);
  pool.give_back(a);
  EXPECT_EQ(pool.take(980), a);
  pool.give_back(a);
  EXPECT_EQ(pool.take(900), c + 2048) << "the smallest that fits";
  pool.give_back(c + 2048);
  EXPECT_EQ(pool.take(980), a);
  pool.give_back(a);
  pool.give_back(c);
  pool.give_back(b);
  EXPECT_EQ(pool.take(segment), a) << "all of it is one block again";
  pool.give_back(a);
  pool.trim();
  EXPECT_EQ(system.given, 0U);
}

TEST(BlockPool, UnusedSegmentsGoBackBeforeTheSystemIsAskedForMoreThanWasEverUsed) {
  System system;
  BlockPool pool(system.source(), granule, segment);
  std::vector<std::byte*> small = {pool.take(2 * segment), pool.take(2 * segment), pool.take(2 * segment)};
  EXPECT_EQ(system.given, 6 * segment);
  for (std::byte* block : small) pool.give_back(block);
  std::byte* large = pool.take(5 * segment);
  EXPECT_EQ(system.given, 7 * segment) << "at most 7.5";
  pool.give_back(large);
}

TEST(BlockPool, SaysWhenThereIsNoMore) {
  System system(10 * segment);
  BlockPool pool(system.source(), granule, segment);
  std::byte *kept = pool.take(4 * segment), *gone = pool.take(5 * segment);
  EXPECT_EQ(pool.take(2 * segment), nullptr);
  pool.give_back(gone);
  EXPECT_NE(gone = pool.take(6 * segment), nullptr) << "what nobody uses goes back first";
  EXPECT_EQ(pool.take(1), nullptr);
  pool.give_back(kept);
  pool.give_back(gone);
}

TEST(BlockPool, BlocksNeverOverlap) {
  std::mt19937_64 random(1);
  System system;
  {
    BlockPool pool(system.source(), granule, segment);
    std::vector<std::pair<std::byte*, std::size_t>> live;
    for (int step = 0; step < 20000; ++step) {
      if (live.empty() || random() % 100 < 52) {
        const std::size_t bytes = random() % (random() % 4 == 0 ? 20000 : 300);
        live.emplace_back(pool.take(bytes), bytes);
      } else {
        std::swap(live[random() % live.size()], live.back());
        pool.give_back(live.back().first);
        live.pop_back();
      }
      if (step % 100 != 0) continue;
      std::sort(live.begin(), live.end());
      for (std::size_t i = 1; i < live.size(); ++i) ASSERT_LE(live[i - 1].first + live[i - 1].second, live[i].first);
    }
    for (const auto& [block, bytes] : live) pool.give_back(block);
  }
  EXPECT_EQ(system.given, 0U);
}

/// A training step asks for the same blocks again and again: after some steps the system is left alone, and little more
/// is reserved than used.
TEST(BlockPool, AStepThatRepeatsAsksTheSystemForNothing) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    struct Operation {
      std::size_t bytes;  // 0: gives back the block of that number
      std::size_t which;
    };
    std::vector<Operation> step;
    std::vector<std::size_t> live;
    std::size_t count = 0, used = 0, most = 0;
    std::vector<std::size_t> sizes;
    const auto end = [&](std::size_t at) {
      step.push_back({0, live[at]});
      used -= sizes[live[at]];
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(at));
    };
    for (int n = 0; n < 200; ++n) {
      if (!live.empty() && random() % 2 == 0) end(random() % 3 == 0 ? random() % live.size() : live.size() - 1);
      sizes.push_back((random() % 40 + 1) * segment * (n < 100 ? 1 : 3) / 2);  // two phases of different sizes
      step.push_back({sizes.back(), count});
      live.push_back(count++);
      used += sizes.back();
      most = std::max(most, used);
    }
    while (!live.empty()) end(live.size() - 1);

    System system;
    BlockPool pool(system.source(), granule, segment);
    for (int repeat = 0; repeat < 8; ++repeat) {
      if (repeat == 4) system.asked = 0;
      std::vector<std::byte*> blocks(count);
      for (const Operation& operation : step) {
        std::byte*& block = blocks[operation.which];
        if (operation.bytes > 0) {
          block = pool.take(operation.bytes);
        } else {
          pool.give_back(block);
        }
      }
    }
    EXPECT_EQ(system.asked, 0) << "seed " << seed;
    EXPECT_LT(static_cast<double>(pool.reserved()), 1.3 * static_cast<double>(most)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace lexring
