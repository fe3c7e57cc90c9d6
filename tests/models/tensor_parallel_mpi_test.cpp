// A model over tensor-parallel ranks against the same model on one: loss, every parameter's gradient, logits,
// streaming, messages. Every rank computes the whole as well, and compares its own part with it.
#include <cmath>

#include <gtest/gtest.h>

#include "framework/nn/init.h"
#include "parallel/collectives.h"
#include "parallel/tensor/replicated.h"
#include "tests/models/model_testing.h"
#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

using testing::world;

/// The elements of a whole array that a rank's part of it holds.
std::vector<double> part_of_values(const Parameter& part, const std::vector<double>& whole) {
  const bool matrix = part.full_shape.size() == 2;
  const std::int64_t columns = matrix ? part.value.dim(1) : 1, full_columns = matrix ? part.full_shape[1] : 1;
  std::vector<double> values;
  for (std::int64_t row = part.offset[0]; row < part.offset[0] + part.value.dim(0); ++row) {
    const auto first = whole.begin() + row * full_columns + (matrix ? part.offset[1] : 0);
    values.insert(values.end(), first, first + columns);
  }
  return values;
}

double largest(const std::vector<double>& values) {
  double result = 0;
  for (const double v : values) result = std::isfinite(v) ? std::max(result, std::abs(v)) : v;
  return result;
}

/// ||a - b|| / ||b||, or NaN if anything is.
double error_of(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return std::nan("");
  double difference = 0, size = 1e-300;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

/// The same weights on one rank and on the tensor-parallel ranks of a mesh.
struct Twins {
  SmallModel whole;
  Context context;
  std::unique_ptr<Backend> backend;
  Transformer part;

  using MakeBackend = std::unique_ptr<Backend> (*)();
  Twins(const ModelConfig& config, const ModelRuntime& how, MakeBackend device = make_reference_backend,
        int tp = world()->size())
      : whole(config, how, device()),
        context(world(), make_mesh(world()->size(), 0, 1, tp)),
        backend(device()),
        part(config, how, context, *backend) {
    for (std::size_t i = 0; i < part.parameters().size(); ++i) {
      const Parameter& parameter = part.parameters()[i];
      set_values(parameter, part_of_values(parameter, host_values(whole.model.parameters()[i].value)));
    }
    part.refresh_compute();
  }

  /// Sums gradients of what several ranks hold, as parallel/data does.
  void sum_replicated() { ReplicatedGradients(context.axis(Axis::tp), part.trained()).sum(part.trained()); }

  /// Each gradient against its part of the whole's; what is tiny beside all others is compared with them.
  void expect_same_gradients(double tolerance) {
    double greatest = 0;
    for (const Parameter& parameter : whole.model.trained())
      greatest = std::max(greatest, largest(host_values(parameter.gradient)));
    for (std::size_t i = 0; i < part.trained().size(); ++i) {
      const Parameter& parameter = part.trained()[i];
      const std::vector<double> all = host_values(whole.model.trained()[i].gradient),
                                ours = host_values(parameter.gradient);
      std::vector<double> difference = part_of_values(parameter, all);
      for (std::size_t k = 0; k < ours.size(); ++k) difference[k] -= ours[k];
      EXPECT_LE(largest(difference), tolerance * (largest(all) + 1e-3 * greatest)) << parameter.name;
    }
  }
};

struct Case {
  std::string name;
  ModelConfig config;
  bool documents = false;
};

/// Covers the options of the model; heads and widths that 2, 3, 4 and 8 ranks can share.
std::vector<Case> cases() {
  const bool three = world()->size() == 3;
  const auto base = [&](const std::string& position, const std::string& pattern, std::int64_t kv_heads,
                        std::int64_t vocab) {
    ModelConfig config = small_config(position, pattern);
    config.heads = three ? 6 : 8;
    config.width = config.heads * 4;
    config.kv_heads = three && kv_heads == 2 ? 3 : three && kv_heads == 4 ? 6 : kv_heads;
    config.vocab = vocab;
    return config;
  };
  Case lex{"lex", base("xpos", "blockwise", 4, 257), true};
  lex.config.sub_norm = true;
  Case llama{"llama", base("rope", "causal", 2, 23)};
  llama.config.norm = NormKind::rmsnorm;
  llama.config.ffn = Ffn::swiglu;
  llama.config.bias = llama.config.tied = false;
  Case learned{"learned", base("learned", "window", 1, 5)};  // fewer tokens in the vocabulary than ranks may be
  learned.config.layers = 1;
  Case alibi{"alibi", base("alibi", "sink_window", 2, 257), true};
  alibi.config.ffn = Ffn::swiglu;
  alibi.config.sub_norm = true;
  alibi.config.tied = false;
  alibi.config.attention.forget_gate = true;
  Case sinusoidal{"sinusoidal", base("sinusoidal", "causal", 8, 64)};
  if (three) sinusoidal.config.kv_heads = 6;
  Case kerple{"kerple", base("kerple_log", "window", 2, 61), true};
  kerple.config.attention.ssmax = true;
  kerple.config.attention.forget_gate = true;
  kerple.config.logit_softcap = 0.6;
  Case parallel{"parallel", base("rope", "causal", 2, 23), true};
  parallel.config.head_width = 6;
  parallel.config.ffn = Ffn::gelu_tanh;
  parallel.config.bias = false;
  parallel.config.qkv_bias = parallel.config.qk_norm = parallel.config.parallel = parallel.config.sub_norm = true;
  Case lora{"lora", base("rope", "causal", 2, 23), true};
  lora.config.adapter.rank = 3;
  lora.config.adapter.targets = {AdapterTarget::query, AdapterTarget::value, AdapterTarget::output, AdapterTarget::gate,
                                 AdapterTarget::down};
  lora.config.adapter.trainable = "norm,embedding";
  lora.config.ffn = Ffn::swiglu;
  Case landmarks{"landmarks", base("alibi", "causal", 2, 23), true};
  landmarks.config.attention.normalizer = Normalizer::landmark;
  landmarks.config.attention.landmark_every = 7;
  landmarks.config.attention.landmark_token = 5;
  return {lex,
          llama,
          learned,
          alibi,
          sinusoidal,
          kerple,
          parallel,
          lora,
          {"sandwich", base("sandwich", "causal", 4, 23)},
          {"fire", base("fire", "causal", 4, 23)},
          landmarks};
}

ModelBatch batch_of(const Case& c, std::int64_t sequences, std::int64_t length) {
  return small_batch(sequences, length, c.config.vocab, c.documents, c.config.attention.sinks);
}

constexpr ModelRuntime f64{.precision = Precision::fp64};
constexpr double same_sums = 1e-11;  // in f64, in another order

TEST(TensorParallel, LossAndGradientsAreThoseOfOneRank) {
  for (const Case& c : cases()) {
    for (const auto& [sequences, length] : {std::pair{2, 19}, {1, 37}, {1, 1}, {1, 3}, {0, 0}}) {
      SCOPED_TRACE(::testing::Message() << c.name << ", " << sequences << " x " << length);
      Twins twins(c.config, f64);
      const ModelBatch batch = batch_of(c, sequences, length);
      const LossResult expected = twins.whole.model.train_step(batch, 0.03), ours = twins.part.train_step(batch, 0.03);
      EXPECT_NEAR(ours.nll_sum(), expected.nll_sum(), same_sums * (1 + expected.nll_sum()));
      EXPECT_EQ(ours.nll.shape(), expected.nll.shape());
      EXPECT_LE(error_of(host_values(ours.nll), host_values(expected.nll)), same_sums);
      twins.sum_replicated();
      twins.expect_same_gradients(same_sums);
    }
  }
}

TEST(TensorParallel, MicroBatchesAndReplicasOfUnequalLoadsAddUp) {
  const int tp = world()->size() % 2 == 0 ? 2 : world()->size();
  const Case c = cases()[1];
  Twins twins(c.config, f64, make_reference_backend, tp);
  const auto micro_batch = [&](int replica, int n) { return batch_of(c, 1, 5 + 4 * replica + 3 * n); };
  Communicator& replicas = twins.context.replicas();
  for (int n = 0; n < 2; ++n) {
    for (int r = 0; r < replicas.size(); ++r) twins.whole.model.train_step(micro_batch(r, n), 0.1);
    twins.part.train_step(micro_batch(replicas.rank(), n), 0.1);
  }
  twins.sum_replicated();
  const Tensor gradients = twins.part.gradients();
  replicas.all_reduce(std::span(gradients.data<double>(), static_cast<std::size_t>(gradients.elements())), Reduce::sum);
  twins.expect_same_gradients(same_sums);

  double squares = 0;
  for (const Parameter& parameter : twins.part.parameters()) {
    if (parameter.copy == 0) squares += twins.backend->sum_of_squares(parameter.gradient);
  }
  twins.context.axis(Axis::tp).all_reduce(std::span(&squares, 1), Reduce::sum);
  const double whole = twins.whole.backend->sum_of_squares(twins.whole.model.gradients());
  EXPECT_NEAR(squares, whole, same_sums * whole) << "copies counted once make the global norm";
}

TEST(TensorParallel, LogitsEvaluationAndStreamingAreThoseOfOneRank) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    Twins twins(c.config, f64);
    Case whole_documents = c;
    whole_documents.documents = false;
    const std::int64_t length = 26;
    const ModelBatch batch = batch_of(whole_documents, 1, length), two = batch_of(c, 2, 9);
    for (const auto rows : {Transformer::Rows::all, Transformer::Rows::last}) {
      const Tensor ours = twins.part.logits(two, rows), expected = twins.whole.model.logits(two, rows);
      EXPECT_EQ(ours.shape(), expected.shape());
      EXPECT_LE(error_of(host_values(ours), host_values(expected)), same_sums);
    }
    const std::vector<double> expected = host_values(twins.whole.model.evaluate(batch).nll);
    EXPECT_LE(error_of(host_values(twins.part.evaluate(batch).nll), expected), same_sums);
    const auto cache = twins.part.make_cache();
    std::vector<double> streamed;
    for (std::int64_t first = 0; first < length;) {
      const std::int64_t count = std::min<std::int64_t>(first % 3 == 0 ? 1 : 6, length - first);
      ModelBatch chunk;
      for (std::int64_t i = first; i < first + count; ++i) {
        chunk.tokens.position.push_back(i);
        chunk.ids.push_back(batch.ids[static_cast<std::size_t>(i)]);
        chunk.targets.push_back(batch.targets[static_cast<std::size_t>(i)]);
      }
      chunk.tokens.sequences = {{0, 0, count}};
      for (const double nll : host_values(twins.part.evaluate(chunk, cache.get()).nll)) streamed.push_back(nll);
      first += count;
    }
    EXPECT_LE(error_of(streamed, expected), same_sums) << "streamed";
  }
}

TEST(TensorParallel, InitialValuesAreThoseOfOneRank) {
  for (const Case& c : cases()) {
    Twins twins(c.config, f64);
    twins.whole.model.initialise(7);
    twins.part.initialise(7);
    EXPECT_EQ(twins.part.parameter_count(), twins.whole.model.parameter_count());
    for (std::size_t i = 0; i < twins.part.parameters().size(); ++i) {
      const Parameter& parameter = twins.part.parameters()[i];
      EXPECT_EQ(host_values(parameter.value),
                part_of_values(parameter, host_values(twins.whole.model.parameters()[i].value)))
          << parameter.name;
    }
  }
}

TEST(TensorParallel, F32AndBf16OfTheCpuBackendAreAsGoodAsOnOneRank) {
  const std::vector<Case> all = cases();
  for (const Case& c : {all[0], all[1]}) {
    SCOPED_TRACE(c.name);
    const ModelBatch batch = batch_of(c, 2, 19);
    SmallModel exact(c.config, f64);
    exact.model.train_step(batch, 0.05);
    for (const ModelRuntime& how :
         {ModelRuntime{.precision = Precision::fp32}, ModelRuntime{.precision = Precision::bf16},
          ModelRuntime{.precision = Precision::bf16, .residual = Dtype::bf16, .recompute = Recompute::attention}}) {
      Twins twins(c.config, how, make_cpu_backend);
      twins.whole.model.train_step(batch, 0.05);
      twins.part.train_step(batch, 0.05);
      twins.sum_replicated();
      // Errors of all gradients together: those of this rank's parts, and of the same parts on one rank.
      std::vector<double> ours, one_rank, expected;
      for (std::size_t i = 0; i < twins.part.trained().size(); ++i) {
        const Parameter& parameter = twins.part.trained()[i];
        for (const double g : host_values(parameter.gradient)) ours.push_back(g);
        for (const double g : part_of_values(parameter, host_values(twins.whole.model.trained()[i].gradient)))
          one_rank.push_back(g);
        for (const double g : part_of_values(parameter, host_values(exact.model.trained()[i].gradient)))
          expected.push_back(g);
      }
      EXPECT_LE(error_of(ours, expected), 2 * error_of(one_rank, expected));
    }
  }
}

TEST(TensorParallel, BytesAreThoseOfTheFormula) {
  if (world()->size() == 1) return;  // nothing is sent
  for (const bool sub_norm : {false, true}) {
    for (const Recompute what : {Recompute::none, Recompute::attention, Recompute::ffn, Recompute::layer}) {
      ModelConfig config = cases()[0].config;
      config.sub_norm = config.attention.forget_gate = sub_norm;
      Twins twins(config, {.precision = Precision::fp32, .recompute = what});
      Communicator& tp = twins.context.axis(Axis::tp);
      const auto sent = [&] {
        std::uint64_t bytes = 0;
        for (const CommRecord& record : tp.records()) bytes += record.bytes;
        return bytes;
      };
      const std::uint64_t before = sent();
      const std::int64_t rows = 37, ranks = tp.size();
      twins.part.train_step(small_batch(1, rows, config.vocab, false), 1.0);

      const RowShards shards(tp, rows);
      const std::int64_t gather = shards.count() * config.width * (ranks - 1);
      const std::int64_t scatter = (rows - shards.count()) * config.width;
      // Each layer: forward two gathers and two scatters; backward as many, and two gathers again of what was not kept.
      std::int64_t layer = 6 * gather + 4 * scatter;
      std::int64_t again = 0;
      if (what == Recompute::attention || what == Recompute::ffn) again = gather;
      if (what == Recompute::layer) again = 2 * gather + scatter;  // not what the last product scatters
      if (sub_norm) {
        // There and back, both ways: rows of the own columns to others, others' columns of the own rows.
        const auto round = [&](std::int64_t width) {
          return (rows - shards.count()) * width / ranks + shards.count() * (width - width / ranks);
        };
        const std::int64_t gates = (rows - shards.count()) * config.heads / ranks,
                           own_gates = shards.count() * (config.heads - config.heads / ranks);
        layer += 2 * (round(config.width) + round(config.ffn_width)) + gates + own_gates;
        if (what == Recompute::attention || what == Recompute::layer) again += round(config.width) + own_gates;
        if (what == Recompute::ffn || what == Recompute::layer) again += round(config.ffn_width);
      }
      // The embedding scatters, and its gradient is gathered; the loss the other way round, with two statistics per
      // row.
      const std::int64_t ends = 2 * (gather + scatter) + 2 * rows * (ranks - 1);
      EXPECT_EQ(sent() - before, static_cast<std::uint64_t>(4 * (config.layers * (layer + again) + ends)));
    }
  }
}

TEST(TensorParallel, OnlyShardsLiveBetweenLayers) {
  ModelConfig config = cases()[1].config;
  config.layers = 6;
  Twins twins(config, {.precision = Precision::fp32});
  const ModelBatch batch = small_batch(1, 128, config.vocab, false);
  const auto peak = [&](Transformer& model, Backend& backend) {
    model.train_step(batch, 1.0);
    backend.runtime().reset_peak();
    const std::size_t before = backend.runtime().memory().current;
    model.train_step(batch, 1.0);
    return static_cast<double>(backend.runtime().memory().peak - before);
  };
  const double one = peak(twins.whole.model, *twins.whole.backend), ours = peak(twins.part, *twins.backend);
  // Gathered inputs and gradients are whole for a moment, a few at a time; what six layers keep is cut.
  const double whole_activation = 4.0 * static_cast<double>(batch.tokens.rows() * config.width);
  EXPECT_LT(ours, one / world()->size() + 4 * whole_activation);
}

}  // namespace
}  // namespace lexring
