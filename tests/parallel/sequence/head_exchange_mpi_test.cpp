// Heads for rows: where everything lands, and the adjoint, with unequal rows and another cotangent on every rank.
#include <numeric>

#include <gtest/gtest.h>

#include "parallel/sequence/head_exchange.h"
#include "tests/framework/backend/attention_problem.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tolerances.h"

namespace lexring::testing {
namespace {

double dot(const Values& a, const Values& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

TEST(HeadExchange, IsLinearWithItsAdjointAndBringsAllRowsOfSomeHeads) {
  Communicator& group = *world();
  const auto backend = make_reference_backend();
  const auto ranks = group.size();
  for (const std::int64_t kv_heads : {1, ranks, 2 * ranks}) {
    const AttentionForm form = make_form("none", 2 * ranks, kv_heads, 4);
    const std::int64_t fused = (form.heads + 2 * kv_heads) * 4, width = form.heads * 4;
    std::vector<std::int64_t> borders = {0};
    for (int r = 0; r < ranks; ++r) borders.push_back(borders.back() + (r == 1 ? 0 : 3 + r));  // rank 1 has no rows
    const HeadExchange exchange(group, form, borders);
    EXPECT_EQ(exchange.form().heads, 2);
    EXPECT_EQ(exchange.first_head(), 2 * group.rank());

    const auto own = static_cast<std::size_t>(group.rank());
    const std::int64_t rows = borders[own + 1] - borders[own], all = borders.back();
    const Values whole = random_values(all * fused, 3),
                 x(whole.begin() + borders[own] * fused, whole.begin() + borders[own + 1] * fused);
    Tape tape(*backend, Recording::on);
    const Var qkv(make(*backend, {rows, fused}, Dtype::f64, x));
    const Var heads = exchange.to_heads(tape, qkv);
    const std::int64_t part = (exchange.form().heads + 2 * exchange.form().kv_heads) * 4;
    ASSERT_EQ(heads.value().shape(), (Shape{all, part}));
    const Values y = read(heads.value());
    const std::int64_t key_head = 2 * group.rank() / (form.heads / kv_heads);
    for (std::int64_t n = 0; n < all; ++n) {
      for (std::int64_t e = 0; e < 4; ++e) {
        EXPECT_EQ(y[static_cast<std::size_t>(n * part + e)],
                  whole[static_cast<std::size_t>(n * fused + 2 * group.rank() * 4 + e)]);
        EXPECT_EQ(y[static_cast<std::size_t>(n * part + 8 + e)],
                  whole[static_cast<std::size_t>(n * fused + width + key_head * 4 + e)]);
      }
    }
    const Values dy = random_values(all * part, 50 + static_cast<std::uint64_t>(group.rank()));
    heads.accumulate(*backend, make(*backend, {all, part}, Dtype::f64, dy));
    tape.backward();
    std::vector<double> products = {dot(y, dy), dot(x, read(qkv.gradient()))};
    group.all_reduce(std::span<double>(products), Reduce::sum);
    EXPECT_NEAR(products[0], products[1], tolerance::f64_reordered * 1e3);

    // The way back.
    const Var some(
        make(*backend, {all, 8}, Dtype::f64, random_values(all * 8, 7 + static_cast<std::uint64_t>(group.rank()))));
    const Var back = exchange.to_rows(tape, some);
    const Values dback = random_values(rows * width, 90 + static_cast<std::uint64_t>(group.rank()));
    const Values forward = read(back.value());
    back.accumulate(*backend, make(*backend, {rows, width}, Dtype::f64, dback));
    tape.backward();
    products = {dot(forward, dback), dot(read(some.value()), read(some.gradient()))};
    group.all_reduce(std::span<double>(products), Reduce::sum);
    EXPECT_NEAR(products[0], products[1], tolerance::f64_reordered * 1e3);
  }
}

}  // namespace
}  // namespace lexring::testing
