// What backward makes again changes neither loss nor gradients by a bit, on no mesh; attention and a stretch's last
// product run once.
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "framework/backend/cpu_backend.h"
#include "framework/backend/profiling.h"
#include "tests/models/model_testing.h"
#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

using testing::world;

/// What a training step gives on this rank, and what it did for it.
struct Step {
  std::vector<double> losses, gradients;
  std::map<std::string, std::uint64_t> calls;  ///< by kernel
  std::map<std::string, std::uint64_t> bytes;  ///< sent, by axis
};

std::uint64_t bytes_of(const Communicator& group) {
  std::uint64_t bytes = 0;
  for (const CommRecord& record : group.records()) bytes += record.bytes;
  return bytes;
}

Step train(const ModelConfig& config, const ModelRuntime& how, const Mesh& mesh, const ModelBatch& batch) {
  const Context context(world(), mesh);
  const auto backend = make_cpu_backend();
  ProfilingBackend counting(*backend);
  Transformer model(config, how, context, counting);
  model.initialise(3);
  zero_gradients(model);
  counting.reset();
  Step step;
  step.losses = host_values(model.train_step(batch, 0.1).own);
  step.gradients = host_values(model.gradients());
  for (const KernelTime& time : counting.times()) step.calls[time.kernel] = time.calls;
  step.bytes = {{"ring", bytes_of(context.ring())},
                {"ulysses", bytes_of(context.ulysses())},
                {"tp", bytes_of(context.axis(Axis::tp))}};
  return step;
}

struct Place {
  std::string name;
  Mesh mesh;
};

/// The ways in which the ranks of this run compute one batch together; 12 heads.
std::vector<Place> places() {
  const int ranks = world()->size();
  if (ranks == 1) return {{"alone", make_mesh(1, 1, 1, 1)}};
  if (ranks == 4) return {{"cp x tp", make_mesh(4, 1, 2, 2)}, {"ring x ulysses", make_mesh(4, 1, 4, 1, 2)}};
  return {{"cp", make_mesh(ranks, 1, ranks, 1)},
          {"tp", make_mesh(ranks, 1, 1, ranks)},
          {"ulysses", make_mesh(ranks, 1, ranks, 1, ranks)}};
}

ModelConfig config_of(const std::string& position, const std::string& pattern) {
  ModelConfig config = small_config(position, pattern);
  config.layers = 3;
  config.heads = config.kv_heads = 12;
  config.width = 48;
  config.ffn_width = 96;
  return config;
}

TEST(Recomputation, GivesTheSameBits) {
  ModelConfig gated = config_of("t5", "causal");
  gated.ffn = Ffn::swiglu;
  gated.sub_norm = true;
  gated.norm = NormKind::rmsnorm;
  gated.bias = false;
  gated.attention.forget_gate = true;
  ModelConfig parallel = config_of("xpos", "causal");
  parallel.head_width = 6;
  parallel.ffn = Ffn::gelu_tanh;
  parallel.parallel = parallel.qk_norm = true;
  ModelConfig adapted = config_of("rope", "causal");
  adapted.adapter.rank = 2;
  adapted.adapter.targets = {AdapterTarget::key, AdapterTarget::output, AdapterTarget::up, AdapterTarget::down};
  const std::vector<ModelConfig> configs = {config_of("xpos", "causal"),
                                            config_of("xpos", "blockwise"),
                                            config_of("rope", "window"),
                                            config_of("alibi", "sink_window"),
                                            gated,
                                            parallel,
                                            adapted};
  for (const Place& place : places()) {
    for (std::size_t i = 0; i < configs.size(); ++i) {
      const ModelConfig& config = configs[i];
      for (const bool half : {false, true}) {
        const bool packed = half == (i % 2 == 0);
        const ModelBatch batch = small_batch(2, 37, config.vocab, packed, config.attention.sinks);
        ModelRuntime how;
        if (half) how = {.precision = Precision::bf16, .residual = packed ? Dtype::bf16 : Dtype::f32};
        const Step kept = train(config, how, place.mesh, batch);
        for (const double loss : kept.losses) ASSERT_TRUE(std::isfinite(loss));
        for (const Recompute what : {Recompute::attention, Recompute::ffn, Recompute::layer}) {
          SCOPED_TRACE(fmt::format("{}, {} {}, {}{}, {}", place.name, config.position.kind->name,
                                   config.attention.pattern->name, half ? "bf16" : "fp32", packed ? ", packed" : "",
                                   name_of(what)));
          how.recompute = what;
          const Step again = train(config, how, place.mesh, batch);
          EXPECT_EQ(again.losses, kept.losses);
          EXPECT_EQ(again.gradients, kept.gradients);
        }
      }
    }
  }
}

/// Of a layer: query, key and value; attention's output; the inner product; the outer one, "down".
TEST(Recomputation, RunsNeitherAttentionNorTheLastProductTwice) {
  const ModelConfig config = config_of("xpos", "causal");
  const ModelBatch batch = small_batch(1, 64, config.vocab, false);
  const std::map<Recompute, std::uint64_t> again = {
      {Recompute::none, 0}, {Recompute::attention, 1}, {Recompute::ffn, 1}, {Recompute::layer, 3}};
  for (const Place& place : places()) {
    if (place.mesh.size(Axis::tp) > 1) continue;  // a product there is several calls
    const Step kept = train(config, {}, place.mesh, batch);
    const auto layers = static_cast<std::uint64_t>(config.layers);
    EXPECT_EQ(kept.calls.at("linear"), 4 * layers + 1) << "and the logits";
    if (world()->size() == 1) {
      EXPECT_EQ(kept.calls.at("attention"), layers);
    }
    for (const auto& [what, products] : again) {
      SCOPED_TRACE(fmt::format("{}, {}", place.name, name_of(what)));
      const Step step = train(config, {.recompute = what}, place.mesh, batch);
      EXPECT_EQ(step.calls.at("attention"), kept.calls.at("attention"));
      EXPECT_EQ(step.calls.at("linear"), kept.calls.at("linear") + products * layers);
      EXPECT_EQ(step.calls.at("linear_backward_weight"), kept.calls.at("linear_backward_weight"));
      EXPECT_EQ(step.bytes.at("ring"), kept.bytes.at("ring")) << "no key travels for a replay";
    }
  }
}

}  // namespace
}  // namespace lexring
