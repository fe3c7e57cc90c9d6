// The reference's attention: values by hand, gradients against central differences, and blocks against the whole.
#include <cmath>
#include <limits>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/framework/backend/attention_problem.h"
#include "tests/support/tolerances.h"

namespace lexring::testing {
namespace {

std::vector<AttentionProblem> small_problems() {
  const TokenTable dense = make_table({{0, consecutive(9)}, {3, consecutive(5)}});
  const TokenTable gaps = make_table({{1, with_gaps(11, 4, 5)}, {2, clusters({2, 40}, 3)}});
  const TokenTable past = make_table({{0, consecutive(12)}, {1, consecutive(4)}, {7, consecutive(3)}});
  const TokenTable latest = make_table({{0, consecutive(3, 9)}, {2, consecutive(2)}, {7, consecutive(1, 2)}});
  std::vector<AttentionProblem> problems;
  const auto add = [&](const std::string& method, const std::string& pattern, std::int64_t extent, std::int64_t heads,
                       std::int64_t kv_heads, const TokenTable& queries, const TokenTable& keys,
                       const std::string& tables) {
    problems.push_back(make_problem(fmt::format("{}_{}_{}", method, pattern, tables), method, heads, kv_heads, 4,
                                    queries, keys, make_visibility(pattern, extent, queries)));
  };
  add("none", "causal", 0, 2, 2, dense, dense, "dense");
  add("rope", "causal", 0, 2, 1, gaps, gaps, "gaps_grouped");
  add("steep", "causal", 0, 2, 2, gaps, gaps, "gaps");
  add("xpos", "blockwise", 3, 4, 2, dense, dense, "dense_grouped");
  add("alibi", "window", 4, 3, 1, gaps, gaps, "gaps_grouped");
  add("xpos", "sink_window", 3, 2, 2, dense, dense, "dense");
  add("rope", "documents", 4, 2, 2, dense, dense, "dense");
  add("steep", "documents_sinks", 8, 2, 2, gaps, gaps, "gaps");
  add("none", "holes", 0, 2, 2, dense, dense, "dense");
  add("xpos", "causal", 0, 4, 2, latest, past, "cached_grouped");
  add("table", "causal", 0, 4, 2, gaps, gaps, "gaps_grouped");
  add("alibi_table", "sink_window", 3, 2, 2, dense, dense, "dense");
  for (const std::string rule : {"capped", "clamped", "relu"}) {
    add(rule + "_table", "causal", 0, 4, 2, gaps, gaps, "gaps_grouped");
    add(rule + "_alibi", "holes", 0, 2, 2, dense, dense, "dense");
    add(rule, "causal", 0, 4, 2, latest, past, "cached_grouped");
    add(rule + "_gate_fire", "causal", 0, 4, 2, latest, past, "cached_grouped");
  }
  add("fire", "causal", 0, 4, 2, gaps, gaps, "gaps_grouped");
  add("gate", "sink_window", 3, 2, 2, dense, dense, "dense");
  return problems;
}

/// The gradient [rows, 2 H] of both numbers of each term, from that of the term [rows, H].
Values of_both(const Values& gradient, std::int64_t heads) {
  Values both;
  for (auto row = gradient.begin(); row != gradient.end(); row += heads)
    for (int i = 0; i < 2; ++i) both.insert(both.end(), row, row + heads);
  return both;
}

class ReferenceAttention : public ::testing::TestWithParam<AttentionProblem> {
 protected:
  std::unique_ptr<Backend> backend_ = make_reference_backend();
};

TEST_P(ReferenceAttention, GradientsAreCentralDifferences) {
  const AttentionProblem& problem = GetParam();
  const AttentionInputs inputs = random_inputs(problem, 11);
  AttentionProblem moved = problem;
  const bool relu = problem.form.normalizer == Normalizer::relu, gated = !problem.query_terms.empty();
  const auto run = [&](const std::vector<Values>& i, const Values& doutput) {
    if (!problem.by_distance.empty()) moved.by_distance = i[3];
    if (gated) moved.key_terms = i.back();
    if (gated && relu) moved.query_terms = i[i.size() - 2];  // softmax does not see them
    return run_attention(*backend_, Dtype::f64, moved, {i[0], i[1], i[2], doutput});
  };
  std::vector<Values> at = {inputs.q, inputs.k, inputs.v};
  if (!problem.by_distance.empty()) at.push_back(problem.by_distance);
  if (gated && relu) at.push_back(problem.query_terms);
  if (gated) at.push_back(problem.key_terms);
  expect_gradients({[&](const auto& i) { return run(i, inputs.doutput).output; },
                    [&](const auto& i, const Values& g) {
                      const AttentionResult r = run(i, g);
                      std::vector<Values> gradients = {r.dq, r.dk, r.dv};
                      if (!problem.by_distance.empty()) gradients.push_back(r.dby_distance);
                      if (gated && relu) gradients.push_back(of_both(r.dquery_terms, problem.form.heads));
                      if (gated) gradients.push_back(of_both(r.dkey_terms, problem.form.heads));
                      return gradients;
                    }},
                   at);
}

TEST_P(ReferenceAttention, SeveralBlocksEqualOne) {
  const AttentionProblem& problem = GetParam();
  const AttentionInputs inputs = random_inputs(problem, 12);
  const AttentionResult whole = run_attention(*backend_, Dtype::f64, problem, inputs);
  for (const Blocks blocks : {Blocks{1, 2}, Blocks{1, 3}, Blocks{2, 1}, Blocks{3, 2}}) {
    const AttentionResult cut = run_attention(*backend_, Dtype::f64, problem, inputs, blocks);
    EXPECT_LT(relative_error(cut.output, whole.output), tolerance::f64_reordered)
        << blocks.queries << " x " << blocks.keys;
    EXPECT_LT(relative_error(cut.lse, whole.lse), tolerance::f64_reordered) << blocks.queries << " x " << blocks.keys;
    EXPECT_LT(relative_error(cut.dq, whole.dq), tolerance::f64_reordered) << blocks.queries << " x " << blocks.keys;
    EXPECT_LT(relative_error(cut.dk, whole.dk), tolerance::f64_reordered) << blocks.queries << " x " << blocks.keys;
    EXPECT_LT(relative_error(cut.dv, whole.dv), tolerance::f64_reordered) << blocks.queries << " x " << blocks.keys;
    EXPECT_LT(relative_error(cut.dby_distance, whole.dby_distance), tolerance::f64_reordered);
    EXPECT_LT(relative_error(cut.dkey_terms, whole.dkey_terms), tolerance::f64_reordered);
  }
}

INSTANTIATE_TEST_SUITE_P(Problems, ReferenceAttention, ::testing::ValuesIn(small_problems()),
                         [](const auto& parameter) { return parameter.param.name; });

/// Two tokens, one head of width 2, worked out by hand: scores of the second query are s0 (distance 3) and s1 (distance
/// 0).
TEST(ReferenceAttentionByHand, TwoTokens) {
  const auto backend = make_reference_backend();
  AttentionProblem problem =
      make_problem("", "none", 1, 1, 2, make_table({{0, {2, 5}}}), make_table({{0, {2, 5}}}), {{0, 0}, {}, {}, {}});
  const auto expect_second = [&](double s0, double s1) {
    // q and k are the same vectors for both tokens: q = (2, 0), k = (1, 1).
    const AttentionResult r =
        run_attention(*backend, Dtype::f64, problem, {{2, 0, 2, 0}, {1, 1, 1, 1}, {1, 0, 0, 1}, {0, 0, 0, 0}});
    const double w0 = std::exp(s0) / (std::exp(s0) + std::exp(s1));
    EXPECT_LT(relative_error(r.output, {1, 0, w0, 1 - w0}), 1e-6);  // the rotation table holds f32
    EXPECT_NEAR(r.lse[1], std::log(std::exp(s0) + std::exp(s1)), 1e-6);
  };
  const double scale = 1 / std::sqrt(2.0);
  expect_second(2 * scale, 2 * scale);
  problem.slopes = {0.5F};
  expect_second(2 * scale - 1.5, 2 * scale);
  problem.by_distance = {0.25, 0, 0, 0.75};
  expect_second(2 * scale - 0.75, 2 * scale + 0.25);
  problem.by_distance = {0.25, -0.5};  // the last distance's counts on
  expect_second(2 * scale - 2, 2 * scale + 0.25);
  // Log distance 1 + 3 of 1 + 5, times a rate that the threshold does not touch: in the second of two pieces.
  problem.relative = true, problem.slopes.clear();
  problem.by_distance = {2, 0.5, 1, 1.75, 1, 4, 0.5};
  expect_second(2 * scale + 0.5 * std::log(4.0) / (std::log(6.0) + 1e-6) + 1.75, 2 * scale + 1);
  problem.by_distance[5] = 30;  // and now that it does: in the first
  expect_second(2 * scale + 2 * std::log(4.0) / (std::log(31.0) + 1e-6) + 1, 2 * scale + 1);
  problem.relative = false, problem.by_distance.clear();
  problem.query_terms = {-1, 0, -3, 0.25}, problem.key_terms = problem.query_terms;
  expect_second(2 * scale - 3 + 0.25 + 1, 2 * scale);
  problem.query_terms.clear(), problem.key_terms.clear();
  problem.form.rotary = true;
  const double far = scale * 2 * (std::cos(3.0) + std::sin(3.0));  // Re(2 (1 - j) e^(3 j))
  expect_second(far, scale * 2);
  problem.form.log_decay = {-0.2};
  expect_second(far * std::exp(-0.6), scale * 2);
  problem.visible.first = {0, 3};
  expect_second(-1e9, scale * 2);
  problem.visible.sink_begin = {0, 2};
  problem.visible.sink_end = {0, 3};
  expect_second(far * std::exp(-0.6), scale * 2);
}

/// Of a last token, the weights of the tokens before it and of itself, from their scores with the bias -distance / 2.
TEST(ReferenceAttentionByHand, CapClampAndRelu) {
  const auto backend = make_reference_backend();
  const TokenTable tokens = make_table({{0, {0, 1, 3}}});
  AttentionProblem problem = make_problem("", "none", 1, 1, 2, tokens, tokens, make_visibility("causal", 0, tokens));
  problem.form.scale = 1;
  problem.slopes = {0.5F};
  const auto expect_weights = [&](double w0, double w1, double w2) {
    // Products of the last query with the keys: 3, 1, -2. Values: weights of the first two as they are.
    const AttentionResult r = run_attention(*backend, Dtype::f64, problem,
                                            {{0, 0, 0, 0, 1, 0}, {3, 0, 1, 0, -2, 0}, {1, 0, 0, 1, 10, 10}, Values(6)});
    EXPECT_NEAR(r.output[4], w0 + 10 * w2, 1e-12);
    EXPECT_NEAR(r.output[5], w1 + 10 * w2, 1e-12);
  };
  const auto expect_softmax = [&](double s0, double s1, double s2) {
    const double e0 = std::exp(s0), e1 = std::exp(s1), e2 = std::exp(s2), sum = e0 + e1 + e2;
    expect_weights(e0 / sum, e1 / sum, e2 / sum);
  };
  const double never = -std::numeric_limits<double>::infinity();
  expect_softmax(3 - 1.5, 1 - 1, -2);
  problem.form.softcap = 2;
  const double s0 = 2 * std::tanh(1.5) - 1.5, s1 = 2 * std::tanh(0.5) - 1, s2 = 2 * std::tanh(-1.0);
  expect_softmax(s0, s1, s2);
  problem.form.clamp = 0.1;  // the bias counts, and the token itself is always seen
  EXPECT_TRUE(s0 > 0.1 && s1 < 0.1);
  expect_softmax(s0, never, s2);
  problem.form.clamp = 5;
  expect_softmax(never, never, s2);
  problem.form = make_form("relu", 1, 1, 2);
  problem.form.scale = 1;
  expect_weights(1.5, 0, 0);
  problem.slopes = {0.25F};
  expect_weights(3 - 0.75, 1 - 0.5, 0);
  problem.form.clamp = 1;
  expect_weights(3 - 0.75, 0, 0);
}

TEST(ReferenceAttentionByHand, RowsThatSeeNothingAreZero) {
  const auto backend = make_reference_backend();
  const TokenTable tokens = make_table({{0, consecutive(6)}});
  const AttentionProblem problem =
      make_problem("", "xpos", 2, 2, 4, tokens, tokens, make_visibility("holes", 0, tokens));
  const AttentionResult r = run_attention(*backend, Dtype::f64, problem, random_inputs(problem, 1));
  for (const std::size_t row : {1U, 4U}) {
    for (std::size_t i = 0; i < 8; ++i) {
      EXPECT_EQ(r.output[row * 8 + i], 0);
      EXPECT_EQ(r.dq[row * 8 + i], 0);
    }
    EXPECT_EQ(r.lse[row * 2], -std::numeric_limits<double>::infinity());
  }
  for (const double x : r.dk) EXPECT_TRUE(std::isfinite(x));
}

TEST(ReferenceAttentionByHand, ScoreSumsByDistance) {
  const auto backend = make_reference_backend();
  const TokenTable tokens = make_table({{0, {0, 1, 3}}, {4, {7}}});
  AttentionForm form = make_form("none", 2, 1, 2);
  form.scale = 1;
  const Tensor q = make(*backend, {4, 4}, Dtype::f64, {1, 0, 0, 1, 2, 0, 0, 2, 3, 0, 0, 3, 4, 0, 0, 4});
  const Tensor k = make(*backend, {4, 2}, Dtype::f64, {1, 10, 2, 20, 3, 30, 4, 40});
  std::vector<double> sums(3, 0.5);
  std::vector<std::int64_t> counts(3, 1);
  backend->attention_score_sums({form, make_rows(tokens, {}), q, k, sums, counts});
  // Per pair, the sum over both heads of q . k is n (m + 10 m).
  EXPECT_LT(relative_error(sums, {0.5 + 11 * (1 + 4 + 9 + 16), 0.5 + 11 * 2, 0.5 + 11 * 6}), tolerance::f64_reordered);
  EXPECT_EQ(counts, (std::vector<std::int64_t>{9, 3, 3}));
}

TEST(ScoreBiasSums, AreWhatPairsHaveAtEachDistance) {
  const auto backend = make_reference_backend();
  ScoreBias bias{{1.0F / 16, 1.0F / 256}, make(*backend, {2, 2}, Dtype::f64, {1, 2, 3, 4})};
  const std::vector<std::int64_t> counts = {8, 4, 2};  // of both heads
  std::vector<double> sums = {0.5, 0.5, 0.5};
  add_bias(bias, 2, counts, sums);
  const double slopes = 1.0 / 16 + 1.0 / 256;
  EXPECT_EQ(sums, (std::vector<double>{0.5 + 4 * 4, 0.5 + 2 * (6 - slopes), 0.5 + 6 - 2 * slopes}));
}

}  // namespace
}  // namespace lexring::testing
