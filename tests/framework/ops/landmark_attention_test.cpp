// Landmark attention in f64 against its formula in plain loops, its gradients against central differences, and what a
// query sees by perturbation.
#include "framework/ops/landmark_attention.h"

#include <cmath>
#include <limits>
#include <set>

#include <gtest/gtest.h>

#include "tests/framework/backend/kernel_testing.h"
#include "tests/support/tolerances.h"

namespace lexring::testing {
namespace {

constexpr std::int64_t heads = 2, width = 4, tokens = 18;
const std::set<std::int64_t> landmarks = {0, 3, 4, 8, 13, 16};  // blocks of 0, 2, 0, 3, 4, 2 and 1 tokens
constexpr std::int64_t second_document = 6;

bool is_landmark(std::int64_t n) { return landmarks.count(n) > 0; }
std::int64_t start(std::int64_t n) { return n < second_document ? 0 : second_document; }
/// Landmarks of its document before a token.
std::int64_t block(std::int64_t n) { return std::distance(landmarks.lower_bound(start(n)), landmarks.lower_bound(n)); }
bool in_document(std::int64_t n, std::int64_t m) { return m <= n && start(n) == start(m); }

struct Problem {
  std::unique_ptr<Backend> owner = make_reference_backend();
  Backend& backend = *owner;
  AttentionForm form;
  ScoreBias bias;
  LandmarkRows queries;
  SharedRows keys;

  Problem() {
    form.heads = form.kv_heads = heads, form.head_width = width, form.scale = 0.5;
    bias.slopes = {0.25F, 0.0625F};
    const TokenTable table = dense_tokens(1, tokens);
    std::vector<std::int64_t> starts;
    for (std::int64_t n = 0; n < tokens; ++n) starts.push_back(start(n));
    queries = make_landmark_rows(table, {}, starts,
                                 std::make_shared<const LandmarkPositions>(LandmarkPositions{
                                     {0, std::vector<std::int64_t>(landmarks.begin(), landmarks.end())}}));
    keys = make_rows(table, {});
  }
  /// q, k and v [tokens, heads * width].
  LandmarkCall call(const std::vector<Values>& x) const {
    const auto in = [&](std::size_t i) { return make(backend, {tokens, heads * width}, Dtype::f64, x[i]); };
    return {form, bias, queries, keys, in(0), in(1), in(2)};
  }
  Values forward(const std::vector<Values>& x) const { return read(landmark_forward(backend, call(x)).output); }
};

std::vector<Values> inputs() {
  std::vector<Values> x;
  for (std::uint64_t i = 0; i < 3; ++i) x.push_back(random_values(tokens * heads * width, 5 + i));
  return x;
}

/// Mohtashami and Jaggi 2023, section 3.1, from whole rows of scores.
Values by_formula(const Problem& p, const std::vector<Values>& x) {
  Values output(static_cast<std::size_t>(tokens * heads * width));
  for (std::int64_t h = 0; h < heads; ++h) {
    const auto at = [&](std::size_t i, std::int64_t n) {
      return &x[i][static_cast<std::size_t>((n * heads + h) * width)];
    };
    for (std::int64_t n = 0; n < tokens; ++n) {
      const auto exponential = [&](std::int64_t m) {
        double product = 0;
        for (std::int64_t e = 0; e < width; ++e) product += at(0, n)[e] * at(1, m)[e];
        return std::exp(p.form.scale * product -
                        static_cast<double>(p.bias.slopes[static_cast<std::size_t>(h)]) * static_cast<double>(n - m));
      };
      double top = 0;
      for (std::int64_t m = 0; m <= n; ++m)
        if (in_document(n, m) && is_landmark(m) != (block(m) == block(n))) top += exponential(m);
      for (std::int64_t m = 0; m <= n; ++m) {
        if (!in_document(n, m) || is_landmark(m)) continue;
        double weight = exponential(m) / top;
        if (block(m) != block(n)) {
          double gate = 0, group = 0;
          for (std::int64_t other = 0; other <= n; ++other) {
            if (!in_document(n, other) || block(other) != block(m)) continue;
            (is_landmark(other) ? gate : group) += exponential(other);
          }
          weight = gate / top * exponential(m) / group;
        }
        for (std::int64_t e = 0; e < width; ++e)
          output[static_cast<std::size_t>((n * heads + h) * width + e)] += weight * at(2, m)[e];
      }
    }
  }
  return output;
}

TEST(LandmarkAttentionOp, IsTheFormula) {
  const Problem problem;
  EXPECT_LT(relative_error(problem.forward(inputs()), by_formula(problem, inputs())), tolerance::f64_reordered);
}

TEST(LandmarkAttentionOp, GradientsAreThoseOfTheFormula) {
  const Problem problem;
  expect_gradients({[&](const auto& x) { return problem.forward(x); },
                    [&](const auto& x, const Values& doutput) {
                      const LandmarkCall call = problem.call(x);
                      std::vector<Tensor> d;
                      for (int i = 0; i < 3; ++i)
                        d.push_back(make_output(problem.backend, {tokens, heads * width}, Dtype::f64));
                      landmark_backward(problem.backend, call, landmark_forward(problem.backend, call),
                                        make(problem.backend, {tokens, heads * width}, Dtype::f64, doutput),
                                        {d[0], d[1], d[2], {}});
                      return std::vector<Values>{read(d[0]), read(d[1]), read(d[2])};
                    }},
                   inputs());
}

/// Changes one row of keys or of values and says which queries' outputs change.
std::set<std::int64_t> changed_by(const Problem& problem, std::size_t input, std::int64_t row) {
  std::vector<Values> x = inputs();
  const Values before = problem.forward(x);
  for (std::int64_t e = 0; e < heads * width; ++e) x[input][static_cast<std::size_t>(row * heads * width + e)] += 0.5;
  const Values after = problem.forward(x);
  std::set<std::int64_t> changed;
  for (std::size_t i = 0; i < before.size(); ++i)
    if (before[i] != after[i]) changed.insert(static_cast<std::int64_t>(i) / (heads * width));
  return changed;
}

TEST(LandmarkAttentionOp, AQuerySeesWhatItsBlocksAndLandmarksLetIn) {
  const Problem problem;
  for (std::int64_t m = 0; m < tokens; ++m) {
    std::set<std::int64_t> by_key, by_value;
    for (std::int64_t n = m; n < tokens; ++n) {
      if (!in_document(n, m)) continue;
      const bool own = block(n) == block(m);
      if (!is_landmark(m)) by_value.insert(n);
      // Of one key alone the weight is 1 whatever its score.
      if (is_landmark(m) ? !own : n != start(n)) by_key.insert(n);
    }
    EXPECT_EQ(changed_by(problem, 2, m), by_value) << "value " << m;
    EXPECT_EQ(changed_by(problem, 1, m), by_key) << "key " << m;
  }
}

TEST(LandmarkRows, BlocksOfDocumentsAndOfSequencesThatBeganEarlier) {
  const TokenTable table{{{2, 0, 3}, {5, 3, 1}}, {10, 12, 15, 7}};
  const auto positions = std::make_shared<const LandmarkPositions>(LandmarkPositions{{2, {1, 4, 12}}});
  const LandmarkRows rows = make_landmark_rows(table, {}, {2, 2, 2, 0}, positions);
  using Positions = std::vector<std::int64_t>;
  EXPECT_EQ(rows.rounds(), 2);
  EXPECT_EQ(rows.own->visible.first, (Positions{5, 5, 13, 0}));
  EXPECT_EQ(rows.own->visible.end, (Positions{11, 12, 16, 8}));  // the landmark at 12 does not see itself
  const SharedRows keys = make_rows({{{1, 0, 2}, {2, 2, 9}}, {3, 4, 1, 2, 3, 4, 5, 9, 10, 12, 15}}, {});
  const LandmarkRound first = rows.round(0, *keys), second = rows.round(1, *keys);
  EXPECT_EQ(first.query_range.first, 0);
  EXPECT_EQ(first.query_range.count, 3);
  EXPECT_EQ(first.block->visible.first, (Positions{2, 2, 2}));
  EXPECT_EQ(first.block->visible.end, (Positions{4, 4, 4}));
  EXPECT_EQ(first.landmark->visible.first, (Positions{4, 4, 4}));
  EXPECT_EQ(first.landmark->visible.end, (Positions{5, 5, 5}));
  EXPECT_EQ(first.key_range.first, 3);
  EXPECT_EQ(first.keys->tokens.position, (Positions{2, 3, 4}));
  EXPECT_EQ(first.keys->tokens.sequences, (std::vector<TokenTable::Sequence>{{2, 0, 3}}));
  EXPECT_EQ(second.query_range.first, 2);
  EXPECT_EQ(second.block->tokens.position, (Positions{15}));
  EXPECT_EQ(second.block->visible.first, (Positions{5}));
  EXPECT_EQ(second.block->visible.end, (Positions{12}));
  EXPECT_EQ(second.keys->tokens.position, (Positions{5, 9, 10, 12}));
}

}  // namespace
}  // namespace lexring::testing
