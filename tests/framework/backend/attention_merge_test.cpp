// Merging states, on the reference and on the tested backend: equal to one block, without overflow, and neutral where a
// state is empty.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "tests/framework/backend/attention_problem.h"
#include "tests/framework/backend/tested_backend.h"
#include "tests/support/tolerances.h"

namespace lexring::testing {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

class AttentionMerge : public ::testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Backend> backend_ =
      std::string(GetParam()) == "reference" ? make_reference_backend() : tested_backend().make();
  Backend& b_ = *backend_;

  Tensor f32(Shape shape, const Values& values) { return make(b_, std::move(shape), Dtype::f32, values); }
  /// Two rows of two heads of width 2; maxima, sums and outputs all per row and head.
  AttentionState state(const Values& output, const Values& maximum, const Values& sum) {
    return {f32({2, 4}, output), f32({2, 2}, maximum), f32({2, 2}, sum)};
  }
};

TEST_P(AttentionMerge, ExtremeMaximaDoNotOverflow) {
  const AttentionState into = state({1, 2, 3, 4, 5, 6, 7, 8}, {1e4, -1e4, 0, 1}, {1, 2, 3, 4});
  const AttentionState from = state({10, 20, 30, 40, 50, 60, 70, 80}, {-1e4, 1e4, 0, 1}, {10, 20, 30, 40});
  b_.attention_merge(from, into);
  EXPECT_EQ(read(into.output), (Values{1, 2, 30, 40, 55, 66, 77, 88}));
  EXPECT_EQ(read(into.maximum), (Values{1e4, 1e4, 0, 1}));
  EXPECT_EQ(read(into.sum), (Values{1, 20, 33, 44}));
}

TEST_P(AttentionMerge, EmptyStatesAreNeutral) {
  const AttentionState into = state({1, 2, 0, 0, 0, 0, 7, 8}, {3, -infinity, -infinity, 1}, {1, 0, 0, 4});
  const AttentionState from = state({0, 0, 30, 40, 0, 0, 70, 80}, {-infinity, 5, -infinity, 1}, {0, 20, 0, 40});
  b_.attention_merge(from, into);
  EXPECT_EQ(read(into.output), (Values{1, 2, 30, 40, 0, 0, 77, 88}));
  EXPECT_EQ(read(into.maximum), (Values{3, 5, -infinity, 1}));
  EXPECT_EQ(read(into.sum), (Values{1, 20, 0, 44}));
}

TEST_P(AttentionMerge, TwoBlocksMergedEqualOne) {
  const std::int64_t n = 37, half = 20, width = 24, heads = 3;
  const TokenTable all = make_table({{0, consecutive(n)}}), early = make_table({{0, consecutive(half)}}),
                   late = make_table({{0, consecutive(n - half, half)}});
  const AttentionSpec spec = make_spec("alibi", heads, heads, width / heads);
  const Visibility visible = make_visibility("holes", 0, all);
  const Tensor q = f32({n, width}, random_values(n * width, 1, 30.0)), k = f32({n, width}, random_values(n * width, 2)),
               v = f32({n, width}, random_values(n * width, 3));
  const auto block = [&](const TokenTable& keys, std::int64_t first, BlockStage stage, const AttentionState& running,
                         const Tensor& o, const Tensor& lse) {
    b_.attention({spec,
                  all,
                  keys,
                  {},
                  {},
                  visible,
                  q,
                  k.slice(first, keys.rows()),
                  v.slice(first, keys.rows()),
                  stage,
                  running,
                  o,
                  lse});
  };
  const auto output = [&] { return make_output(b_, {n, width}, Dtype::f32); };
  const auto statistic = [&] { return make_output(b_, {n, heads}, Dtype::f32); };
  const Tensor whole = output(), whole_lse = statistic();
  block(all, 0, {true, true}, {}, whole, whole_lse);

  const AttentionState a{output(), statistic(), statistic()}, b{output(), statistic(), statistic()};
  block(early, 0, {true, false}, a, {}, {});
  block(late, half, {true, false}, b, {}, {});
  b_.attention_merge(b, a);
  Values merged = read(a.output), lse = read(a.maximum);
  const Values sum = read(a.sum);
  for (std::size_t row = 0; row < sum.size(); ++row) {
    lse[row] += std::log(sum[row]);
    for (std::size_t e = 0; e < 8; ++e) merged[row * 8 + e] = sum[row] == 0 ? 0 : merged[row * 8 + e] / sum[row];
  }
  EXPECT_LT(relative_error(merged, read(whole)), tolerance::f32_attention);
  EXPECT_LT(relative_error(lse, read(whole_lse)), tolerance::f32_attention);
}

/// The reference needs only one of the programs.
std::vector<const char*> backends() {
  std::vector<const char*> names = {tested_backend().name};
  if (std::string(names[0]) == "cpu") names.push_back("reference");
  return names;
}
INSTANTIATE_TEST_SUITE_P(Small, AttentionMerge, ::testing::ValuesIn(backends()),
                         [](const auto& p) { return std::string(p.param); });

}  // namespace
}  // namespace lexring::testing
