// Every kernel of a backend but attention against the reference in f64, both fed with the same rounded numbers. Which
// backend: tested_backend.h.
#include <array>
#include <limits>
#include <tuple>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/framework/backend/kernel_testing.h"
#include "tests/framework/backend/tested_backend.h"
#include "tests/support/tolerances.h"

namespace lexring::testing {
namespace {

/// What a run with this precision stores: working activations and the residual stream. Masters are f32 with both.
struct Precision {
  const char* name;
  Dtype working, residual;
};

void PrintTo(const Precision& precision, std::ostream* os) { *os << precision.name; }

constexpr Precision precisions[] = {
    {"f32", Dtype::f32, Dtype::f32}, {"bf16", Dtype::bf16, Dtype::f32}, {"bf16_residual", Dtype::bf16, Dtype::bf16}};
constexpr std::int64_t row_counts[] = {0, 1, 7, 33, 100};

double elementwise(Dtype dtype) { return dtype == Dtype::bf16 ? tolerance::bf16_rounded : tolerance::f32_elementwise; }
double matmul(Dtype dtype) { return dtype == Dtype::bf16 ? tolerance::bf16_rounded : tolerance::f32_matmul; }

/// Each test describes its kernel once, as a function of a backend and its dtypes; `both` runs it on the two and
/// compares what it returns.
class Kernels : public ::testing::TestWithParam<Precision> {
 protected:
  /// One backend, and the dtypes that "working", "residual" and "master" mean on it.
  struct Side {
    Backend& backend;
    Dtype working, residual, master;

    Tensor in(Shape shape, Dtype dtype, const Values& values) const {
      return make(backend, std::move(shape), dtype, values);
    }
    Tensor out(Shape shape, Dtype dtype) const { return make_output(backend, std::move(shape), dtype); }
    Tensor indices(const std::vector<std::int32_t>& values) const {
      return Tensor::from(backend.runtime(), {static_cast<std::int64_t>(values.size())}, values);
    }
  };

  Dtype working() const { return GetParam().working; }
  Dtype residual() const { return GetParam().residual; }
  Values numbers(std::int64_t count, std::uint64_t seed, Dtype dtype = Dtype::f32, double scale = 1.0) const {
    return rounded_to(dtype, random_values(count, seed, scale));
  }

  template <class Kernel>
  void both(const std::vector<double>& tolerances, const Kernel& kernel) {
    const std::vector<Tensor> expected = kernel(Side{*reference_, Dtype::f64, Dtype::f64, Dtype::f64});
    const std::vector<Tensor> ours = kernel(Side{*ours_, working(), residual(), Dtype::f32});
    ASSERT_EQ(expected.size(), tolerances.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double error = relative_error(read(ours[i]), read(expected[i]));
      EXPECT_LT(error, tolerances[i]) << "output " << i << ", " << to_string(ours[i].shape()) << " "
                                      << name_of(ours[i].dtype());
    }
  }

  std::unique_ptr<Backend> reference_ = make_reference_backend(), ours_ = tested_backend().make();
};

TEST_P(Kernels, FillCastAddAndSumOfSquares) {
  for (const std::int64_t count : {0, 1, 15, 16, 33, 10007}) {
    SCOPED_TRACE(count);
    const Values x = numbers(count, 1, working()), y = numbers(count, 2, residual());
    both({elementwise(working()), elementwise(residual()), elementwise(working())}, [&](const Side& s) {
      const Tensor filled = s.out({count}, s.working), added = s.in({count}, s.residual, y),
                   cast = s.out({count}, s.working);
      s.backend.fill(filled, 0.3);
      s.backend.add(s.in({count}, s.working, x), added);
      s.backend.cast(s.in({count}, s.residual, y), cast);
      return std::vector<Tensor>{filled, added, cast};
    });
    const double expected = reference_->sum_of_squares(make(*reference_, {count}, Dtype::f64, x));
    EXPECT_NEAR(ours_->sum_of_squares(make(*ours_, {count}, working(), x)), expected,
                tolerance::f32_elementwise * expected);
  }
}

TEST_P(Kernels, Copy) {
  for (const std::int64_t rows : row_counts)
    for (const std::int64_t width : {1, 5, 16, 48}) {
      const Values x = numbers(rows * 60, 1, working());
      both({1e-30, 1e-30}, [&](const Side& s) {
        const Tensor y = s.out({rows, width}, s.working);
        const Tensor back = s.in({rows, 60}, s.working, x);
        s.backend.copy({s.in({rows, 60}, s.working, x), 7, width}, y);
        s.backend.copy(y, {back, 2, width});
        s.backend.copy({s.in({rows, 60}, s.working, x), 4, 8}, {back, 52, 8});
        return std::vector<Tensor>{y, back};
      });
    }
}

TEST_P(Kernels, ScaleQueries) {
  for (const std::int64_t rows : row_counts)
    for (const auto& [heads, width] : {std::pair<std::int64_t, std::int64_t>{1, 5}, {3, 4}, {2, 18}}) {
      SCOPED_TRACE(::testing::Message() << rows << " x " << heads << " heads of " << width);
      const std::int64_t columns = heads * width;
      const Values x = numbers(rows * 60, 1, working()), by_row = numbers(rows, 2), by_head = numbers(heads, 3);
      both({elementwise(working()), elementwise(working())}, [&, heads = heads](const Side& s) {
        const Tensor y = s.out({rows, columns}, s.working), in_place = s.in({rows, 60}, s.working, x),
                     row = s.in({rows}, s.master, by_row);
        s.backend.scale_queries({s.in({rows, 60}, s.working, x), 7, columns}, row, {}, y);
        s.backend.scale_queries({in_place, 3, columns}, row, s.in({heads}, s.master, by_head), {in_place, 3, columns});
        return std::vector<Tensor>{y, in_place};
      });
    }
}

TEST_P(Kernels, ForgetSums) {
  for (const std::int64_t rows : {0, 1, 7, 300})
    for (const std::int64_t heads : {1, 5}) {
      SCOPED_TRACE(::testing::Message() << rows << " x " << heads);
      const Values logits = numbers(rows * heads, 1, working(), 3.0), dsums = numbers(rows * heads, 2);
      both({elementwise(Dtype::f32), elementwise(working())}, [&](const Side& s) {
        const Tensor x = s.in({rows, heads}, s.working, logits), sums = s.out({rows, 2 * heads}, s.master),
                     dx = s.out({rows, heads}, s.working);
        s.backend.forget_sums(x, {}, sums);
        s.backend.forget_sums_backward(x, s.in({rows, heads}, s.master, dsums), dx);
        return std::vector<Tensor>{sums, dx};
      });
    }
}

TEST_P(Kernels, Landmarks) {
  constexpr double none = -std::numeric_limits<double>::infinity();
  for (const std::int64_t rows : {0, 1, 7, 300})
    for (const std::int64_t width : {2, 20, 70}) {
      SCOPED_TRACE(::testing::Message() << rows << " x " << width);
      const Values outputs = numbers(rows * 3 * width, 1), others = numbers(rows * 3 * width, 2);
      Values scores = numbers(rows * 3, 3, Dtype::f32, 3.0), maxima = numbers(rows * 3, 4), sums = numbers(rows * 3, 5),
             block_lse = numbers(rows * 3, 6);
      for (std::size_t i = 0; i < scores.size(); ++i) {
        sums[i] = i % 5 == 0 ? 0 : std::abs(sums[i]) + 1;
        if (i % 7 == 3) scores[i] = none;
        if (i % 4 == 1) maxima[i] = none;
        if (i % 3 == 0) block_lse[i] = none;
      }
      both({elementwise(Dtype::f32), elementwise(Dtype::f32), elementwise(Dtype::f32), elementwise(Dtype::f32),
            elementwise(Dtype::f32)},
           [&](const Side& s) {
             const auto statistic = [&](const Values& values) { return s.in({rows, 3}, s.master, values); };
             const AttentionState block{s.in({rows, 3 * width}, s.master, others), statistic(maxima), statistic(sums)},
                 whole{s.in({rows, 3 * width}, s.master, outputs), statistic(maxima), statistic(sums)};
             s.backend.merge_landmark(block, statistic(scores), whole);
             const Tensor lse = statistic(block_lse), delta = s.out({rows, 3}, s.master);
             s.backend.landmark_statistics(
                 {statistic(sums), statistic(scores), statistic(numbers(rows * 3, 7)), statistic(sums), lse, delta});
             return std::vector<Tensor>{whole.output, whole.maximum, whole.sum, lse, delta};
           });
    }
}

TEST_P(Kernels, ForgetSumsOfAMillionKeepSmallDifferences) {
  const std::int64_t rows = 40;
  const Tensor x = make(*ours_, {rows, 1}, working(), Values(40, 4.0)),
               sums = make_output(*ours_, {rows, 2}, Dtype::f32);
  ours_->forget_sums(x, make(*ours_, {1, 2}, Dtype::f32, {-1e6, 1e-3}), sums);
  const Values both = read(sums);
  const double step = std::log1p(std::exp(-4.0));
  for (std::size_t n = 0; n < 40; ++n) {
    EXPECT_EQ(both[2 * n], static_cast<float>(both[2 * n] + both[2 * n + 1]));
    EXPECT_NEAR(both[2 * n] + both[2 * n + 1], -1e6 + 1e-3 - step * static_cast<double>(n + 1), 1e-6);
  }
}

TEST_P(Kernels, Embedding) {
  for (const std::int64_t rows : row_counts)
    for (const std::int64_t width : {20, 48, 128})
      for (const std::int32_t vocabulary : {61, 257}) {
        SCOPED_TRACE(::testing::Message() << rows << " x " << width << " of " << vocabulary);
        auto index = random_indices(rows, vocabulary, 3);
        for (std::size_t n = 1; n < index.size(); n += 3) index[n] = -1;
        const Values table = numbers(vocabulary * width, 1), dx = numbers(rows * width, 2, residual()),
                     dtable = numbers(vocabulary * width, 4);
        both({elementwise(residual()), elementwise(residual()), tolerance::f32_matmul}, [&](const Side& s) {
          const Tensor x = s.out({rows, width}, s.residual), twice = s.in({rows, width}, s.residual, dx),
                       gradient = s.in({vocabulary, width}, s.master, dtable),
                       weights = s.in({vocabulary, width}, s.master, table);
          s.backend.embedding(s.indices(index), weights, x, Write::overwrite);
          s.backend.embedding(s.indices(index), weights, twice, Write::accumulate);
          s.backend.embedding_backward(s.indices(index), s.in({rows, width}, s.residual, dx), gradient);
          return std::vector<Tensor>{x, twice, gradient};
        });
      }
}

TEST_P(Kernels, Linear) {
  for (const std::int64_t rows : row_counts)
    for (const auto& [inputs, outputs] :
         {std::pair<std::int64_t, std::int64_t>{48, 20}, {20, 61}, {257, 48}, {64, 128}, {1, 1}})
      for (const bool with_bias : {false, true}) {
        SCOPED_TRACE(::testing::Message()
                     << rows << " rows, " << inputs << " -> " << outputs << (with_bias ? " with bias" : ""));
        const Values x = numbers(rows * inputs, 1, working()), w = numbers(outputs * inputs, 2, working()),
                     bias = numbers(outputs, 3), dy = numbers(rows * outputs, 4, working()),
                     dw = numbers(outputs * inputs, 5), db = numbers(outputs, 6);
        const double y_error = matmul(working()) * (with_bias && tested_backend().rounds_bias ? 2 : 1);
        both({y_error, tolerance::f32_matmul, matmul(working()), tolerance::f32_matmul, tolerance::f32_matmul,
              tolerance::f32_matmul, 2 * matmul(working())},
             [&, inputs = inputs, outputs = outputs](const Side& s) {
               const Tensor tx = s.in({rows, inputs}, s.working, x), tw = s.in({outputs, inputs}, s.working, w),
                            tdy = s.in({rows, outputs}, s.working, dy),
                            tb = with_bias ? s.in({outputs}, s.master, bias) : Tensor();
               const Tensor y = s.out({rows, outputs}, s.working), wide = s.out({rows, outputs}, s.master),
                            dx = s.out({rows, inputs}, s.working), gw = s.in({outputs, inputs}, s.master, dw),
                            gb = s.in({outputs}, s.master, db), only_b = s.in({outputs}, s.master, db),
                            added = s.in({rows, outputs}, s.working, dy);
               s.backend.linear(tx, tw, tb, y);
               s.backend.linear(tx, tw, tb, added, Write::accumulate);
               s.backend.linear(tx, tw, tb, wide);
               s.backend.linear_backward_input(tdy, tw, dx);
               s.backend.linear_backward_weight(tdy, tx, gw, with_bias ? gb : Tensor());
               s.backend.linear_backward_weight(tdy, {}, {}, only_b);
               return std::vector<Tensor>{y, wide, dx, gw, gb, only_b, added};
             });
      }
}

/// Every matrix of activations may be some columns of a wider one, whose others nobody touches.
TEST_P(Kernels, LinearOfColumns) {
  for (const std::int64_t rows : row_counts)
    for (const auto& [inputs, outputs, first] :
         {std::array<std::int64_t, 3>{48, 20, 16}, {3, 61, 0}, {16, 64, 64}, {130, 3, 1}}) {
      SCOPED_TRACE(::testing::Message() << rows << " rows, " << inputs << " -> " << outputs << " from column "
                                        << first);
      const std::int64_t all_inputs = first + inputs + 7, all_outputs = first + outputs + 5;
      const Values x = numbers(rows * all_inputs, 1, working()), w = numbers(outputs * inputs, 2, working()),
                   dy = numbers(rows * all_outputs, 3, working()), dw = numbers(outputs * inputs, 4);
      const double error = 2 * matmul(working());
      both({error, error, error, error, tolerance::f32_matmul},
           [&, inputs = inputs, outputs = outputs, first = first](const Side& s) {
             const Tensor tx = s.in({rows, all_inputs}, s.working, x), tw = s.in({outputs, inputs}, s.working, w),
                          tdy = s.in({rows, all_outputs}, s.working, dy);
             std::vector<Tensor> results;
             for (const Write write : {Write::overwrite, Write::accumulate}) {
               const Tensor y = s.in({rows, all_outputs}, s.working, dy), dx = s.in({rows, all_inputs}, s.working, x);
               s.backend.linear({tx, first, inputs}, tw, {}, {y, first, outputs}, write);
               s.backend.linear_backward_input({tdy, first, outputs}, tw, {dx, first, inputs}, write);
               results.insert(results.end(), {y, dx});
             }
             results.push_back(s.in({outputs, inputs}, s.master, dw));
             s.backend.linear_backward_weight({tdy, first, outputs}, {tx, first, inputs}, results.back(), {});
             return results;
           });
    }
}

/// One input and one output dtype of a norm: the residual stream with and without delta, or working activations
/// (sub-norm).
struct NormShape {
  NormKind kind;
  std::int64_t rows, width;
  bool with_delta, of_working;
};

std::vector<NormShape> norm_shapes() {
  std::vector<NormShape> shapes;
  for (const NormKind kind : {NormKind::layernorm, NormKind::rmsnorm})
    for (const std::int64_t rows : row_counts)
      for (const std::int64_t width : {5, 20, 48, 100, 384})  // two channels would be all cancellation
        for (const auto& [with_delta, of_working] : {std::pair{false, false}, {true, false}, {false, true}})
          shapes.push_back({kind, rows, width, with_delta, of_working});
  return shapes;
}

TEST_P(Kernels, Norm) {
  for (const NormShape& n : norm_shapes()) {
    SCOPED_TRACE(::testing::Message() << (n.kind == NormKind::layernorm ? "layernorm " : "rmsnorm ") << n.rows << " x "
                                      << n.width << (n.with_delta ? " with delta" : "")
                                      << (n.of_working ? " of working dtype" : ""));
    const Dtype x_dtype = n.of_working ? working() : residual();
    const bool centred = n.kind == NormKind::layernorm;
    Values x = numbers(n.rows * n.width, 1, x_dtype, 2.0);
    const Values delta = numbers(n.rows * n.width, 2, working()), weight = numbers(n.width, 3),
                 bias = numbers(n.width, 4);
    // A sum that is rounded to bf16 before it is normalised carries that rounding into y and the statistics.
    const bool rounded_sum = n.with_delta && x_dtype == Dtype::bf16;
    const double statistics = rounded_sum ? 2 * tolerance::bf16_rounded : tolerance::f32_matmul,
                 y_error = elementwise(working()) * (rounded_sum ? 2 : 1);
    both({y_error, n.with_delta ? elementwise(x_dtype) : 1e-30, centred ? statistics : 1e-30, statistics},
         [&](const Side& s) {
           const Dtype of = n.of_working ? s.working : s.residual;
           const Shape matrix{n.rows, n.width};
           NormForward call{n.kind, 1e-5, s.in(matrix, of, x),      {}, s.in({n.width}, s.master, weight),
                            {},     {},   s.out(matrix, s.working), {}, s.out({n.rows}, s.master)};
           if (n.with_delta) call.delta = s.in(matrix, s.working, delta), call.sum = s.out(matrix, of);
           if (centred) call.bias = s.in({n.width}, s.master, bias), call.mean = s.out({n.rows}, s.master);
           s.backend.norm(call);
           return std::vector<Tensor>{call.y, call.sum, call.mean, call.rstd};
         });
  }
}

TEST_P(Kernels, NormBackward) {
  for (const NormShape& n : norm_shapes()) {
    SCOPED_TRACE(::testing::Message() << (n.kind == NormKind::layernorm ? "layernorm " : "rmsnorm ") << n.rows << " x "
                                      << n.width << (n.with_delta ? " with delta, in place" : "")
                                      << (n.of_working ? " of working dtype" : ""));
    const Dtype s_dtype = n.of_working ? working() : residual();
    const bool centred = n.kind == NormKind::layernorm;
    const Shape matrix{n.rows, n.width};
    const Values s_values = numbers(n.rows * n.width, 1, s_dtype, 2.0), dy = numbers(n.rows * n.width, 2, working()),
                 weight = numbers(n.width, 3), dsum = numbers(n.rows * n.width, 4, s_dtype),
                 dweight = numbers(n.width, 5), dbias = numbers(n.width, 6);
    // Statistics as the reference has them, rounded as the backend stores them.
    const NormForward f{n.kind,
                        1e-5,
                        make(*reference_, matrix, Dtype::f64, s_values),
                        {},
                        make(*reference_, {n.width}, Dtype::f64, weight),
                        {},
                        {},
                        make_output(*reference_, matrix, Dtype::f64),
                        centred ? make_output(*reference_, {n.rows}, Dtype::f64) : Tensor(),
                        make_output(*reference_, {n.rows}, Dtype::f64)};
    reference_->norm(f);
    const Values mean = rounded_to(Dtype::f32, read(f.mean)), rstd = rounded_to(Dtype::f32, read(f.rstd));
    both({elementwise(s_dtype), n.with_delta ? elementwise(working()) : 1e-30, tolerance::f32_matmul,
          centred ? tolerance::f32_matmul : 1e-30},
         [&](const Side& s) {
           const Dtype of = n.of_working ? s.working : s.residual;
           NormBackward call{n.kind,
                             s.in(matrix, s.working, dy),
                             s.in(matrix, of, s_values),
                             s.in({n.width}, s.master, weight),
                             {},
                             s.in({n.rows}, s.master, rstd),
                             {},
                             s.out(matrix, of),
                             {},
                             s.in({n.width}, s.master, dweight),
                             {}};
           if (n.with_delta) call.ds = call.dsum = s.in(matrix, of, dsum), call.ddelta = s.out(matrix, s.working);
           if (centred) call.mean = s.in({n.rows}, s.master, mean), call.dbias = s.in({n.width}, s.master, dbias);
           s.backend.norm_backward(call);
           return std::vector<Tensor>{call.ds, call.ddelta, call.dweight, call.dbias};
         });
  }
}

TEST_P(Kernels, NormBackwardAddsAGradientOfItsOwnStorage) {
  const std::int64_t rows = 9, width = 37;
  const Values x = numbers(rows * width, 1, residual()), dy = numbers(rows * width, 2, working()),
               dsum = numbers(rows * width, 3, residual()), weight = numbers(width, 4),
               rstd(static_cast<std::size_t>(rows), 0.75), zeros(static_cast<std::size_t>(width), 0.0);
  both({elementwise(residual()), 1e-30}, [&](const Side& s) {
    NormBackward call{NormKind::rmsnorm,
                      s.in({rows, width}, s.working, dy),
                      s.in({rows, width}, s.residual, x),
                      s.in({width}, s.master, weight),
                      {},
                      s.in({rows}, s.master, rstd),
                      s.in({rows, width}, s.residual, dsum),
                      s.out({rows, width}, s.residual),
                      {},
                      s.in({width}, s.master, zeros),
                      {}};
    s.backend.norm_backward(call);
    return std::vector<Tensor>{call.ds, call.dsum};
  });
}

/// Heads within fused projections: pieces of rows, and columns on both sides that nobody touches.
TEST_P(Kernels, NormOfPiecesOfRows) {
  for (const std::int64_t rows : row_counts)
    for (const auto& [width, pieces, before, after] :
         {std::array<std::int64_t, 4>{8, 4, 0, 16}, {8, 2, 32, 16}, {10, 3, 7, 5}, {64, 2, 64, 0}, {10, 1, 10, 10}}) {
      SCOPED_TRACE(::testing::Message() << rows << " x (" << before << " + " << pieces << " x " << width << " + "
                                        << after << ")");
      const std::int64_t all = before + pieces * width + after;
      const NormRows places{before, pieces};
      const Values x = numbers(rows * all, 1, working(), 2.0), dy = numbers(rows * all, 2, working()),
                   weight = numbers(width, 3), dweight = numbers(width, 4), rest = numbers(rows * all, 5, working());
      const double e = elementwise(working());
      both({e, tolerance::f32_matmul, e, tolerance::f32_matmul}, [&, width = width, pieces = pieces](const Side& s) {
        const Shape matrix{rows, all};
        const Tensor tx = s.in(matrix, s.working, x), tw = s.in({width}, s.master, weight);
        const NormForward f{NormKind::rmsnorm,
                            1e-5,
                            tx,
                            {},
                            tw,
                            {},
                            {},
                            s.in(matrix, s.working, rest),
                            {},
                            s.out({rows * pieces}, s.master),
                            places};
        s.backend.norm(f);
        const NormBackward b{NormKind::rmsnorm,
                             s.in(matrix, s.working, dy),
                             tx,
                             tw,
                             {},
                             f.rstd,
                             {},
                             s.in(matrix, s.working, rest),
                             {},
                             s.in({width}, s.master, dweight),
                             {},
                             places};
        s.backend.norm_backward(b);
        return std::vector<Tensor>{f.y, f.rstd, b.ds, b.dweight};
      });
    }
}

TEST_P(Kernels, NormBackwardOfVectorsThatAreNotTrained) {
  for (const std::int64_t width : {37, 700}) {
    const std::int64_t rows = 9;
    const Values x = numbers(rows * width, 1, residual()), dy = numbers(rows * width, 2, working()),
                 weight = numbers(width, 4), sums = numbers(width, 5), rstd(static_cast<std::size_t>(rows), 0.75),
                 mean(static_cast<std::size_t>(rows), 0.1);
    const double e = elementwise(residual());
    both({e, tolerance::f32_matmul, e, tolerance::f32_matmul, e}, [&](const Side& s) {
      std::vector<Tensor> results;
      for (const auto& [with_weight, with_bias] : {std::pair(false, true), {true, false}, {false, false}}) {
        const NormBackward call{NormKind::layernorm,
                                s.in({rows, width}, s.working, dy),
                                s.in({rows, width}, s.residual, x),
                                s.in({width}, s.master, weight),
                                s.in({rows}, s.master, mean),
                                s.in({rows}, s.master, rstd),
                                {},
                                s.out({rows, width}, s.residual),
                                {},
                                with_weight ? s.in({width}, s.master, sums) : Tensor(),
                                with_bias ? s.in({width}, s.master, sums) : Tensor()};
        s.backend.norm_backward(call);
        results.push_back(call.ds);
        for (const Tensor& sum : {call.dweight, call.dbias}) {
          if (sum.defined()) results.push_back(sum);
        }
      }
      return results;
    });
  }
}

TEST_P(Kernels, Activations) {
  for (const std::int64_t rows : row_counts)
    for (const std::int64_t width : {1, 20, 48, 171}) {
      SCOPED_TRACE(::testing::Message() << rows << " x " << width);
      Values u = numbers(rows * width, 1, working(), 3.0), gate_up = numbers(rows * 2 * width, 2, working(), 3.0);
      if (rows > 1 && width > 1) {  // far out, where exp and erf saturate
        u[0] = gate_up[0] = 96, u[1] = gate_up[1] = -96, u[2] = 0, u[3] = -12;
      }
      const Values da = numbers(rows * width, 3, working());
      const double error = elementwise(working());
      both({error, error, error, error, error, error}, [&](const Side& s) {
        const Tensor g = s.in({rows, width}, s.working, da), tu = s.in({rows, width}, s.working, u),
                     tgu = s.in({rows, 2 * width}, s.working, gate_up);
        const Tensor a = s.out({rows, width}, s.working), du = s.out({rows, width}, s.working),
                     b = s.out({rows, width}, s.working), dgu = s.out({rows, 2 * width}, s.working),
                     c = s.out({rows, width}, s.working), dc = s.out({rows, width}, s.working);
        s.backend.gelu(Gelu::exact, tu, a);
        s.backend.gelu_backward(Gelu::exact, tu, g, du);
        s.backend.gelu(Gelu::tanh, tu, c);
        s.backend.gelu_backward(Gelu::tanh, tu, g, dc);
        s.backend.swiglu(tgu, b);
        s.backend.swiglu_backward(tgu, g, dgu);
        return std::vector<Tensor>{a, du, b, dgu, c, dc};
      });
    }
}

TEST_P(Kernels, CrossEntropy) {
  for (const std::int64_t rows : row_counts)
    for (const std::int32_t vocabulary : {1, 2, 61, 257, 1000}) {
      SCOPED_TRACE(::testing::Message() << rows << " x " << vocabulary);
      Values logits = numbers(rows * vocabulary, 1, Dtype::f32, 4.0);
      auto targets = random_indices(rows, vocabulary, 2);
      for (std::size_t n = 2; n < targets.size(); n += 5) targets[n] = -1;
      if (rows > 1 && vocabulary > 1) logits[0] = 1e4, logits[1] = -1e4;
      both({tolerance::f32_elementwise, elementwise(working()), tolerance::f32_elementwise}, [&](const Side& s) {
        const Tensor x = s.in({rows, vocabulary}, s.master, logits), nll = s.out({rows}, s.master),
                     alone = s.out({rows}, s.master), dlogits = s.out({rows, vocabulary}, s.working);
        s.backend.cross_entropy(x, s.indices(targets), 0.01, nll, dlogits);
        s.backend.cross_entropy(x, s.indices(targets), 0.01, alone, {});
        return std::vector<Tensor>{nll, dlogits, alone};
      });
    }
}

TEST_P(Kernels, SoftCap) {
  for (const std::int64_t rows : row_counts)
    for (const std::int64_t width : {0, 1, 61, 1000}) {
      SCOPED_TRACE(::testing::Message() << rows << " x " << width);
      Values logits = numbers(rows * width, 1, Dtype::f32, 4.0);
      if (rows * width > 1) logits[0] = 1e4, logits[1] = -1e4;
      const Values gradient = numbers(rows * width, 2, working());
      both({tolerance::f32_elementwise, 2 * elementwise(working())}, [&](const Side& s) {
        const Tensor x = s.in({rows, width}, s.master, logits), dx = s.in({rows, width}, s.working, gradient);
        s.backend.soft_cap(x, 3.0);
        s.backend.soft_cap_backward(x, 3.0, dx);
        return std::vector<Tensor>{x, dx};
      });
    }
}

TEST_P(Kernels, CrossEntropyOfSlices) {
  for (const std::int64_t rows : row_counts)
    for (const std::int32_t width : {0, 1, 61, 257}) {
      SCOPED_TRACE(::testing::Message() << rows << " x " << width);
      const Values logits = numbers(rows * width, 1, Dtype::f32, 4.0), lse = numbers(rows, 3, Dtype::f32, 0.5);
      auto targets = random_indices(rows, 2 * width + 1, 2);  // here, in another slice, not counted
      for (std::size_t n = 2; n < targets.size(); n += 5) targets[n] = -1;
      Values slices = numbers(3 * rows * 2, 4, Dtype::f32, 4.0);
      for (std::size_t i = 0; i < static_cast<std::size_t>(rows); ++i)
        slices[2 * i] = -std::numeric_limits<double>::infinity();
      const double error = tolerance::f32_elementwise;
      both({error, error, 2 * error, elementwise(working())}, [&](const Side& s) {
        const Tensor x = s.in({rows, width}, s.master, logits), statistics = s.out({rows, 2}, s.master),
                     merged = s.out({rows}, s.master), nll = s.out({rows}, s.master),
                     dlogits = s.out({rows, width}, s.working);
        s.backend.logits_statistics(x, s.indices(targets), statistics);
        s.backend.merge_logits_statistics(s.in({3, rows, 2}, s.master, slices), s.indices(targets), merged, nll);
        s.backend.logits_gradient(x, s.indices(targets), s.in({rows}, s.master, lse), 0.01, dlogits);
        return std::vector<Tensor>{statistics, merged, nll, dlogits};
      });
    }
}

/// All in one call: of no element, of single ones, of several blocks, and rows that begin anywhere; some decay, some
/// have a copy.
TEST_P(Kernels, AdamW) {
  const std::vector<std::int64_t> counts = {0, 1, 15, 33, 0, 4096, 10007, 4};
  for (const std::int64_t offset : {0, 3}) {
    std::vector<Values> start;  // value, gradient, moments of each
    for (std::size_t i = 0; i < counts.size(); ++i) {
      for (unsigned kind = 1; kind <= 4; ++kind)
        start.push_back(numbers(counts[i] + offset, 4 * static_cast<unsigned>(i) + kind));
      for (double& x : start.back()) x = static_cast<float>(x * x);
    }
    std::vector<double> errors;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      for (int j = 0; j < 3; ++j) errors.push_back(tolerance::f32_elementwise);
      if (i % 2 == 0) errors.push_back(elementwise(working()));
    }
    both(errors, [&](const Side& s) {
      std::vector<AdamWParameter> parameters;
      std::vector<Tensor> results;
      for (std::size_t i = 0; i < counts.size(); ++i) {
        const auto part = [&](std::size_t j) {
          return s.in({counts[i] + offset}, s.master, start[4 * i + j]).slice(offset, counts[i]);
        };
        parameters.push_back({part(0), part(1), part(2), part(3), i % 2 == 0 ? s.out({counts[i]}, s.working) : Tensor(),
                              i % 3 == 0 ? 0.1 : 0.0});
        const AdamWParameter& p = parameters.back();
        results.insert(results.end(), {p.value, p.first_moment, p.second_moment});
        if (p.compute.defined()) results.push_back(p.compute);
      }
      s.backend.adamw({1e-2, 0.9, 0.95, 1e-8, 3, 0.7}, parameters);
      s.backend.adamw({1e-2, 0.9, 0.95, 1e-8, 4, 0.7}, parameters);
      return results;
    });
  }
}

TEST_P(Kernels, SumOfSquaresOfSeveral) {
  std::vector<Tensor> ours, theirs;
  for (const std::int64_t count : {0, 1, 4099, 3, 0, 70001, 8}) {
    const Values x = numbers(count + 1, static_cast<unsigned>(count) + 1, working());
    ours.push_back(make(*ours_, {count + 1}, working(), x).slice(1, count));
    theirs.push_back(make(*reference_, {count + 1}, Dtype::f64, x).slice(1, count));
  }
  const double expected = reference_->sum_of_squares(theirs);
  EXPECT_NEAR(ours_->sum_of_squares(ours), expected, tolerance::f32_elementwise * expected);
  EXPECT_EQ(ours_->sum_of_squares(std::span<const Tensor>()), 0.0);
}

INSTANTIATE_TEST_SUITE_P(Small, Kernels, ::testing::ValuesIn(precisions),
                         [](const auto& p) { return fmt::format("{}_{}", tested_backend().name, p.param.name); });

}  // namespace
}  // namespace lexring::testing
