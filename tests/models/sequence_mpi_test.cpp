// One model on cp = ring x ulysses ranks equals itself on one: losses, every parameter's gradient, evaluation, logits,
// streams.
#include <cmath>
#include <numeric>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "framework/nn/init.h"
#include "models/sampling.h"
#include "tests/models/model_testing.h"
#include "tests/support/mpi_world.h"
#include "tests/support/tolerances.h"

namespace lexring {
namespace {

using testing::world;

struct Layout {
  int dp, cp, ulysses;
  PartitionKind partition;
  Exchange exchange;
};

/// Every way that the ranks of this run can share a sequence of a model with 4 heads.
std::vector<Layout> layouts() {
  const int ranks = world()->size();
  std::vector<Layout> all;
  for (const PartitionKind kind :
       {PartitionKind::automatic, PartitionKind::contiguous, PartitionKind::zigzag, PartitionKind::striped}) {
    for (const Exchange exchange : {Exchange::automatic, Exchange::ring, Exchange::halo})
      all.push_back({1, ranks, 1, kind, exchange});
    if (ranks == 4) all.push_back({1, 4, 2, kind, Exchange::automatic});
  }
  if (4 % ranks == 0) all.push_back({1, ranks, ranks, PartitionKind::automatic, Exchange::automatic});
  if (ranks == 4) all.push_back({2, 2, 1, PartitionKind::automatic, Exchange::automatic});
  return all;
}

/// A model on a mesh with the weights of another.
struct SharedModel {
  Context context;
  std::unique_ptr<Backend> backend = make_reference_backend();
  Transformer model;

  SharedModel(const Layout& layout, SmallModel& other, Recompute recompute = Recompute::none)
      : context(world(), make_mesh(world()->size(), layout.dp, layout.cp, 1, layout.ulysses)),
        model(other.model.config(),
              {.precision = Precision::fp64,
               .recompute = recompute,
               .partition = layout.partition,
               .exchange = layout.exchange},
              context, *backend) {
    for (std::size_t i = 0; i < model.parameters().size(); ++i) {
      set_values(model.parameters()[i], host_values(other.model.parameters()[i].value));
    }
    model.refresh_compute();
    zero_gradients(model);
  }
  Communicator& cp() { return context.axis(Axis::cp); }
  double sum(double value) {
    cp().all_reduce(std::span<double>(&value, 1), Reduce::sum);
    return value;
  }
};

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::isnan(a[i] - b[i]) ? INFINITY : std::abs(a[i] - b[i]));
  return largest;
}

void expect_same(SmallModel& alone, SharedModel& shared, const ModelBatch& batch) {
  zero_gradients(alone.model);
  const LossResult expected = alone.model.train_step(batch, 0.125);
  const LossResult ours = shared.model.train_step(batch, 0.125);
  EXPECT_NEAR(shared.sum(ours.nll_sum()), expected.nll_sum(), 1e-10);
  for (std::size_t i = 0; i < shared.model.parameters().size(); ++i) {
    const Parameter& parameter = shared.model.parameters()[i];
    std::vector<double> gradient = parameter.gradient.to_host<double>();
    shared.cp().all_reduce(std::span<double>(gradient), Reduce::sum);
    EXPECT_LT(largest_difference(gradient, alone.model.parameters()[i].gradient.to_host<double>()), 1e-10)
        << parameter.name;
  }
  const LossResult evaluated = shared.model.evaluate(batch);
  EXPECT_NEAR(shared.sum(evaluated.nll_sum()), expected.nll_sum(), 1e-10);
  EXPECT_LT(largest_difference(evaluated.nll.to_host<double>(), expected.nll.to_host<double>()), 1e-11);
  EXPECT_NEAR(shared.sum(shared.model.step_flops(batch)), alone.model.step_flops(batch), 1e-3);
}

TEST(ModelOverRanks, EveryLayoutAndPatternEqualsOneRank) {
  for (const char* pattern : {"causal", "window", "blockwise", "sink_window"}) {
    ModelConfig config = small_config("xpos", pattern);
    config.kv_heads = 2;
    SmallModel alone(config, {.precision = Precision::fp64});
    for (const Layout& layout : layouts()) {
      SCOPED_TRACE(fmt::format("{} cp {} ulysses {} {} {}", pattern, layout.cp, layout.ulysses,
                               name_of(layout.partition), name_of(layout.exchange)));
      for (const bool documents : {false, true}) {
        SharedModel shared(layout, alone, documents ? Recompute::layer : Recompute::none);
        expect_same(alone, shared, small_batch(2, 29, config.vocab, documents, config.attention.sinks));
      }
    }
  }
}

TEST(ModelOverRanks, EveryPositionMethodEqualsOneRank) {
  for (const PositionMethod& method : PositionMethod::table()) {
    const char* const position = method.name;
    for (const std::int64_t kv_heads : {1, 4}) {
      ModelConfig config = small_config(position);
      config.kv_heads = kv_heads;
      SmallModel alone(config, {.precision = Precision::fp64});
      for (const int ulysses : {1, world()->size()}) {
        if (4 % ulysses != 0) continue;
        SCOPED_TRACE(fmt::format("{} {} key heads ulysses {}", position, kv_heads, ulysses));
        SharedModel shared({1, world()->size(), ulysses, PartitionKind::automatic, Exchange::automatic}, alone);
        expect_same(alone, shared, small_batch(3, 11, config.vocab, true));
      }
    }
  }
}

TEST(ModelOverRanks, CoordinatesGoWithTheirTokens) {
  for (const auto& [position, pattern] : {std::pair{"xpos", "window"}, {"alibi", "causal"}}) {
    ModelConfig config = small_config(position, pattern);
    config.attention.logn_base = 4;
    SmallModel alone(config, {.precision = Precision::fp64});
    ModelBatch batch = small_batch(2, 29, config.vocab, true);
    draw_positions(batch, {.kind = "cape", .global_shift = 9, .local_shift = 0.5, .global_scale = 1.5}, 1, 0);
    for (const Layout& layout : layouts()) {
      if (layout.exchange != Exchange::automatic) continue;
      SCOPED_TRACE(
          fmt::format("{} cp {} ulysses {} {}", position, layout.cp, layout.ulysses, name_of(layout.partition)));
      SharedModel shared(layout, alone);
      expect_same(alone, shared, batch);
    }
  }
}

TEST(ModelOverRanks, FactorsOnQueriesEqualThoseOfOneRank) {
  for (const char* pattern : {"causal", "sink_window"}) {
    ModelConfig config = small_config("none", pattern);
    config.attention.logn_base = 4;
    config.attention.floor_scale = 5;
    config.attention.ssmax = true;
    config.logit_softcap = 0.6;
    SmallModel alone(config, {.precision = Precision::fp64});
    for (const Layout& layout : layouts()) {
      if (layout.exchange == Exchange::halo) continue;
      SCOPED_TRACE(
          fmt::format("{} cp {} ulysses {} {}", pattern, layout.cp, layout.ulysses, name_of(layout.partition)));
      SharedModel shared(layout, alone, Recompute::attention);
      expect_same(alone, shared, small_batch(2, 29, config.vocab, true, config.attention.sinks));
    }
  }
}

TEST(ModelOverRanks, AForgetGateEqualsThatOfOneRank) {
  for (const char* pattern : {"causal", "sink_window", "shifted"}) {
    ModelConfig config = small_config("alibi", pattern);
    config.kv_heads = 2;
    config.attention.forget_gate = true;
    config.override[1] = small_config("none", "window").layer(1);
    config.override[1].attention.forget_gate = true;
    config.override[1].attention.normalizer = Normalizer::relu;
    SmallModel alone(config, {.precision = Precision::fp64});
    const bool far = config.attention.pattern == "causal", pieces = config.attention.pattern->halves;
    for (const Layout& layout : layouts()) {
      const bool ring_alone = layout.ulysses == 1 && layout.dp == 1;
      if (ring_alone ? layout.partition == PartitionKind::automatic ||
                           layout.exchange != (far || pieces ? Exchange::ring : Exchange::halo)
                     : !far)
        continue;
      if (pieces && layout.partition != PartitionKind::zigzag) continue;
      SCOPED_TRACE(fmt::format("{} cp {} ulysses {} {} {}", pattern, layout.cp, layout.ulysses,
                               name_of(layout.partition), name_of(layout.exchange)));
      SharedModel shared(layout, alone, layout.exchange == Exchange::ring ? Recompute::layer : Recompute::none);
      expect_same(alone, shared, small_batch(2, 29, config.vocab, true, config.attention.sinks));
      if (layout.partition != PartitionKind::striped) continue;
      zero_gradients(shared.model);
      expect_same(alone, shared, small_batch(2, 1, config.vocab, false, config.attention.sinks));
    }
  }
}

/// Blocks lie on several ranks: with stripes each on all.
TEST(ModelOverRanks, LandmarksEqualThoseOfOneRank) {
  ModelConfig config = landmark_config("t5");
  config.kv_heads = 2;
  config.override[1] = small_config("rope", "window").layer(1);
  SmallModel alone(config, {.precision = Precision::fp64});
  for (const Layout& layout : layouts()) {
    if (layout.exchange != Exchange::automatic) continue;  // keys are gathered
    SCOPED_TRACE(fmt::format("cp {} ulysses {} {}", layout.cp, layout.ulysses, name_of(layout.partition)));
    SharedModel shared(layout, alone, Recompute::layer);
    expect_same(alone, shared, small_batch(2, 29, config.vocab, true));
    zero_gradients(shared.model);
    expect_same(alone, shared, small_batch(2, 1, config.vocab, false));
  }
}

TEST(ModelOverRanks, LayersThatDifferShareOnePartition) {
  ModelConfig config = small_config("t5", "window");
  config.override[1] = small_config("rope").layer(1);
  SmallModel alone(config, {.precision = Precision::fp64});
  for (const Layout& layout : layouts()) {
    if (layout.exchange == Exchange::halo) continue;  // one layer sees everything
    SCOPED_TRACE(fmt::format("cp {} ulysses {} {}", layout.cp, layout.ulysses, name_of(layout.partition)));
    SharedModel shared(layout, alone);
    expect_same(alone, shared, small_batch(2, 29, config.vocab, true));
  }
}

/// What was made of one batch must not serve another.
TEST(ModelOverRanks, AModelMeetsOneBatchAfterAnother) {
  const ModelConfig config = small_config("xpos", "blockwise");
  for (const Layout& layout : layouts()) {
    SmallModel first(config, {.precision = Precision::fp64});
    SharedModel shared(layout, first);
    for (const ModelBatch& batch : {small_batch(2, 29, config.vocab, false), small_batch(2, 29, config.vocab, true),
                                    small_batch(2, 29, config.vocab, false), small_batch(3, 11, config.vocab, true)}) {
      SmallModel fresh(config, {.precision = Precision::fp64});
      zero_gradients(shared.model);
      expect_same(fresh, shared, batch);
    }
  }
}

TEST(ModelOverRanks, ShortSequencesLeaveRanksWithoutTokens) {
  const ModelConfig config = small_config();
  SmallModel alone(config, {.precision = Precision::fp64});
  for (const Layout& layout : layouts()) {
    SharedModel shared(layout, alone);
    expect_same(alone, shared, small_batch(2, 1, config.vocab, false));
  }
}

TEST(ModelOverRanks, LogitsAreOfTheWholeBatchOnEveryRank) {
  const ModelConfig config = small_config();
  SmallModel alone(config, {.precision = Precision::fp64});
  const ModelBatch batch = small_batch(2, 13, config.vocab, true);
  for (const Layout& layout : layouts()) {
    SharedModel shared(layout, alone);
    for (const auto rows : {Transformer::Rows::all, Transformer::Rows::last}) {
      EXPECT_LT(largest_difference(shared.model.logits(batch, rows).to_host<double>(),
                                   alone.model.logits(batch, rows).to_host<double>()),
                1e-11);
    }
  }
}

TEST(ModelOverRanks, StreamsAreSharedAndEqualTheWhole) {
  constexpr std::int64_t length = 40;
  for (const char* pattern : {"causal", "window", "sink_window"}) {
    ModelConfig config = small_config("xpos", pattern);
    config.attention.forget_gate = config.attention.pattern->window;
    SmallModel alone(config, {.precision = Precision::fp64});
    const ModelBatch whole = small_batch(1, length, config.vocab, false);
    const LossResult expected = alone.model.evaluate(whole);
    const std::vector<double> nll = expected.nll.to_host<double>();
    SharedModel shared({1, world()->size(), 1, PartitionKind::automatic, Exchange::automatic}, alone);
    const auto cache = shared.model.make_cache();
    double sum = 0;
    for (std::int64_t first = 0, rows = 1; first < length;
         first += rows, rows = std::min<std::int64_t>(9, length - first)) {
      const auto cut = [&](const auto& v) { return std::vector(v.begin() + first, v.begin() + first + rows); };
      ModelBatch chunk = make_batch(1, rows, cut(whole.ids), cut(whole.targets), {}, 0);
      std::iota(chunk.tokens.position.begin(), chunk.tokens.position.end(), first);
      const LossResult part = shared.model.evaluate(chunk, cache.get());
      EXPECT_LT(largest_difference(part.nll.to_host<double>(), cut(nll)), 1e-11) << pattern << " from " << first;
      sum += part.nll_sum();
    }
    EXPECT_NEAR(shared.sum(sum), expected.nll_sum(), 1e-10);
  }
}

TEST(ModelOverRanks, AProbeSeesTheRowsOfAllRanks) {
  constexpr std::int64_t length = 21;
  const ModelConfig config = small_config("t5");
  SmallModel alone(config, {.precision = Precision::fp64});
  const ModelBatch batch = small_batch(2, length, config.vocab, false);
  const auto score_sums = [&](Transformer& model) {
    std::vector<double> sums(length);
    std::vector<std::int64_t> counts(length);
    model.evaluate(batch, nullptr,
                   [&](std::int64_t, const AttentionForm& form, const ScoreBias& bias, const SharedRows& rows,
                       const Columns& q, const Columns& k) {
                     EXPECT_EQ(bias.distances(), length);
                     model.backend().attention_score_sums({form, rows, q, k, sums, counts});
                   });
    EXPECT_EQ(counts[0], config.layers * config.heads * 2 * length);
    return sums;
  };
  const std::vector<double> expected = score_sums(alone.model);
  for (const Layout& layout : layouts()) {
    if (layout.dp > 1) continue;
    SharedModel shared(layout, alone);
    EXPECT_LT(largest_difference(score_sums(shared.model), expected), 1e-10);
  }
}

TEST(ModelOverRanks, TensorParallelRanksShareEveryPlace) {
  if (world()->size() != 4) return;
  const ModelConfig config = small_config("alibi");
  SmallModel alone(config, {.precision = Precision::fp64});
  alone.model.initialise(5);
  const Context context(world(), make_mesh(4, 1, 2, 2));
  for (const PartitionKind kind : {PartitionKind::contiguous, PartitionKind::zigzag}) {
    const auto backend = make_reference_backend();
    Transformer model(config, {.precision = Precision::fp64, .partition = kind}, context, *backend);
    model.initialise(5);
    for (const std::int64_t length : {1, 15}) {
      const ModelBatch batch = small_batch(2, length, config.vocab, true);
      const LossResult expected = alone.model.train_step(batch, 1.0), ours = model.evaluate(batch);
      EXPECT_LT(largest_difference(ours.nll.to_host<double>(), expected.nll.to_host<double>()), 1e-11);
      EXPECT_LT(largest_difference(model.logits(batch, Transformer::Rows::all).to_host<double>(),
                                   alone.model.logits(batch, Transformer::Rows::all).to_host<double>()),
                1e-11);
      double sum = model.train_step(batch, 1.0).nll_sum();
      context.replicas().all_reduce(std::span<double>(&sum, 1), Reduce::sum);
      EXPECT_NEAR(sum, expected.nll_sum(), 1e-10);
    }
  }
}

TEST(ModelOverRanks, AnotherSizeOfUlyssesIsRefused) {
  if (world()->size() != 3) return;  // 4 heads over 3 ranks
  SmallModel alone(small_config(), {.precision = Precision::fp64});
  SharedModel shared({1, 3, 3, PartitionKind::automatic, Exchange::automatic}, alone);
  EXPECT_THROW(shared.model.evaluate(small_batch(1, 5, 23, false)), UsageError);
}

}  // namespace
}  // namespace lexring
