#include "parallel/mesh.h"

#include <algorithm>
#include <map>

#include <gtest/gtest.h>

#include "framework/base/error.h"
#include "parallel/context.h"

namespace lexring {
namespace {

std::string message_of(int ranks, std::int64_t dp, std::int64_t cp, std::int64_t tp) {
  try {
    make_mesh(ranks, dp, cp, tp);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Mesh, TensorParallelVariesFastestThenContextThenData) {
  const Mesh mesh = make_mesh(24, 2, 3, 4);
  for (int rank = 0; rank < 24; ++rank) {
    EXPECT_EQ(mesh.coordinate(rank, Axis::tp), rank % 4);
    EXPECT_EQ(mesh.coordinate(rank, Axis::cp), rank / 4 % 3);
    EXPECT_EQ(mesh.coordinate(rank, Axis::dp), rank / 12);
  }
  EXPECT_EQ(mesh.describe(), "dp 2 x cp 3 x tp 4");
  EXPECT_EQ(mesh.ranks(), 24);
}

TEST(Mesh, ContextParallelIsRingTimesUlysses) {
  const Mesh mesh = make_mesh(8, 1, 4, 2, 2);
  EXPECT_EQ(mesh.ring(), 2);
  EXPECT_EQ(mesh.describe(), "dp 1 x cp 4 (ring 2 x ulysses 2) x tp 2");
  EXPECT_THROW(make_mesh(8, 1, 4, 2, 3), UsageError);
}

TEST(Mesh, TheTableOfAxesIsInTheOrderOfTheirNumbers) {
  for (std::size_t i = 0; i < axes.size(); ++i) EXPECT_EQ(static_cast<std::size_t>(axes[i]), i);
}

TEST(Mesh, RanksOfAGroupDifferOnItsAxesAlone) {
  const Mesh mesh = make_mesh(24, 2, 3, 4);
  const std::vector<std::vector<Axis>> groups = {{},         {Axis::dp},           {Axis::cp},
                                                 {Axis::tp}, {Axis::dp, Axis::cp}, {Axis::dp, Axis::cp, Axis::tp}};
  for (const auto& within : groups) {
    int size = 1;
    for (const Axis axis : within) size *= mesh.size(axis);
    std::map<int, int> ranks_of;
    for (int rank = 0; rank < 24; ++rank) {
      ++ranks_of[mesh.group_of(rank, within)];
      for (int other = 0; other < 24; ++other) {
        bool same = true;
        for (const Axis axis : axes) {
          if (std::find(within.begin(), within.end(), axis) == within.end())
            same = same && mesh.coordinate(rank, axis) == mesh.coordinate(other, axis);
        }
        EXPECT_EQ(mesh.group_of(rank, within) == mesh.group_of(other, within), same);
      }
    }
    for (const auto& [group, ranks] : ranks_of) EXPECT_EQ(ranks, size) << "group " << group;
    EXPECT_EQ(static_cast<int>(ranks_of.size()), 24 / size);
    EXPECT_EQ(ranks_of.rbegin()->first, 24 / size - 1);
  }
}

TEST(Mesh, DataParallelIsWhatIsLeft) {
  EXPECT_EQ(make_mesh(12, 0, 3, 2).size(Axis::dp), 2);
  EXPECT_EQ(make_mesh(1, 0, 1, 1).ranks(), 1);
}

TEST(Mesh, ErrorsNameKeysValuesAndWhatWouldWork) {
  EXPECT_EQ(message_of(4, 0, 3, 1),
            "mesh.cp = 3 times mesh.tp = 1 does not divide the 4 processes; their product may be 1, 2, 4");
  EXPECT_EQ(message_of(8, 3, 2, 1),
            "mesh.dp = 3 x mesh.cp = 2 x mesh.tp = 1 is not the 8 processes started; use mesh.dp = 4, or start 6");
  EXPECT_NE(message_of(8, -1, 1, 1).find("mesh.dp = -1"), std::string::npos);
  EXPECT_NE(message_of(8, 0, 0, 1).find("mesh.cp = 0"), std::string::npos);
  EXPECT_NE(message_of(8, 0, 1, -4).find("mesh.tp = -4"), std::string::npos);
  for (const std::int64_t size :
       {std::int64_t{1} << 30, std::int64_t{1} << 32, (std::int64_t{1} << 32) + 1}) {  // nor what wraps around
    EXPECT_NE(message_of(8, 0, size, size).find("does not divide"), std::string::npos);
    EXPECT_NE(message_of(8, 0, size, 1).find("does not divide"), std::string::npos);
    EXPECT_NE(message_of(8, size, 1, 1).find("use mesh.dp = 8"), std::string::npos);
  }
}

TEST(Context, OneProcessIsItsOwnGroupOnEveryAxis) {
  const Context context;
  for (const Axis axis : axes) {
    EXPECT_EQ(context.axis(axis).size(), 1);
    EXPECT_EQ(context.axis(axis).rank(), 0);
  }
  EXPECT_EQ(context.world().size(), 1);
  EXPECT_THROW(Context(make_self_communicator(), Mesh{{2, 1, 1}}), Error);
}

TEST(SelfCommunicator, GivesBackWhatItWasGiven) {
  const auto self = make_self_communicator();
  std::vector<float> values = {1, 2};
  self->all_reduce(values, Reduce::sum);
  EXPECT_EQ(values, (std::vector<float>{1, 2}));
  const std::vector<std::byte> bytes = {std::byte{7}};
  EXPECT_EQ(self->all_gather(bytes), (std::vector<std::vector<std::byte>>{bytes}));
  self->barrier();
  EXPECT_EQ(self->split("part", 3)->name(), "part");
  EXPECT_THROW(self->broadcast({}, 1), Error);
  ASSERT_EQ(self->records().size(), 4U);
  EXPECT_EQ(self->records()[0].operation, "all_reduce");
  EXPECT_EQ(self->records()[0].bytes, 0U);  // there is nobody to send to
}

}  // namespace
}  // namespace lexring
