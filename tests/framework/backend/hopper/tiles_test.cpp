// Where things lie: tiles in shared memory, matrix descriptors, tensor maps, and who computes which tile.
#include <set>

#include <gtest/gtest.h>

#include "framework/backend/cuda/hopper/schedule.h"
#include "framework/backend/cuda/hopper/shared_tile.h"
#include "framework/backend/cuda/hopper/tensor_map.h"
#include "framework/base/error.h"

namespace lexring::cuda::hopper {
namespace {

/// Bytes of elements of a tile of 128 rows and 128 channels, as CuTe has them (CUTLASS 4.2, 2025-09:
/// as_position_independent_swizzle_layout(tile_to_shape(Layout_K_SW128_Atom<bfloat16_t>, 128 x 128)); its
/// Layout_MN_SW128_Atom with panels in the same order gives the same numbers).
TEST(HopperTiles, ElementsLieWhereCuteHasThem) {
  struct Element {
    int row, channel, byte;
  };
  constexpr Element elements[] = {
      {0, 0, 0},        {0, 7, 14},       {0, 8, 16},       {0, 40, 80},      {0, 64, 16384},  {0, 127, 16510},
      {1, 0, 144},      {1, 8, 128},      {1, 40, 192},     {1, 64, 16528},   {1, 127, 16622}, {5, 7, 734},
      {5, 40, 640},     {5, 80, 17136},   {8, 0, 1024},     {8, 40, 1104},    {8, 127, 17534}, {63, 0, 8176},
      {63, 40, 8096},   {63, 80, 24528},  {100, 8, 12880},  {100, 64, 29248}, {127, 0, 16368}, {127, 8, 16352},
      {127, 64, 32752}, {127, 80, 32720}, {127, 127, 32654}};
  for (const Element& e : elements) EXPECT_EQ(tile_offset(128, e.row, e.channel), e.byte) << e.row << " " << e.channel;
}

/// The same source: make_gmma_desc<Major::K> and <Major::MN> of 64 and 128 by 16 operands of such tiles at address 0.
TEST(HopperTiles, DescriptorsAreThoseOfCute) {
  EXPECT_EQ(rows_descriptor(0, 128, 0, 0), 0x4000004000010000U);
  EXPECT_EQ(transposed_descriptor(0, 128, 128, 0), 0x4000004004000000U);
  EXPECT_EQ(transposed_descriptor(0, 128, 64, 0), 0x4000004000000000U);
}

TEST(HopperTiles, DescriptorsFollowTheTile) {
  constexpr std::uint32_t tile = 0x8400;
  // 16 channels are 32 bytes, a panel 16 KiB; 64 rows are 8 KiB.
  EXPECT_EQ(rows_descriptor(tile, 128, 0, 3) - rows_descriptor(tile, 128, 0, 0), 96U >> 4);
  EXPECT_EQ(rows_descriptor(tile, 128, 0, 5) - rows_descriptor(tile, 128, 0, 1), 16384U >> 4);
  EXPECT_EQ(rows_descriptor(tile, 128, 64, 2) - rows_descriptor(tile, 128, 0, 2), 8192U >> 4);
  EXPECT_EQ(rows_descriptor(tile, 128, 0, 0) & 0x3fffU, tile >> 4);
  // 16 rows are 2 KiB.
  EXPECT_EQ(transposed_descriptor(tile, 128, 128, 7) - transposed_descriptor(tile, 128, 128, 0), 7 * 2048U >> 4);
}

TEST(HopperTiles, EightRowsAndEightChunksMeetNoBankTwice) {
  for (int i = 0; i < 64; i += 8) {
    std::set<int> of_rows, of_chunks;
    for (int n = 0; n < 8; ++n) {
      of_rows.insert(tile_offset(64, n, i) % 128 / 16);
      of_chunks.insert(tile_offset(64, i / 8, 8 * n) % 128 / 16);
    }
    EXPECT_EQ(of_rows.size(), 8U);
    EXPECT_EQ(of_chunks.size(), 8U);
  }
}

alignas(16) const bfloat16 element[8] = {};

TEST(HopperTensorMaps, SayBytesAndElements) {
  const TensorMapShape shape = tensor_map_shape({element, 128, 1000, 16, 3072, 128}, 128);
  EXPECT_EQ(shape.data, element);
  EXPECT_EQ(shape.size, (std::array<std::uint64_t, 3>{128, 1000, 16}));
  EXPECT_EQ(shape.strides, (std::array<std::uint64_t, 2>{6144, 256}));
  EXPECT_EQ(shape.box, (std::array<std::uint32_t, 3>{64, 128, 1}));
}

TEST(HopperTensorMaps, RefuseWhatTheCopyEngineCannotReach) {
  EXPECT_THROW(tensor_map_shape({element + 1, 64, 8, 1, 64, 64}, 64), Error);
  EXPECT_THROW(tensor_map_shape({element, 64, 8, 1, 68, 64}, 64), Error);
  EXPECT_THROW(tensor_map_shape({element, 64, 8, 1, 64, 60}, 64), Error);
  EXPECT_THROW(tensor_map_shape({element, 64, 8, 2, 64, std::int64_t{1} << 39}, 64), Error);
  EXPECT_THROW(tensor_map_shape({element, 96, 8, 1, 96, 96}, 64), Error);
  EXPECT_THROW(tensor_map_shape({element, 64, 0, 1, 64, 64}, 64), Error);
  EXPECT_THROW(tensor_map_shape({element, 64, 8, 1, 64, 64}, 257), Error);
}

TEST(HopperSchedule, EveryTaskIsSomebodysOnce) {
  for (const Schedule& s : {Schedule{1, 1, 1}, Schedule{5, 6, 2}, Schedule{7, 3, 3}, Schedule{4, 8, 1}}) {
    for (const int blocks : {1, 2, 5, 132}) {
      std::multiset<std::pair<int, int>> seen;
      for (int block = 0; block < blocks; ++block) {
        for (int round = 0; round * blocks < s.tasks(); ++round) {
          const int n = task_of_round(round, block, blocks);
          if (n >= s.tasks()) continue;
          const Task task = task_at(s, n);
          ASSERT_TRUE(task.tile >= 0 && task.tile < s.tiles && task.head >= 0 && task.head < s.heads);
          seen.insert({task.tile, task.head});
        }
      }
      EXPECT_EQ(seen.size(), static_cast<std::size_t>(s.tasks()));
      EXPECT_EQ(std::set(seen.begin(), seen.end()).size(), seen.size());
    }
  }
}

/// Causal: tile t meets t + 1 tiles of keys. A share of the longest block's over the mean.
double longest_share(const Schedule& s, int blocks) {
  std::int64_t most = 0, all = 0;
  for (int block = 0; block < blocks; ++block) {
    std::int64_t mine = 0;
    for (int round = 0; round * blocks < s.tasks(); ++round)
      if (const int n = task_of_round(round, block, blocks); n < s.tasks()) mine += task_at(s, n).tile + 1;
    most = std::max(most, mine), all += mine;
  }
  return static_cast<double>(most) * blocks / static_cast<double>(all);
}

TEST(HopperSchedule, BlocksHaveAboutTheSameToDo) {
  for (const Schedule& s :
       {Schedule{64, 16, 16}, Schedule{128, 16, 2}, Schedule{256, 16, 1}, Schedule{128, 64, 16}, Schedule{512, 32, 4}})
    EXPECT_LT(longest_share(s, 132), 1.03) << s.tiles << " tiles";
}

TEST(HopperSchedule, HeadsThatAreMetTogetherFitTheCache) {
  EXPECT_EQ(heads_at_once(16384, 128, 16, 1), 2);  // 8 MiB each, and 3 do not divide 16
  EXPECT_EQ(heads_at_once(16384, 128, 64, 8), 16);
  EXPECT_EQ(heads_at_once(1 << 20, 128, 64, 8), 8);
  EXPECT_EQ(heads_at_once(100, 64, 12, 1), 12);
}

}  // namespace
}  // namespace lexring::cuda::hopper
