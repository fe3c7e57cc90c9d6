// The emulation of Hopper's instructions: that they compute what they should, and that mistakes show which a GPU would
// answer with wrong numbers, rarely, or not at all.
#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "framework/backend/cuda/hopper/instructions.h"
#include "framework/base/error.h"
#include "tests/framework/backend/kernel_testing.h"

namespace lexring::cuda::hopper {
namespace {

constexpr int left_rows = 64, right_rows = 128, channels = 64, threads = 128;

enum class Mistake {
  none,
  sums_read_early,
  sums_written_early,
  products_not_waited_for,
  no_fence_of_registers,
  other_product_in_one_warp,
  operand_overwritten,
  left_operand_changed,
  store_not_fenced,
  store_fenced_by_another,
  copy_over_unfenced_store,
  barrier_not_fenced,
  copy_not_waited_for,
  bytes_too_many,
  arrivals_too_many,
};

struct Maps {
  TensorMap left, right, other;
};
struct Shared {
  alignas(swizzle_bytes) bfloat16 left[left_rows * channels];
  alignas(swizzle_bytes) bfloat16 right[right_rows * channels];
  TransactionBarrier full[3];  ///< one per copy: who is slow may still wait for the first when the next begins
};

void write_sums(const float (&sums)[16][4], float* out, int columns) {
  const int thread = static_cast<int>(threadIdx.x), row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
  for (int j = 0; j < columns / 8; ++j)
    for (int i = 0; i < 4; ++i) out[(row + i / 2 * 8) * columns + 8 * j + column + i % 2] = sums[j][i];
}

/// out [blocks, 64, 128] = left [64, 64] right [128, 64]^T.
void multiply(const Maps maps, const Mistake mistake, const int first_row, float* out) {
  auto& shared = shared_memory<Shared>();
  const bool one = threadIdx.x == 0;
  int copies = 0;
  const auto copy = [&](bfloat16* to, const TensorMap& map, unsigned bytes) {
    TransactionBarrier& full = shared.full[copies++];
    if (one) {
      barrier_arrive_expecting(full, bytes);
      copy_box(to, map, full, 0, first_row, 0);
    }
    if (mistake != Mistake::copy_not_waited_for) barrier_wait(full, 0);
  };
  if (one) {
    for (TransactionBarrier& full : shared.full) barrier_init(full, 1);
    if (mistake != Mistake::barrier_not_fenced) fence_async_proxy();
  }
  __syncthreads();
  if (mistake == Mistake::copy_over_unfenced_store) {
    store_shared<8>(shared.left + 8 * threadIdx.x, Floats<8>{});
    __syncthreads();
  }
  copy(shared.left, maps.left, left_rows * channels * 2 + (mistake == Mistake::bytes_too_many ? 16 : 0));
  if (mistake == Mistake::copy_not_waited_for) return;
  copy(shared.right, maps.right, right_rows * channels * 2);
  if (mistake == Mistake::arrivals_too_many && one)
    barrier_arrive_expecting(shared.full[2], 16), barrier_arrive(shared.full[2]);
  if (mistake == Mistake::store_not_fenced || mistake == Mistake::store_fenced_by_another) {
    if (threadIdx.x == 5) store_shared<8>(shared.left, Floats<8>{{1, 2, 3, 4, 5, 6, 7, 8}});
    if (mistake == Mistake::store_fenced_by_another && threadIdx.x == 6) fence_async_proxy();
    __syncthreads();
  }
  float sums[16][4];
  if (mistake != Mistake::no_fence_of_registers) wgmma_fence();
  for (int step = 0; step < channels / step_channels; ++step) {
    const bool other = mistake == Mistake::other_product_in_one_warp && threadIdx.x / 32 == 2;
    wgmma_rows(sums, rows_descriptor(shared_address(shared.left), left_rows, 0, other ? 0 : step),
               rows_descriptor(shared_address(shared.right), right_rows, 0, step), step > 0);
  }
  wgmma_commit();
  float* const mine = out + blockIdx.x * left_rows * right_rows;
  if (mistake == Mistake::sums_read_early) write_sums(sums, mine, right_rows);
  if (mistake == Mistake::sums_written_early) sums[3][1] = 0;
  if (mistake == Mistake::operand_overwritten) {
    __syncthreads();  // all have started it
    copy(shared.right, maps.other, right_rows * channels * 2);
  }
  if (mistake == Mistake::products_not_waited_for) return;
  wgmma_wait<0>(sums);
  if (mistake != Mistake::sums_read_early) write_sums(sums, mine, right_rows);
}

/// out [blocks, 64, 64] = 0 + left [64, 128] right [128, 64]: left in registers, right transposed.
void multiply_transposed(const Maps maps, const Mistake mistake, const bfloat16* left, float* out) {
  auto& shared = shared_memory<Shared>();
  if (threadIdx.x == 0) {
    barrier_init(shared.full[0], 1);
    fence_async_proxy();
    barrier_arrive_expecting(shared.full[0], right_rows * channels * 2);
    copy_box(shared.right, maps.right, shared.full[0], 0, 0, 0);
  }
  __syncthreads();
  barrier_wait(shared.full[0], 0);
  const int thread = static_cast<int>(threadIdx.x), row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
  unsigned weights[8][4];
  for (int step = 0; step < 8; ++step)
    for (int i = 0; i < 4; ++i) {
      const bfloat16* const from = left + (row + i % 2 * 8) * right_rows + step * 16 + column + i / 2 * 8;
      weights[step][i] = pack_bfloat16(to_float(from[0]), to_float(from[1]));
    }
  float sums[8][4] = {};
  wgmma_fence();
  for (int step = 0; step < 8; ++step)
    wgmma_weighted(sums, weights[step],
                   transposed_descriptor(shared_address(shared.right), right_rows, channels, step));
  wgmma_commit();
  if (mistake == Mistake::left_operand_changed) weights[2][1] = 0;
  wgmma_wait<0>(sums);
  for (int j = 0; j < 8; ++j)
    for (int i = 0; i < 4; ++i)
      out[(static_cast<int>(blockIdx.x) * left_rows + row + i / 2 * 8) * channels + 8 * j + column + i % 2] =
          sums[j][i];
}

std::vector<bfloat16> random_rows(std::int64_t rows, std::int64_t width, std::uint64_t seed) {
  std::vector<bfloat16> elements;
  for (const double x : testing::random_values(rows * width, seed)) elements.emplace_back(static_cast<float>(x));
  return elements;
}

TensorMap map_of(const std::vector<bfloat16>& rows, int box_rows) {
  return make_tensor_map(tensor_map_shape(
      {rows.data(), channels, static_cast<std::int64_t>(rows.size()) / channels, 1, channels, 0}, box_rows));
}

class HopperEmulation : public ::testing::Test {
 protected:
  static constexpr int blocks = 6;

  std::vector<float> run(Mistake mistake, int first_row = 0) const {
    std::vector<float> out(blocks * left_rows * right_rows, -1);
    launch(Stream{}, dim3(blocks), threads, sizeof(Shared), multiply, maps_, mistake, first_row, out.data());
    return out;
  }
  std::vector<float> run_transposed(Mistake mistake) const {
    std::vector<float> out(blocks * left_rows * channels, -1);
    launch(Stream{}, dim3(blocks), threads, sizeof(Shared), multiply_transposed, maps_, mistake, weights_.data(),
           out.data());
    return out;
  }
  /// Of an entry, with rows beyond the end as zeros.
  float expected(int row, int column, int first_row) const {
    if (row + first_row >= left_rows || column + first_row >= right_rows) return 0;
    float sum = 0;
    for (int c = 0; c < channels; ++c)
      sum += to_float(left_[static_cast<std::size_t>((row + first_row) * channels + c)]) *
             to_float(right_[static_cast<std::size_t>((column + first_row) * channels + c)]);
    return sum;
  }
  /// Blocks whose numbers are right.
  int right_blocks(const std::vector<float>& out, int first_row = 0) const {
    int right = 0;
    for (int block = 0; block < blocks; ++block) {
      bool all = true;
      for (int i = 0; i < left_rows * right_rows; ++i) {
        const float x = out[static_cast<std::size_t>(block * left_rows * right_rows + i)];
        all = all && std::abs(x - expected(i / right_rows, i % right_rows, first_row)) < 1e-4F;
      }
      right += all ? 1 : 0;
    }
    return right;
  }
  std::string error_of(Mistake mistake) const {
    try {
      run(mistake);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  std::vector<bfloat16> left_ = random_rows(left_rows, channels, 1), right_ = random_rows(right_rows, channels, 2),
                        other_ = random_rows(right_rows, channels, 3), weights_ = random_rows(left_rows, right_rows, 4);
  Maps maps_{map_of(left_, left_rows), map_of(right_, right_rows), map_of(other_, right_rows)};
};

TEST_F(HopperEmulation, ProductsOfRowsEqualPlainLoops) { EXPECT_EQ(right_blocks(run(Mistake::none)), blocks); }

TEST_F(HopperEmulation, RowsBeyondTheTensorArriveAsZeros) {
  EXPECT_EQ(right_blocks(run(Mistake::none, 50), 50), blocks);
  EXPECT_EQ(right_blocks(run(Mistake::none, 128), 128), blocks);
}

TEST_F(HopperEmulation, WeightedRowsEqualPlainLoops) {
  const std::vector<float> out = run_transposed(Mistake::none);
  for (int i = 0; i < blocks * left_rows * channels; ++i) {
    float sum = 0;
    for (int m = 0; m < right_rows; ++m)
      sum += to_float(weights_[static_cast<std::size_t>(i / channels % left_rows * right_rows + m)]) *
             to_float(right_[static_cast<std::size_t>(m * channels + i % channels)]);
    ASSERT_NEAR(out[static_cast<std::size_t>(i)], sum, 1e-4F) << i;
  }
}

TEST_F(HopperEmulation, SumsAreNanUntilTheyAreWaitedFor) {
  for (const float x : run(Mistake::sums_read_early)) ASSERT_TRUE(std::isnan(x));
}

TEST_F(HopperEmulation, OperandsAreReadLateInSomeBlocks) {
  const int right = right_blocks(run(Mistake::operand_overwritten));
  EXPECT_TRUE(0 < right && right < blocks) << right;
  EXPECT_NE(run_transposed(Mistake::left_operand_changed), run_transposed(Mistake::none));
}

TEST_F(HopperEmulation, MistakesAreErrors) {
  const std::pair<Mistake, const char*> errors[] = {
      {Mistake::sums_written_early, "sums of a product are written before it is done"},
      {Mistake::products_not_waited_for, "a block ends before its products have been waited for"},
      {Mistake::no_fence_of_registers, "wgmma without a wgmma_fence()"},
      {Mistake::other_product_in_one_warp, "threads of a warpgroup start different products"},
      {Mistake::store_not_fenced,
       "the tensor cores read shared memory that a thread wrote without fence_async_proxy()"},
      {Mistake::store_fenced_by_another,
       "the tensor cores read shared memory that a thread wrote without fence_async_proxy()"},
      {Mistake::copy_over_unfenced_store, "a bulk copy writes over what a thread wrote without fence_async_proxy()"},
      {Mistake::barrier_not_fenced, "a bulk copy reports to a barrier whose initialisation no fence_async_proxy()"},
      {Mistake::copy_not_waited_for, "a block ends before its bulk copies have arrived"},
      {Mistake::bytes_too_many, "wait for others that never come"},
      {Mistake::arrivals_too_many, "more threads arrive at a transaction barrier than the 1 that it is for"}};
  for (const auto& [mistake, message] : errors) {
    const std::string error = error_of(mistake);
    EXPECT_TRUE(error.find(message) != std::string::npos) << static_cast<int>(mistake) << ": " << error;
  }
}

/// Warp 0 says in numbers[i] what warp 1 reads after it has come; `other` is how many warp 1 thinks come.
void hand_over(int* numbers, int other) {
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int i = 0; i < 3; ++i) {
    if (warp == 0) {
      numbers[lane] = 10 * i + 1;
      named_barrier_arrive(1, 64);
      named_barrier_sync(2, 64);
    } else {
      named_barrier_sync(1, other);
      numbers[32 + lane] += numbers[lane];
      named_barrier_arrive(2, 64);
    }
  }
}

TEST_F(HopperEmulation, NamedBarriersWaitForSomeOrArrive) {
  std::vector<int> numbers(64);
  launch(Stream{}, dim3(1), 64, 0, hand_over, numbers.data(), 64);
  EXPECT_EQ(numbers[40], 1 + 11 + 21);
  EXPECT_THROW(launch(Stream{}, dim3(1), 64, 0, hand_over, numbers.data(), 96), Error);
}

template <int registers>
void takes_registers(const int /*nothing*/) {
  if (threadIdx.x < 128) give_registers<24>();
  else take_registers<registers>();
}

TEST_F(HopperEmulation, RegistersAreThoseOfAMultiprocessor) {
  launch(Stream{}, dim3(1), 384, 0, takes_registers<240>, 0);
  EXPECT_THROW(launch(Stream{}, dim3(1), 384, 0, takes_registers<248>, 0), Error);
}

void does_nothing(const int /*nothing*/) {}

TEST_F(HopperEmulation, OnlyKernelsForHopperHaveItsSharedMemory) {
  EXPECT_THROW(launch(Stream{}, dim3(1), 32, 200 << 10, does_nothing, 0), Error);
  EXPECT_THROW(launch(Stream{}, dim3(1), 32, 228 << 10, does_nothing, 0), Error);
}

}  // namespace
}  // namespace lexring::cuda::hopper
