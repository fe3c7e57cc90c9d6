// The reference backend against central differences in f64, and against values worked out by hand.
#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

#include "tests/framework/backend/kernel_testing.h"
#include "tests/support/tolerances.h"

namespace lexring::testing {
namespace {

constexpr Dtype f64 = Dtype::f64;

class ReferenceKernels : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> backend_ = make_reference_backend();
  Backend& b_ = *backend_;

  Tensor in(Shape shape, const Values& values) { return make(b_, std::move(shape), f64, values); }
  Tensor out(Shape shape) { return make_output(b_, std::move(shape), f64); }
  Tensor zeros(Shape shape) {
    const auto count = static_cast<std::size_t>(element_count(shape));
    return make(b_, std::move(shape), f64, Values(count, 0.0));
  }
  void expect_norm_gradients(NormKind kind, bool with_delta);
};

TEST_F(ReferenceKernels, PlainOnes) {
  const Tensor x = in({2, 3}, {1, 2, 3, 4, 5, 6}), y = out({2, 3});
  b_.fill(y, 0.5);
  b_.add(x, y);
  EXPECT_EQ(read(y), (Values{1.5, 2.5, 3.5, 4.5, 5.5, 6.5}));
  const Tensor half = make_output(b_, {2, 3}, Dtype::bf16);
  b_.cast(y, half);
  EXPECT_EQ(read(half), read(y));
  EXPECT_EQ(b_.sum_of_squares(x), 91);
  const Tensor packed = out({2, 2});
  b_.copy({x, 1, 2}, packed);
  EXPECT_EQ(read(packed), (Values{2, 3, 5, 6}));
  const Tensor unpacked = in({2, 3}, {7, 7, 7, 7, 7, 7});
  b_.copy(packed, {unpacked, 0, 2});
  EXPECT_EQ(read(unpacked), (Values{2, 3, 7, 5, 6, 7}));
}

TEST_F(ReferenceKernels, QueriesAreScaledByRowAndHead) {
  const Tensor x = in({2, 5}, {1, 2, 3, 4, 9, 5, 6, 7, 8, 9}), by_row = in({2}, {10, 100}), by_head = in({2}, {1, 2}),
               y = out({2, 4});
  b_.scale_queries({x, 0, 4}, by_row, by_head, y);
  EXPECT_EQ(read(y), (Values{10, 20, 60, 80, 500, 600, 1400, 1600}));
  b_.scale_queries({x, 0, 4}, by_row, {}, {x, 0, 4});
  EXPECT_EQ(read(x), (Values{10, 20, 30, 40, 9, 500, 600, 700, 800, 9}));
}

TEST_F(ReferenceKernels, ForgetSumsByHandAndGradient) {
  const Tensor sums = out({2, 4});
  b_.forget_sums(in({2, 2}, {0, 100, std::log(3.0), -50}), in({1, 4}, {-1, 2, 0.5, 0}), sums);
  const double half = std::log(0.5);
  EXPECT_LT(relative_error(read(sums), {-0.5 + half, 2, 0, 0, -0.5 + half + std::log(0.75), -48, 0, 0}),
            tolerance::f64_reordered);
  const auto high = [](const Values& both) {  // the first numbers of 3 rows of 2 heads
    return Values{both[0], both[1], both[4], both[5], both[8], both[9]};
  };
  expect_gradients({[&](const auto& i) {
                      const Tensor y = out({3, 4});
                      b_.forget_sums(in({3, 2}, i[0]), {}, y);
                      return high(read(y));
                    },
                    [&](const auto& i, const Values& g) {
                      const Tensor d = out({3, 2});
                      b_.forget_sums_backward(in({3, 2}, i[0]), in({3, 2}, g), d);
                      return std::vector<Values>{read(d)};
                    }},
                   {random_values(6, 1)});
}

/// A block that weighs e^1 beside a whole of weight 2, one that is not seen, and one without keys.
TEST_F(ReferenceKernels, LandmarksByHand) {
  const double none = -std::numeric_limits<double>::infinity(), nan = std::nan("");
  const AttentionState block{in({3, 2}, {6, 9, nan, nan, nan, nan}), in({3, 1}, {7, none, none}),
                             in({3, 1}, {3, 0, 0})},
      whole{in({3, 2}, {1, 2, 1, 2, 0, 0}), in({3, 1}, {0, 0, none}), in({3, 1}, {2, 2, 0})};
  b_.merge_landmark(block, in({3, 1}, {1, none, 5}), whole);
  const double less = std::exp(-1.0);
  EXPECT_LT(relative_error(read(whole.output), {less + 2, 2 * less + 3, 1, 2, 0, 0}), tolerance::f64_reordered);
  EXPECT_LT(relative_error(read(whole.maximum), {1, 0, 5}), tolerance::f64_reordered);
  EXPECT_LT(relative_error(read(whole.sum), {2 * less + 1, 2, 1}), tolerance::f64_reordered);

  const Tensor block_lse = in({3, 1}, {4, none, none}), landmark_delta = out({3, 1});
  b_.landmark_statistics({in({3, 1}, {8, 8, 8}), in({3, 1}, {3, none, 3}), in({3, 1}, {5, 5, 5}),
                          in({3, 1}, {2, nan, 0}), block_lse, landmark_delta});
  EXPECT_EQ(read(block_lse), (Values{9, 0, 0}));
  EXPECT_EQ(read(landmark_delta), (Values{3, 0, 5}));
}

TEST_F(ReferenceKernels, SoftCapByHandAndGradient) {
  const Tensor x = in({1, 3}, {0, 2, -1e9});
  b_.soft_cap(x, 2);
  EXPECT_LT(relative_error(read(x), {0, 2 * std::tanh(1.0), -2}), tolerance::f64_reordered);
  expect_gradients({[&](const auto& i) {
                      const Tensor y = in({2, 3}, i[0]);
                      b_.soft_cap(y, 0.8);
                      return read(y);
                    },
                    [&](const auto& i, const Values& g) {
                      const Tensor y = in({2, 3}, i[0]), d = in({2, 3}, g);
                      b_.soft_cap(y, 0.8);
                      b_.soft_cap_backward(y, 0.8, d);
                      return std::vector<Values>{read(d)};
                    }},
                   {random_values(6, 1)});
}

TEST_F(ReferenceKernels, EmbeddingWritesOrAccumulates) {
  const Tensor index = Tensor::from<std::int32_t>(b_.runtime(), {3}, {2, 0, 2}), table = in({3, 2}, {1, 2, 3, 4, 5, 6}),
               x = out({3, 2});
  b_.embedding(index, table, x, Write::overwrite);
  EXPECT_EQ(read(x), (Values{5, 6, 1, 2, 5, 6}));
  b_.embedding(index, table, x, Write::accumulate);
  EXPECT_EQ(read(x), (Values{10, 12, 2, 4, 10, 12}));
}

TEST_F(ReferenceKernels, EmbeddingOfNothingIsZero) {
  const Tensor index = Tensor::from<std::int32_t>(b_.runtime(), {3}, {-1, 1, -1}), table = in({2, 2}, {1, 2, 3, 4}),
               x = out({3, 2});
  b_.embedding(index, table, x, Write::overwrite);
  EXPECT_EQ(read(x), (Values{0, 0, 3, 4, 0, 0}));
  b_.embedding(index, table, x, Write::accumulate);
  EXPECT_EQ(read(x), (Values{0, 0, 6, 8, 0, 0}));
  const Tensor dtable = zeros({2, 2});
  b_.embedding_backward(index, in({3, 2}, {1, 2, 3, 4, 5, 6}), dtable);
  EXPECT_EQ(read(dtable), (Values{0, 0, 3, 4}));
}

TEST_F(ReferenceKernels, EmbeddingGradient) {
  const Tensor index = Tensor::from(b_.runtime(), {7}, random_indices(7, 4, 5));
  expect_gradients({[&](const auto& i) {
                      const Tensor x = out({7, 3});
                      b_.embedding(index, in({4, 3}, i[0]), x, Write::overwrite);
                      return read(x);
                    },
                    [&](const auto&, const Values& dx) {
                      const Tensor dtable = zeros({4, 3});
                      b_.embedding_backward(index, in({7, 3}, dx), dtable);
                      return std::vector<Values>{read(dtable)};
                    }},
                   {random_values(12, 1)});
}

TEST_F(ReferenceKernels, LinearGradient) {
  expect_gradients({[&](const auto& i) {
                      const Tensor y = out({5, 4});
                      b_.linear(in({5, 3}, i[0]), in({4, 3}, i[1]), in({4}, i[2]), y);
                      return read(y);
                    },
                    [&](const auto& i, const Values& g) {
                      const Tensor dx = out({5, 3}), dw = zeros({4, 3}), db = zeros({4}), dy = in({5, 4}, g);
                      b_.linear_backward_input(dy, in({4, 3}, i[1]), dx);
                      b_.linear_backward_weight(dy, in({5, 3}, i[0]), dw, db);
                      return std::vector<Values>{read(dx), read(dw), read(db)};
                    }},
                   {random_values(15, 1), random_values(12, 2), random_values(4, 3)});
}

TEST_F(ReferenceKernels, AProductIsAddedToWhatIsThere) {
  const Tensor y = in({1, 2}, {100, 200});
  b_.linear(in({1, 2}, {3, 4}), in({2, 2}, {1, 2, 5, 6}), in({2}, {1000, 2000}), y, Write::accumulate);
  EXPECT_EQ(read(y), (Values{100 + 11 + 1000, 200 + 39 + 2000}));
}

TEST_F(ReferenceKernels, ParameterGradientsAccumulate) {
  const Tensor dw = in({1, 2}, {10, 20}), db = in({1}, {30}), dy = in({1, 1}, {2}), x = in({1, 2}, {3, 4});
  b_.linear_backward_weight(dy, x, dw, db);
  EXPECT_EQ(read(dw), (Values{16, 28}));
  EXPECT_EQ(read(db), (Values{32}));
}

/// Inputs: x, delta, weight, bias. Outputs: y and s, so that the gradient of s arrives as dsum.
void ReferenceKernels::expect_norm_gradients(NormKind kind, bool with_delta) {
  const Shape matrix{5, 6}, row{6}, column{5};
  const bool centred = kind == NormKind::layernorm;
  const auto run = [&](const std::vector<Values>& i) {
    NormForward call{kind, 1e-5, in(matrix, i[0]), {}, in(row, i[2]), {}, {}, out(matrix), {}, out(column)};
    if (with_delta) call.delta = in(matrix, i[1]), call.sum = out(matrix);
    if (centred) call.bias = in(row, i[3]), call.mean = out(column);
    b_.norm(call);
    return call;
  };
  expect_gradients({[&](const auto& i) {
                      const NormForward call = run(i);
                      Values y = read(call.y);
                      const Values s = with_delta ? read(call.sum) : i[0];
                      y.insert(y.end(), s.begin(), s.end());
                      return y;
                    },
                    [&](const auto& i, const Values& g) {
                      const NormForward f = run(i);
                      const Tensor both = in({10, 6}, g);
                      NormBackward call{kind,
                                        both.slice(0, 5),
                                        with_delta ? f.sum : f.x,
                                        f.weight,
                                        f.mean,
                                        f.rstd,
                                        both.slice(5, 5),
                                        {},
                                        {},
                                        zeros(row),
                                        {}};
                      call.ds = call.dsum;  // in place, as the tape does it
                      if (with_delta) call.ddelta = out(matrix);
                      if (centred) call.dbias = zeros(row);
                      b_.norm_backward(call);
                      return std::vector<Values>{read(call.ds), with_delta ? read(call.ddelta) : Values(30, 0.0),
                                                 read(call.dweight), centred ? read(call.dbias) : Values(6, 0.0)};
                    }},
                   {random_values(30, 1, 2.0), random_values(30, 2), random_values(6, 3), random_values(6, 4)});
}

TEST_F(ReferenceKernels, LayernormGradient) { expect_norm_gradients(NormKind::layernorm, false); }
TEST_F(ReferenceKernels, LayernormGradientWithDelta) { expect_norm_gradients(NormKind::layernorm, true); }
TEST_F(ReferenceKernels, RmsnormGradient) { expect_norm_gradients(NormKind::rmsnorm, false); }
TEST_F(ReferenceKernels, RmsnormGradientWithDelta) { expect_norm_gradients(NormKind::rmsnorm, true); }

TEST_F(ReferenceKernels, NormsByHand) {
  const Tensor x = in({1, 2}, {1, 3}), weight = in({2}, {1, 10}), bias = in({2}, {0, 5}), y = out({1, 2}),
               mean = out({1}), rstd = out({1});
  b_.norm({NormKind::layernorm, 0.0, x, {}, weight, bias, {}, y, mean, rstd});
  EXPECT_EQ(read(y), (Values{-1, 15}));
  b_.norm({NormKind::rmsnorm, 0.0, x, {}, weight, {}, {}, y, {}, rstd});
  EXPECT_LT(relative_error(read(y), {1 / std::sqrt(5), 30 / std::sqrt(5)}), tolerance::f64_reordered);
}

TEST_F(ReferenceKernels, GeluByHandAndGradient) {
  const Tensor a = out({3});
  b_.gelu(Gelu::exact, in({3}, {0, 1, -1}), a);
  EXPECT_LT(relative_error(read(a), {0, 0.84134474606854293, -0.15865525393145707}), tolerance::f64_reordered);
  b_.gelu(Gelu::tanh, in({3}, {0, 1, -1}), a);
  EXPECT_LT(relative_error(read(a), {0, 0.84119199060827670, -0.15880800939172324}), tolerance::f64_reordered);
  for (const Gelu kind : {Gelu::exact, Gelu::tanh})
    expect_gradients({[&](const auto& i) {
                        const Tensor y = out({20});
                        b_.gelu(kind, in({20}, i[0]), y);
                        return read(y);
                      },
                      [&](const auto& i, const Values& g) {
                        const Tensor du = out({20});
                        b_.gelu_backward(kind, in({20}, i[0]), in({20}, g), du);
                        return std::vector<Values>{read(du)};
                      }},
                     {random_values(20, 1, 2.0)});
}

TEST_F(ReferenceKernels, SwigluByHandAndGradient) {
  const Tensor a = out({1, 1});
  b_.swiglu(in({1, 2}, {1, 3}), a);
  EXPECT_LT(relative_error(read(a), {3 / (1 + std::exp(-1.0))}), tolerance::f64_reordered);
  expect_gradients({[&](const auto& i) {
                      const Tensor y = out({4, 3});
                      b_.swiglu(in({4, 6}, i[0]), y);
                      return read(y);
                    },
                    [&](const auto& i, const Values& g) {
                      const Tensor dgate_up = out({4, 6});
                      b_.swiglu_backward(in({4, 6}, i[0]), in({4, 3}, g), dgate_up);
                      return std::vector<Values>{read(dgate_up)};
                    }},
                   {random_values(24, 1, 2.0)});
}

TEST_F(ReferenceKernels, CrossEntropyByHandAndGradient) {
  const Tensor targets = Tensor::from<std::int32_t>(b_.runtime(), {3}, {1, -1, 0}), nll = out({3}),
               dlogits = out({3, 4});
  b_.cross_entropy(in({3, 4}, {0, 0, 0, 0, 1, 2, 3, 4, 1e4, -1e4, 0, 0}), targets, 2.0, nll, dlogits);
  EXPECT_LT(relative_error(read(nll), {std::log(4.0), 0, 0}), tolerance::f64_reordered);
  EXPECT_LT(relative_error(read(dlogits), {0.5, -1.5, 0.5, 0.5, 0, 0, 0, 0, 0, 0, 0, 0}), tolerance::f64_reordered);

  // The gradient is of scale * sum of nll: here by one row at a time, whose weight is its scale.
  const Tensor one = Tensor::from<std::int32_t>(b_.runtime(), {1}, {2});
  expect_gradients({[&](const auto& i) {
                      const Tensor y = out({1});
                      b_.cross_entropy(in({1, 5}, i[0]), one, 1.0, y, {});
                      return read(y);
                    },
                    [&](const auto& i, const Values& g) {
                      const Tensor d = out({1, 5});
                      b_.cross_entropy(in({1, 5}, i[0]), one, g[0], out({1}), d);
                      return std::vector<Values>{read(d)};
                    }},
                   {random_values(5, 1, 2.0)});
}

// Slices of a vocabulary, one of them empty, give what the whole gives.
TEST_F(ReferenceKernels, CrossEntropyOfSlicesIsThatOfTheWhole) {
  const std::int64_t rows = 6, vocab = 9;
  const std::vector<std::int32_t> targets = {0, 8, -1, 4, 3, 5};
  const Tensor logits = in({rows, vocab}, random_values(rows * vocab, 1, 3.0));
  const Tensor nll = out({rows}), dlogits = out({rows, vocab});
  b_.cross_entropy(logits, Tensor::from(b_.runtime(), {rows}, targets), 0.3, nll, dlogits);

  const std::vector<std::int64_t> borders = {0, 4, 4, 9};
  const Tensor statistics = out({3, rows, 2}), lse = out({rows}), merged = out({rows}), gradient = out({rows, vocab});
  std::vector<Tensor> slices, local_targets;
  for (std::size_t s = 0; s < 3; ++s) {
    const std::int64_t first = borders[s], width = borders[s + 1] - first;
    std::vector<std::int32_t> local = targets;
    for (std::int32_t& t : local)
      t = t < 0                             ? -1
          : t >= first && t < first + width ? t - static_cast<std::int32_t>(first)
                                            : static_cast<std::int32_t>(width);
    local_targets.push_back(Tensor::from(b_.runtime(), {rows}, local));
    slices.push_back(out({rows, width}));
    b_.copy({logits, first, width}, slices.back());
    b_.logits_statistics(slices.back(), local_targets.back(),
                         statistics.slice(static_cast<std::int64_t>(s), 1).reshape({rows, 2}));
  }
  for (std::size_t s = 0; s < 3; ++s) {
    b_.merge_logits_statistics(statistics, local_targets[s], lse, merged);
    EXPECT_LT(relative_error(read(merged), read(nll)), tolerance::f64_reordered);
    const Tensor part = out(slices[s].shape());
    b_.logits_gradient(slices[s], local_targets[s], lse, 0.3, part);
    b_.copy(part, {gradient, borders[s], borders[s + 1] - borders[s]});
  }
  EXPECT_LT(relative_error(read(gradient), read(dlogits)), tolerance::f64_reordered);
}

TEST_F(ReferenceKernels, AdamWByHand) {
  const Tensor value = in({2}, {1, -2}), gradient = in({2}, {0.5, -4}), m = zeros({2}), v = zeros({2}),
               compute = make_output(b_, {2}, Dtype::f32);
  AdamW hyper{0.1, 0.9, 0.99, 0.0, 1, 0.25};
  const AdamWParameter parameter{value, gradient, m, v, compute, 0.5};
  b_.adamw(hyper, std::span(&parameter, 1));
  // The first step moves by the learning rate along the sign of the gradient, after a decay of 1 - 0.1 * 0.5.
  EXPECT_LT(relative_error(read(value), {0.95 - 0.1, -1.9 + 0.1}), tolerance::f64_reordered);
  EXPECT_LT(relative_error(read(m), {0.0125, -0.1}), tolerance::f64_reordered);
  EXPECT_LT(relative_error(read(v), {0.01 * 0.125 * 0.125, 0.01}), tolerance::f64_reordered);
  EXPECT_EQ(read(compute), rounded_to(Dtype::f32, read(value)));
  // A second step with the same gradient: both corrected moments are again the gradient and its square.
  hyper.step = 2;
  b_.adamw(hyper, std::span(&parameter, 1));
  EXPECT_LT(relative_error(read(value), {0.85 * 0.95 - 0.1, -1.8 * 0.95 + 0.1}), tolerance::f64_reordered);
}

}  // namespace
}  // namespace lexring::testing
