// Collectives on the tape against explicit values, and against the definition of their adjoint: over all ranks, with
// values and cotangents that differ from rank to rank, <y, dy> = <x, dx>.
#include <cmath>

#include <gtest/gtest.h>

#include "framework/base/random.h"
#include "framework/tensor/compare.h"
#include "parallel/collectives.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tolerances.h"

namespace lexring {
namespace {

using testing::world;

class TapedCollectives : public ::testing::Test {
 protected:
  /// Element i of rank r's tensor.
  static double draw(int rank, std::uint64_t stream, std::int64_t i) {
    return random_normal(static_cast<std::uint64_t>(rank) + 1, stream, static_cast<std::uint64_t>(i));
  }
  Tensor values(Shape shape, std::uint64_t stream, int rank = world()->rank(), Dtype dtype = Dtype::f64) {
    std::vector<double> drawn;
    for (std::int64_t i = 0; i < element_count(shape); ++i) drawn.push_back(draw(rank, stream, i));
    const Tensor exact = Tensor::from(backend_->runtime(), shape, drawn);
    Tensor cast(backend_->runtime(), std::move(shape), dtype);
    backend_->cast(exact, cast);
    return cast;
  }
  static double dot_over_ranks(const Tensor& a, const Tensor& b) {
    const std::vector<double> x = to_doubles(a), y = to_doubles(b);
    EXPECT_EQ(a.shape(), b.shape());
    std::vector<double> sum = {0};
    for (std::size_t i = 0; i < x.size(); ++i) sum[0] += x[i] * y[i];
    world()->all_reduce(sum, Reduce::sum);
    return sum[0];
  }
  /// Returns y, after the check of its adjoint.
  template <class Op>
  Tensor checked(const Tensor& x_value, const Op& op) {
    Tape tape(*backend_, Recording::on);
    const Var x(x_value);
    const Tensor before = Tensor::from(backend_->runtime(), x_value.shape(), to_doubles(x_value));
    const Var y = op(tape, x);
    EXPECT_EQ(world()->size() == 1, y.value().raw() == x_value.raw())
        << "a group of one costs nothing, others write nothing over";
    const Tensor dy = values(y.value().shape(), 2), kept = values(y.value().shape(), 2);
    y.accumulate(*backend_, dy);
    tape.backward();
    EXPECT_EQ(to_doubles(x_value), to_doubles(before)) << "the input was written to";
    const double left = dot_over_ranks(y.value(), kept), right = dot_over_ranks(x_value, x.gradient());
    EXPECT_NEAR(left, right, tolerance::f64_reordered * (1 + std::abs(left)));
    return y.value();
  }

  std::unique_ptr<Backend> backend_ = make_reference_backend();
};

// Fewer rows than ranks, odd ones, none.
constexpr std::int64_t row_counts[] = {0, 1, 2, 3, 7, 64, 301};

TEST_F(TapedCollectives, GatherRowsBringsEverybodysRows) {
  for (const std::int64_t rows : row_counts) {
    const RowShards shards(*world(), rows);
    const Tensor y = start_gather_rows(values({shards.count(), 5}, 1), shards).wait();
    ASSERT_EQ(y.shape(), (Shape{rows, 5}));
    for (int r = 0; r < world()->size(); ++r) {
      EXPECT_EQ(to_doubles(y.slice(shards.first(r), shards.count(r))), to_doubles(values({shards.count(r), 5}, 1, r)));
    }
  }
}

TEST_F(TapedCollectives, ReduceScatterRowsSumsThisRanksRows) {
  for (const std::int64_t rows : row_counts) {
    const RowShards shards(*world(), rows);
    const Tensor y = start_reduce_scatter_rows(values({rows, 5}, 1), shards).wait();
    ASSERT_EQ(y.shape(), (Shape{shards.count(), 5}));
    std::vector<double> sum(static_cast<std::size_t>(y.elements()));
    for (int r = 0; r < world()->size(); ++r)
      for (std::size_t i = 0; i < sum.size(); ++i)
        sum[i] += draw(r, 1, shards.first() * 5 + static_cast<std::int64_t>(i));
    EXPECT_EQ(to_doubles(y), sum);
  }
}

TEST_F(TapedCollectives, ColumnsToRowsAndBackTransposeTheCut) {
  for (const std::int64_t rows : row_counts) {
    for (const std::int64_t width : {2, 7, 12}) {  // uneven columns, and ranks without any
      const RowShards shards(*world(), rows);
      const auto borders = even_borders(width, world()->size());
      const auto first = borders[static_cast<std::size_t>(world()->rank())];
      const auto own = borders[static_cast<std::size_t>(world()->rank()) + 1] - first;
      // Element (n, w) of the whole matrix is draw(0, 1, n width + w), however it is cut.
      const auto cut = [&](std::int64_t row, std::int64_t row_count, std::int64_t column, std::int64_t columns) {
        std::vector<double> part;
        for (std::int64_t n = row; n < row + row_count; ++n)
          for (std::int64_t w = column; w < column + columns; ++w) part.push_back(draw(0, 1, n * width + w));
        return Tensor::from(backend_->runtime(), {row_count, columns}, part);
      };
      const Tensor by_columns = cut(0, rows, first, own), by_rows = cut(shards.first(), shards.count(), 0, width);
      const Tensor there =
          checked(by_columns, [&](Tape& t, const Var& x) { return columns_to_rows(t, x, shards, width); });
      EXPECT_EQ(there.shape(), by_rows.shape());
      EXPECT_EQ(to_doubles(there), to_doubles(by_rows));
      const Tensor back = checked(by_rows, [&](Tape& t, const Var& x) { return rows_to_columns(t, x, shards); });
      EXPECT_EQ(back.shape(), by_columns.shape());
      EXPECT_EQ(to_doubles(back), to_doubles(by_columns));
    }
  }
}

TEST_F(TapedCollectives, Bf16SumsAreRoundedOnce) {
  const RowShards shards(*world(), 33);
  const std::vector<double> y =
      to_doubles(start_reduce_scatter_rows(values({33, 7}, 1, world()->rank(), Dtype::bf16), shards).wait());
  for (std::size_t i = 0; i < y.size(); ++i) {
    float sum = 0;
    for (int r = 0; r < world()->size(); ++r)
      sum += bfloat16(static_cast<float>(draw(r, 1, shards.first() * 7 + static_cast<std::int64_t>(i))));
    ASSERT_EQ(y[i], static_cast<float>(bfloat16(sum)));
  }
}

TEST_F(TapedCollectives, WhatDoesNotFitIsRefusedBeforeAnythingIsSent) {
  if (world()->size() == 1) return;  // nothing is cut
  const RowShards shards(*world(), 10 * world()->size());
  Tape tape(*backend_, Recording::off);
  const std::uint64_t calls = world()->sequence();
  EXPECT_THROW(static_cast<void>(start_gather_rows(values({9, 2}, 1), shards)), Error);
  EXPECT_THROW(static_cast<void>(start_reduce_scatter_rows(values({9, 2}, 1), shards)), Error);
  EXPECT_THROW(columns_to_rows(tape, Var(values({shards.rows(), 2}, 1)), shards, 10 * world()->size()), Error);
  EXPECT_EQ(world()->sequence(), calls);
}

}  // namespace
}  // namespace lexring
