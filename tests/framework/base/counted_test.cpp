#include "framework/base/counted.h"

#include <cstdint>

#include <gtest/gtest.h>

namespace lexring {
namespace {

TEST(Counted, OneIsNoPlural) {
  EXPECT_EQ(counted(0, "step"), "0 steps");
  EXPECT_EQ(counted(1, "step"), "1 step");
  EXPECT_EQ(counted(2, "step"), "2 steps");
  EXPECT_EQ(counted(-1, "step"), "-1 steps");
  EXPECT_EQ(counted(std::int64_t{11}, "process"), "11 processes");
  EXPECT_EQ(counted(std::size_t{1}, "entry", "entries"), "1 entry");
  EXPECT_EQ(counted(std::size_t{3}, "entry", "entries"), "3 entries");
  EXPECT_EQ(noun(1, "loss"), "loss");
  EXPECT_EQ(noun(21, "loss"), "losses");
}

}  // namespace
}  // namespace lexring
