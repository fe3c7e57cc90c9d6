// Layers over a tensor-parallel group against the operation of the whole on one rank: outputs, gradients of inputs and
// of parts of weights.
#include <cmath>

#include <gtest/gtest.h>

#include "framework/base/random.h"
#include "framework/ops/embedding.h"
#include "framework/ops/linear.h"
#include "framework/ops/linear_cross_entropy.h"
#include "framework/tensor/compare.h"
#include "parallel/tensor/linear.h"
#include "parallel/tensor/vocabulary.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tolerances.h"

namespace lexring {
namespace {

using testing::world;

struct Extent {
  std::int64_t first, count;
};

/// This rank's slice of `size` things.
Extent own(std::int64_t size) {
  const auto borders = even_borders(size, world()->size());
  const auto r = static_cast<std::size_t>(world()->rank());
  return {borders[r], borders[r + 1] - borders[r]};
}

class Layers : public ::testing::Test {
 protected:
  Tensor random(Shape shape, std::uint64_t stream) {
    std::vector<double> values;
    for (std::int64_t i = 0; i < element_count(shape); ++i)
      values.push_back(random_normal(9, stream, static_cast<std::uint64_t>(i)));
    return Tensor::from(backend_->runtime(), std::move(shape), values);
  }
  Tensor zeros(Shape shape) {
    Tensor tensor(backend_->runtime(), std::move(shape), Dtype::f64);
    backend_->fill(tensor, 0.0);
    return tensor;
  }
  /// In memory of its own.
  Tensor rows(const Tensor& of, Extent extent) {
    Tensor copy(backend_->runtime(), of.slice(extent.first, extent.count).shape(), Dtype::f64);
    backend_->cast(of.slice(extent.first, extent.count), copy);
    return copy;
  }
  Tensor columns(const Tensor& of, Extent extent) {
    Tensor copy(backend_->runtime(), {of.dim(0), extent.count}, Dtype::f64);
    backend_->copy({of, extent.first, extent.count}, copy);
    return copy;
  }
  static void expect_same(const Tensor& ours, const Tensor& expected, const char* what) {
    EXPECT_EQ(ours.shape(), expected.shape()) << what;
    EXPECT_LE(relative_error(ours, expected), tolerance::f64_reordered) << what;
  }

  std::unique_ptr<Backend> backend_ = make_reference_backend();
};

struct Sizes {
  std::int64_t rows, inputs, outputs;
};
// Nothing; fewer rows than ranks; odd; products that travel in blocks, of unequal widths too.
constexpr Sizes sizes[] = {{0, 8, 12}, {1, 8, 12}, {37, 24, 36}, {2051, 12, 130}, {2051, 12, 259}};

TEST_F(Layers, ColumnParallelLinearIsLinear) {
  for (const auto& [n, inputs, outputs] : sizes) {
    SCOPED_TRACE(n);
    const Tensor x = random({n, inputs}, 1), w = random({outputs, inputs}, 2), b = random({outputs}, 3),
                 dy = random({n, outputs}, 4);
    const Weight weight{w, zeros(w.shape())};
    const Vector bias{b, zeros(b.shape())};
    Tape whole(*backend_, Recording::on);
    const Var all_x(x), y = linear(whole, all_x, weight, bias);
    y.accumulate(*backend_, rows(dy, {0, n}));
    whole.backward();

    const RowShards shards(*world(), n);
    const Extent my_rows{shards.first(), shards.count()}, mine = own(outputs);
    const Weight part{rows(w, mine), zeros({mine.count, inputs})};
    const Vector bias_part{rows(b, mine), zeros({mine.count})};
    Tape tape(*backend_, Recording::on);
    const Var own_x(rows(x, my_rows)), own_y = column_parallel_linear(tape, own_x, part, bias_part, shards);
    expect_same(own_y.value(), columns(y.value(), mine), "y");
    own_y.accumulate(*backend_, columns(dy, mine));
    tape.backward();
    expect_same(own_x.gradient(), rows(all_x.gradient(), my_rows), "dx");
    expect_same(part.gradient, rows(weight.gradient, mine), "dW");
    expect_same(bias_part.gradient, rows(bias.gradient, mine), "db");
  }
}

TEST_F(Layers, RowParallelLinearIsLinear) {
  for (const auto& [n, inputs, outputs] : sizes) {
    SCOPED_TRACE(n);
    const Tensor x = random({n, inputs}, 1), w = random({outputs, inputs}, 2), b = random({outputs}, 3),
                 dy = random({n, outputs}, 4);
    const Weight weight{w, zeros(w.shape())};
    const Vector bias{b, zeros(b.shape())};
    Tape whole(*backend_, Recording::on);
    const Var all_x(x), y = linear(whole, all_x, weight, bias);
    y.accumulate(*backend_, rows(dy, {0, n}));
    whole.backward();

    const RowShards shards(*world(), n);
    const Extent my_rows{shards.first(), shards.count()}, mine = own(inputs);
    const Weight part{columns(w, mine), zeros({outputs, mine.count})};
    const Vector everybodys{b, zeros(b.shape())};
    Tape tape(*backend_, Recording::on);
    const Var own_x(columns(x, mine)), own_y = row_parallel_linear(tape, {{own_x, part, everybodys}}, shards);
    expect_same(own_y.value(), rows(y.value(), my_rows), "y");
    own_y.accumulate(*backend_, rows(dy, my_rows));
    tape.backward();
    expect_same(own_x.gradient(), columns(all_x.gradient(), mine), "dx");
    expect_same(part.gradient, columns(weight.gradient, mine), "dW");
    const Tensor db = everybodys.gradient;  // a part on each rank
    world()->all_reduce(std::span(db.data<double>(), static_cast<std::size_t>(db.elements())), Reduce::sum);
    expect_same(db, bias.gradient, "db");
  }
}

/// Two products into one sum are the sum of two layers.
TEST_F(Layers, RowParallelLinearOfSeveralProductsIsTheirSum) {
  for (const auto& [n, inputs, outputs] : sizes) {
    SCOPED_TRACE(n);
    const RowShards shards(*world(), n);
    const Extent my_rows{shards.first(), shards.count()};
    const Tensor dy = rows(random({n, outputs}, 1), my_rows);
    std::vector<Var> xs;
    std::vector<Weight> weights;
    std::vector<Vector> biases;
    for (const std::int64_t width : {inputs, 2 * inputs}) {
      const Extent mine = own(width);
      const auto seed = static_cast<std::uint64_t>(10 * width);
      xs.emplace_back(columns(random({n, width}, seed), mine));
      weights.push_back({columns(random({outputs, width}, seed + 1), mine), zeros({outputs, mine.count})});
      biases.push_back({random({outputs}, seed + 2), zeros({outputs})});
    }
    const auto run = [&](bool at_once) {
      Tape tape(*backend_, Recording::on);
      std::vector<Var> ys;
      if (at_once) {
        ys.push_back(
            row_parallel_linear(tape, {{xs[0], weights[0], biases[0]}, {xs[1], weights[1], biases[1]}}, shards));
      } else {
        for (std::size_t i = 0; i < 2; ++i)
          ys.push_back(row_parallel_linear(tape, {{xs[i], weights[i], biases[i]}}, shards));
      }
      for (const Var& y : ys) y.accumulate(*backend_, rows(dy, {0, my_rows.count}));
      tape.backward();
      Tensor sum = ys[0].value();
      if (!at_once) backend_->add(ys[1].value(), sum);
      std::vector<Tensor> results = {sum};
      for (const Var& x : xs) results.push_back(x.take_gradient());
      for (std::size_t i = 0; i < 2; ++i) {
        for (const Tensor& gradient : {weights[i].gradient, biases[i].gradient}) {
          results.push_back(rows(gradient, {0, gradient.rows()}));
          backend_->fill(gradient, 0);
        }
      }
      return results;
    };
    const std::vector<Tensor> apart = run(false), together = run(true);
    for (std::size_t i = 0; i < apart.size(); ++i) expect_same(together[i], apart[i], std::to_string(i).c_str());
  }
}

TEST_F(Layers, VocabularyEmbeddingIsEmbedding) {
  for (const std::int64_t vocab : {2, 257}) {
    for (const std::int64_t n : {0, 1, 37}) {
      SCOPED_TRACE(n);
      const RowShards shards(*world(), n);
      const Extent my_rows{shards.first(), shards.count()}, mine = own(vocab);
      std::vector<std::int32_t> ids, places;
      for (std::int64_t i = 0; i < n; ++i) {
        ids.push_back(static_cast<std::int32_t>(random_bits(1, 2, static_cast<std::uint64_t>(i)) %
                                                static_cast<std::uint64_t>(vocab)));
        places.push_back(static_cast<std::int32_t>(i * 7 % 50));
      }
      const auto index = [&](const std::vector<std::int32_t>& values) {
        return Tensor::from(backend_->runtime(), {static_cast<std::int64_t>(values.size())}, values);
      };
      const Tensor table = random({vocab, 6}, 1), learned = random({50, 6}, 2), constant = random({n, 6}, 3),
                   dx = random({n, 6}, 4);
      const Lookup all{index(ids), {table, zeros(table.shape())}},
          all_places{index(places), {learned, zeros(learned.shape())}};
      Tape whole(*backend_, Recording::on);
      const Var x = embedding(whole, {all, all_places}, constant, Dtype::f64);
      x.accumulate(*backend_, rows(dx, {0, n}));
      whole.backward();

      const Lookup tokens{index(slice_ids(ids, vocab, *world())), {rows(table, mine), zeros({mine.count, 6})}};
      const std::vector<std::int32_t> my_places(places.begin() + my_rows.first,
                                                places.begin() + my_rows.first + my_rows.count);
      const PositionTerms positions{{index(my_places), {learned, zeros(learned.shape())}}, rows(constant, my_rows)};
      Tape tape(*backend_, Recording::on);
      const Var own_x = vocabulary_embedding(tape, tokens, positions, Dtype::f64, shards);
      expect_same(own_x.value(), rows(x.value(), my_rows), "x");
      own_x.accumulate(*backend_, rows(dx, my_rows));
      tape.backward();
      expect_same(tokens.table.gradient, rows(all.table.gradient, mine), "table");
      const Tensor places_gradient = positions.lookup.table.gradient;  // a part on each rank
      world()->all_reduce(
          std::span(places_gradient.data<double>(), static_cast<std::size_t>(places_gradient.elements())), Reduce::sum);
      expect_same(places_gradient, all_places.table.gradient, "positions");
    }
  }
}

TEST_F(Layers, VocabularyCrossEntropyIsThatOfTheWholeInAnyNumberOfChunks) {
  constexpr std::int64_t width = 5;
  for (const auto& [n, vocab] :
       {std::pair<std::int64_t, std::int64_t>{0, 11}, {1, 11}, {37, 2}, {37, 257}, {700, 4001}}) {
    SCOPED_TRACE(n);
    std::vector<std::int32_t> targets;
    for (std::int64_t i = 0; i < n; ++i)
      targets.push_back(i % 5 == 3 ? -1
                                   : static_cast<std::int32_t>(random_bits(1, 3, static_cast<std::uint64_t>(i)) %
                                                               static_cast<std::uint64_t>(vocab)));
    const Tensor h = random({n, width}, 1), w = random({vocab, width}, 2);
    const Weight weight{w, zeros(w.shape())};
    Tape whole(*backend_, Recording::on);
    const Var all_h(h);
    const double cap = n % 2 == 1 ? 1.5 : 0;
    const Tensor nll =
        linear_cross_entropy(whole, all_h, weight, Tensor::from(backend_->runtime(), {n}, targets), 0.1, cap);
    whole.backward();

    const RowShards shards(*world(), n);
    const Extent my_rows{shards.first(), shards.count()}, mine = own(vocab);
    const Weight part{rows(w, mine), zeros({mine.count, width})};
    const Tensor local = Tensor::from(backend_->runtime(), {n}, slice_targets(targets, vocab, *world()));
    Tape tape(*backend_, Recording::on);
    const Var own_h(rows(h, my_rows));
    expect_same(vocabulary_cross_entropy(tape, own_h, part, local, vocab, 0.1, shards, cap), nll, "nll");
    tape.backward();
    expect_same(own_h.gradient(), rows(all_h.gradient(), my_rows), "dh");
    expect_same(part.gradient, rows(weight.gradient, mine), "dW");

    Tensor logits(backend_->runtime(), {n, vocab}, Dtype::f64);
    backend_->linear(h, w, Tensor(), logits);
    if (cap > 0) backend_->soft_cap(logits, cap);
    expect_same(vocabulary_logits(*backend_, h, part, vocab, *world(), cap), logits, "logits");
  }
}

}  // namespace
}  // namespace lexring
