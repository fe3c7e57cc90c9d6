#include "framework/base/parallel_for.h"

#include <atomic>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.h"

namespace lexring {
namespace {

using Range = std::pair<std::int64_t, std::int64_t>;

std::vector<Range> ranges_of(std::int64_t begin, std::int64_t end, std::int64_t grain) {
  std::vector<Range> ranges;
  std::mutex mutex;
  parallel_for(begin, end, grain, [&](std::int64_t first, std::int64_t last) {
    const std::scoped_lock lock(mutex);
    ranges.emplace_back(first, last);
  });
  std::sort(ranges.begin(), ranges.end());
  return ranges;
}

TEST(ParallelFor, RangesCoverEverythingOnceAndRespectTheGrain) {
  for (const std::int64_t count : {1, 2, 7, 100, 1001}) {
    for (const std::int64_t grain : {1, 3, 64, 5000}) {
      const auto ranges = ranges_of(-5, -5 + count, grain);
      std::int64_t next = -5;
      for (const auto& [first, last] : ranges) {
        EXPECT_EQ(first, next);
        EXPECT_TRUE(ranges.size() == 1 || last - first >= grain);
        next = last;
      }
      EXPECT_EQ(next, -5 + count);
      EXPECT_LE(static_cast<int>(ranges.size()), parallel_threads());
      EXPECT_EQ(ranges, ranges_of(-5, -5 + count, grain));
    }
  }
  EXPECT_TRUE(ranges_of(3, 3, 1).empty());
  EXPECT_TRUE(ranges_of(4, 3, 1).empty());
}

TEST(ParallelFor, ErrorsAreCarriedOut) {
  EXPECT_THROW(parallel_for(0, 100, 1, [](std::int64_t, std::int64_t) { fail("of a thread"); }), Error);
  std::atomic<int> done = 0;
  EXPECT_THROW(parallel_tasks(10,
                              [&](std::int64_t index) {
                                if (index == 3) fail("of a task");
                                ++done;
                              }),
               Error);
  EXPECT_EQ(done, 9);
}

}  // namespace
}  // namespace lexring
