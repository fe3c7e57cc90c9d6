// What operations add to kernels: checks, chunks, and where gradients go. Kernels and their backward have tests of
// their own (tests/framework/backend), gradients of all operations together are checked against central differences in
// tests/models.
#include <array>
#include <cmath>

#include <gtest/gtest.h>

#include "framework/ops/attention.h"
#include "framework/ops/embedding.h"
#include "framework/ops/gelu.h"
#include "framework/ops/head_norm.h"
#include "framework/ops/linear.h"
#include "framework/ops/linear_cross_entropy.h"
#include "framework/ops/norm.h"
#include "framework/ops/scale_queries.h"
#include "framework/ops/swiglu.h"
#include "framework/ops/transpose.h"

namespace lexring {
namespace {

class OpsTest : public ::testing::Test {
 protected:
  Tensor tensor(Shape shape, const std::vector<double>& values) {
    return Tensor::from(backend->runtime(), std::move(shape), values);
  }
  /// Smooth values without structure.
  Tensor filled(Shape shape, double seed) {
    std::vector<double> values;
    for (std::int64_t i = 0; i < element_count(shape); ++i)
      values.push_back(std::sin(seed + 1.7 * static_cast<double>(i)));
    return tensor(std::move(shape), values);
  }
  Tensor zeros(Shape shape) {
    Tensor t(backend->runtime(), std::move(shape), Dtype::f64);
    backend->fill(t, 0.0);
    return t;
  }
  std::unique_ptr<Backend> backend = make_reference_backend();
};

TEST_F(OpsTest, LinearRefusesWhatDoesNotFit) {
  Tape tape(*backend, Recording::off);
  const Weight weight{filled({2, 3}, 1), {}};
  EXPECT_THROW(linear(tape, Var(filled({4, 2}, 2)), weight, {}), Error);
  EXPECT_THROW(linear(tape, Var(filled({4, 3}, 2)), weight, {filled({3}, 3), {}}), Error);
}

TEST_F(OpsTest, SwigluWantsAnEvenWidth) {
  Tape tape(*backend, Recording::off);
  EXPECT_THROW(swiglu(tape, Var(filled({4, 3}, 2))), Error);
}

TEST_F(OpsTest, TransposeGoesBothWays) {
  Tape tape(*backend, Recording::on);
  const Var x(tensor({2, 3}, {1, 2, 3, 4, 5, 6}));
  const Var y = transpose(tape, x);
  EXPECT_EQ(y.value().shape(), (Shape{3, 2}));
  EXPECT_EQ(y.value().to_host<double>(), (std::vector<double>{1, 4, 2, 5, 3, 6}));
  y.accumulate(*backend, tensor({3, 2}, {10, 40, 20, 50, 30, 60}));
  tape.backward();
  EXPECT_EQ(x.gradient().to_host<double>(), (std::vector<double>{10, 20, 30, 40, 50, 60}));
}

TEST_F(OpsTest, ABiasOfSomeHeadsGivesGradientsToThese) {
  Tape tape(*backend, Recording::on);
  const BiasTerms all{{1, 2, 3}, Var(tensor({3, 2}, {1, 2, 3, 4, 5, 6})), Var()};
  const BiasTerms one = slice_heads(tape, all, 1, 1);
  EXPECT_EQ(one.slopes, (std::vector<float>{2}));
  EXPECT_EQ(one.by_distance.value().to_host<double>(), (std::vector<double>{3, 4}));
  one.by_distance.accumulate(*backend, tensor({1, 2}, {7, 8}));
  tape.backward();
  EXPECT_EQ(all.by_distance.gradient().to_host<double>(), (std::vector<double>{0, 0, 7, 8, 0, 0}));
}

TEST_F(OpsTest, QueriesAreScaledByRowAndHeadAndTheRestIsNot) {
  AttentionForm form;
  form.heads = 2, form.kv_heads = 1, form.head_width = 2;
  const QueryFactors factors{tensor({2}, {2, 3}), {tensor({2}, {5, 7}), tensor({2}, {100, 200})}};
  for (const bool recomputed : {false, true}) {
    backend->copy(tensor({2}, {100, 200}), factors.by_head.gradient);
    Tape tape(*backend, Recording::on);
    const Var qkv(tensor({2, 8}, {1, 2, 3, 4, 5, 6, 7, 8, 2, 0, 1, 1, 0, 1, 0, 1}));
    const StretchBody body = [&](Tape& inner, const std::vector<Var>& in) {
      return StretchOutputs{{scale_queries(inner, form, factors, in[0])}, Var()};
    };
    const Var scaled = recomputed ? recompute(tape, {qkv}, body).kept[0] : body(tape, {qkv}).kept[0];
    EXPECT_EQ(scaled.value().to_host<double>(),
              (std::vector<double>{10, 20, 42, 56, 5, 6, 7, 8, 30, 0, 21, 21, 0, 1, 0, 1}));
    EXPECT_EQ(tape.keep(scaled)().to_host<double>(), scaled.value().to_host<double>());
    scaled.accumulate(*backend, tensor({2, 8}, {1, 1, 1, 0, 1, 2, 3, 4, 1, 0, 0, 1, 5, 6, 7, 8}));
    tape.backward();
    EXPECT_EQ(qkv.gradient().to_host<double>(),
              (std::vector<double>{10, 10, 14, 0, 1, 2, 3, 4, 15, 0, 0, 21, 5, 6, 7, 8}));
    EXPECT_EQ(factors.by_head.gradient.to_host<double>(), (std::vector<double>{100 + 6 + 6, 200 + 6 + 3}));
  }
}

TEST_F(OpsTest, RowsAreScaledByFactorsOfTheirOwn) {
  Tape tape(*backend, Recording::on);
  const Var x(tensor({2, 3}, {1, 2, 3, 4, 5, 6}));
  EXPECT_THROW(scale_rows(tape, tensor({3}, {1, 1, 1}), x), Error);
  const Var scaled = scale_rows(tape, tensor({2}, {10, 0.5}), x);
  EXPECT_EQ(scaled.value().to_host<double>(), (std::vector<double>{10, 20, 30, 2, 2.5, 3}));
  scaled.accumulate(*backend, tensor({2, 3}, {1, 0, 2, 4, 6, 8}));
  tape.backward();
  EXPECT_EQ(x.gradient().to_host<double>(), (std::vector<double>{10, 0, 20, 2, 3, 4}));
}

/// The norm of heads within fused projections is the norm of each head alone.
TEST_F(OpsTest, HeadsAreNormedOneByOneAndValuesAreNot) {
  AttentionForm form;
  form.heads = 3, form.kv_heads = 2, form.head_width = 4;
  constexpr std::int64_t rows = 5, width = 7 * 4;
  const HeadNorms norms{1e-3, {filled({4}, 1), zeros({4})}, {filled({4}, 2), zeros({4})}};
  const Var qkv(filled({rows, width}, 3));
  const Tensor dy = filled({rows, width}, 4);
  Tape tape(*backend, Recording::on);
  const Var y = head_norms(tape, qkv, norms, form);
  EXPECT_EQ(tape.keep(y)().to_host<double>(), y.value().to_host<double>());
  Tensor given(backend->runtime(), dy.shape(), dy.dtype());
  backend->copy(dy, given);
  y.accumulate(*backend, given);
  tape.backward();

  const std::array<Norm, 2> each = {Norm{NormKind::rmsnorm, 1e-3, {norms.query.value, zeros({4})}, {}},
                                    Norm{NormKind::rmsnorm, 1e-3, {norms.key.value, zeros({4})}, {}}};
  for (std::int64_t head = 0; head < 7; ++head) {
    const auto of_head = [&](const Tensor& all) {
      Tensor part(backend->runtime(), {rows, 4}, Dtype::f64);
      backend->copy({all, head * 4, 4}, part);
      return part;
    };
    Tensor want = of_head(qkv.value()), dwant = of_head(dy);
    if (head < 5) {
      Tape alone(*backend, Recording::on);
      const Var x(want), normed = norm(alone, x, each[head < 3 ? 0 : 1], Dtype::f64);
      normed.accumulate(*backend, dwant);
      alone.backward();
      want = normed.value(), dwant = x.gradient();
    }
    EXPECT_EQ(of_head(y.value()).to_host<double>(), want.to_host<double>()) << head;
    EXPECT_EQ(of_head(qkv.gradient()).to_host<double>(), dwant.to_host<double>()) << head;
  }
  for (const auto& [fused, alone] : {std::pair(norms.query, each[0].weight), {norms.key, each[1].weight}}) {
    const auto sums = fused.gradient.to_host<double>(), wanted = alone.gradient.to_host<double>();
    for (std::size_t i = 0; i < sums.size(); ++i) EXPECT_NEAR(sums[i], wanted[i], 1e-13);
  }
  EXPECT_THROW(head_norms(tape, Var(filled({rows, width - 4}, 3)), norms, form), Error);
}

TEST_F(OpsTest, AnOutputWithoutGradientIsNoError) {
  Tape tape(*backend, Recording::on);
  const Var x(filled({2, 4}, 1));
  const Var unused = swiglu(tape, x);
  const Var other = gelu(tape, x);
  const Norm layer{NormKind::rmsnorm, 1e-5, {filled({4}, 2), zeros({4})}, {}};
  norm(tape, x, layer, Dtype::f64);
  tape.backward();
  EXPECT_FALSE(x.gradient().defined());
}

TEST_F(OpsTest, EmbeddingAddsTablesAndAConstant) {
  Tape tape(*backend, Recording::on);
  const Tensor index = Tensor::from(backend->runtime(), {3}, std::vector<std::int32_t>{1, 0, 1});
  const Lookup first{index, {tensor({2, 1}, {10, 20}), zeros({2, 1})}};
  const Lookup second{Tensor::from(backend->runtime(), {3}, std::vector<std::int32_t>{0, 1, 2}),
                      {tensor({3, 1}, {1, 2, 3}), zeros({3, 1})}};
  const Var x = embedding(tape, {first, second}, tensor({3, 1}, {0.5, 0.25, 0.125}), Dtype::f64);
  EXPECT_EQ(x.value().to_host<double>(), (std::vector<double>{21.5, 12.25, 23.125}));
  x.accumulate(*backend, tensor({3, 1}, {1, 2, 4}));
  tape.backward();
  EXPECT_EQ(first.table.gradient.to_host<double>(), (std::vector<double>{2, 5}));
  EXPECT_EQ(second.table.gradient.to_host<double>(), (std::vector<double>{1, 2, 4}));
}

TEST_F(OpsTest, AddNormIsAdditionThenNorm) {
  std::vector<std::vector<double>> found;
  for (const bool fused : {true, false}) {
    Tape tape(*backend, Recording::on);
    const Norm layer{NormKind::layernorm, 1e-5, {filled({4}, 2), zeros({4})}, {filled({4}, 3), zeros({4})}};
    const Var x(filled({3, 4}, 4));
    const Var branch(filled({3, 4}, 5));
    if (fused) {
      const NormedSum out = add_norm(tape, x, branch, layer, Dtype::f64);
      out.sum.accumulate(*backend, filled({3, 4}, 6));
      out.y.accumulate(*backend, filled({3, 4}, 7));
      tape.backward();
      found.push_back(out.y.value().to_host<double>());
      EXPECT_EQ(x.gradient().to_host<double>(), branch.gradient().to_host<double>());
      EXPECT_NE(x.gradient().raw(), branch.gradient().raw());
    } else {
      backend->add(branch.value(), x.value());
      const Var y = norm(tape, x, layer, Dtype::f64);
      y.accumulate(*backend, filled({3, 4}, 7));
      x.accumulate(*backend, filled({3, 4}, 6));
      tape.backward();
      found.push_back(y.value().to_host<double>());
    }
    found.push_back(x.gradient().to_host<double>());
    found.push_back(layer.weight.gradient.to_host<double>());
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(found[i], found[i + 3]) << i;
}

TEST_F(OpsTest, ActivationsAndNormsAreMadeAgainRatherThanKept) {
  Tape tape(*backend, Recording::on);
  const Norm layer{NormKind::rmsnorm, 1e-5, {filled({64}, 2), zeros({64})}, {}};
  const Weight weight{filled({1, 64}, 1), zeros({1, 64})};
  const Var x(filled({100, 64}, 3));
  const std::size_t activation = x.value().bytes();
  const std::size_t before = backend->runtime().memory().current;
  const Var out = linear(tape, norm(tape, gelu(tape, x), layer, Dtype::f64), weight, {});
  EXPECT_LT(backend->runtime().memory().current, before + activation / 2);
  out.accumulate(*backend, filled({100, 1}, 4));
  tape.backward();
  EXPECT_TRUE(x.gradient().defined());
}

TEST_F(OpsTest, LossChunksFitTheDevice) {
  EXPECT_EQ(loss_chunk_rows(256, Dtype::f32, DeviceType::cpu), 4096);
  EXPECT_EQ(loss_chunk_rows(100000, Dtype::f32, DeviceType::cpu), 128);
  EXPECT_EQ(loss_chunk_rows(257, Dtype::f32, DeviceType::cpu) % 128, 0);
  EXPECT_EQ(loss_chunk_rows(65536, Dtype::f32, DeviceType::cuda), 2048);
}

TEST_F(OpsTest, LossInChunksEqualsTheWholeAtOnce) {
  constexpr std::int64_t vocab = 3000;
  constexpr std::int64_t width = 2;
  const std::int64_t chunk = loss_chunk_rows(vocab, Dtype::f64, DeviceType::cpu);
  const std::int64_t rows = 2 * chunk + 5;  // three chunks, the last one short
  ASSERT_LT(rows, 1000);
  std::vector<std::int32_t> targets;
  for (std::int64_t i = 0; i < rows; ++i)
    targets.push_back(i % 7 == 0 ? -1 : static_cast<std::int32_t>(i * 37 % vocab));
  const Tensor target = Tensor::from(backend->runtime(), {rows}, targets);
  const Tensor values = filled({vocab, width}, 1);
  const Var h(filled({rows, width}, 2));
  constexpr double scale = 0.01;

  Tape tape(*backend, Recording::on);
  const Weight weight{values, zeros({vocab, width})};
  const Tensor nll = linear_cross_entropy(tape, h, weight, target, scale);
  tape.backward();

  const Tensor logits(backend->runtime(), {rows, vocab}, Dtype::f64);
  const Tensor dlogits(backend->runtime(), {rows, vocab}, Dtype::f64);
  const Tensor expected(backend->runtime(), {rows}, Dtype::f64);
  const Tensor dh(backend->runtime(), {rows, width}, Dtype::f64);
  const Tensor dw = zeros({vocab, width});
  backend->linear(h.value(), values, Tensor(), logits);
  backend->cross_entropy(logits, target, scale, expected, dlogits);
  backend->linear_backward_weight(dlogits, h.value(), dw, Tensor());
  backend->linear_backward_input(dlogits, values, dh);
  EXPECT_EQ(nll.to_host<double>(), expected.to_host<double>());
  EXPECT_EQ(h.gradient().to_host<double>(), dh.to_host<double>());
  const auto ours = weight.gradient.to_host<double>();
  const auto whole = dw.to_host<double>();
  for (std::size_t i = 0; i < whole.size(); ++i) ASSERT_NEAR(ours[i], whole[i], 1e-14);
}

/// Positions with gaps, two documents, two heads that read one key head: by the formula in |n - m|.
TEST_F(OpsTest, AttentionInPartsSeesBothSidesByDistance) {
  AttentionForm form;
  form.heads = 2, form.kv_heads = 1, form.head_width = 4;
  form.scale = 0.5, form.rotary = true;
  form.log_decay = {-0.3, -0.05};
  TokenTable tokens = dense_tokens(1, 7);
  tokens.position = {0, 1, 4, 5, 11, 12, 40};
  const std::vector<std::int64_t> first = {0, 0, 0, 0, 11, 11, 11}, end = {6, 6, 6, 6, 41, 41, 41};
  const RotaryTable turned{filled({7, 2}, 3), filled({7, 2}, 4)};
  const SharedRows keys = make_rows(tokens, turned);
  AttentionParts parts;
  for (const PartPlan& part : both_sides(form, tokens, {first, {}, {}, end}))
    parts.push_back({part.form, make_rows(tokens, turned, part.visible), part.later});
  Tape tape(*backend, Recording::off);
  const Var qkv(filled({7, 16}, 5));
  const auto ours = attention(tape, parts, keys, {}, qkv).value().to_host<double>();

  const auto x = qkv.value().to_host<double>(), c = turned.cosine.to_host<double>(), s = turned.sine.to_host<double>();
  const auto at = [](std::int64_t row, std::int64_t column, std::int64_t width) {
    return static_cast<std::size_t>(row * width + column);
  };
  const auto turn = [&](std::int64_t row, std::int64_t column, std::int64_t pair, bool second) {
    const double x0 = x[at(row, column, 16)], x1 = x[at(row, column + 1, 16)], cosine = c[at(row, pair, 2)],
                 sine = s[at(row, pair, 2)];
    return second ? x1 * cosine + x0 * sine : x0 * cosine - x1 * sine;
  };
  for (std::int64_t n = 0; n < 7; ++n) {
    for (std::int64_t head = 0; head < 2; ++head) {
      double total = 0;
      std::vector<double> sums(4);
      for (std::int64_t m = 0; m < 7; ++m) {
        const auto row = static_cast<std::size_t>(n), key = static_cast<std::size_t>(m);
        if (tokens.position[key] < first[row] || tokens.position[key] >= end[row]) continue;
        const auto distance = static_cast<double>(std::abs(tokens.position[row] - tokens.position[key]));
        double score = 0;
        for (std::int64_t pair = 0; pair < 2; ++pair) {
          double product = 0;
          for (const bool second : {false, true})
            product += turn(n, 4 * head + 2 * pair, pair, second) * turn(m, 8 + 2 * pair, pair, second);
          score += 0.5 * std::exp(form.log_decay[static_cast<std::size_t>(pair)] * distance) * product;
        }
        total += std::exp(score);
        for (std::int64_t e = 0; e < 4; ++e)
          sums[static_cast<std::size_t>(e)] += std::exp(score) * x[at(m, 12 + e, 16)];
      }
      for (std::int64_t e = 0; e < 4; ++e)
        EXPECT_NEAR(ours[at(n, 4 * head + e, 8)], sums[static_cast<std::size_t>(e)] / total, 1e-12) << n << " " << head;
    }
  }
}

TEST_F(OpsTest, LossWithoutRecordingTouchesNoGradient) {
  Tape tape(*backend, Recording::off);
  const Weight weight{filled({5, 2}, 1), zeros({5, 2})};
  const Var h(filled({3, 2}, 2));
  linear_cross_entropy(tape, h, weight, Tensor::from(backend->runtime(), {3}, std::vector<std::int32_t>{0, 1, 2}), 1.0);
  EXPECT_EQ(backend->sum_of_squares(weight.gradient), 0.0);
  EXPECT_FALSE(h.gradient().defined());
}

}  // namespace
}  // namespace lexring
