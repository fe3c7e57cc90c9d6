/// The memory that a dry run predicts against what the tensors of a model in training take.
#include "jobs/training/dry_run.h"

#include <gtest/gtest.h>

#include "jobs/training/replica.h"
#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

TEST(DryRunMpi, WeightsGradientsAndMomentsTakeWhatTheFormulaSays) {
  const auto world = lexring::testing::world();
  for (const int tp : {1, world->size()}) {
    for (const PrecisionChoice precision : {PrecisionChoice::fp32, PrecisionChoice::bf16, PrecisionChoice::fp64}) {
      for (const Shard shard : {Shard::none, Shard::state, Shard::gradients}) {
        for (const char* frozen : {"", "ffn"}) {
          SCOPED_TRACE(fmt::format("tp {} {} {} frozen \"{}\"", tp, name_of(precision), name_of(shard), frozen));
          Options options;
          options.model.vocab = 300, options.model.layers = 3, options.model.width = 192, options.model.heads = 6;
          options.model.kv_heads = 1, options.model.ffn_width = 768;
          options.train.precision = precision, options.train.frozen = frozen, options.train.batch = 6;
          options.optimizer.shard = shard;
          const auto backend = make_backend(
              {.device = precision == PrecisionChoice::fp64 ? DeviceChoice::reference : DeviceChoice::cpu});
          const Context context(world, make_mesh(world->size(), 0, 1, tp));
          const Replica replica(replica_settings(options), context, *backend);
          const TrainingNeeds needs =
              training_needs(options, step_shape(options, context), DeviceType::cpu, /*free=*/1e12);
          const auto taken = static_cast<double>(backend->runtime().memory().current);
          EXPECT_NEAR(needs.weights, taken, 0.08 * taken);  // shares of rows are not quite equal
        }
      }
    }
    if (world->size() == 1) break;
  }
}

}  // namespace
}  // namespace lexring
