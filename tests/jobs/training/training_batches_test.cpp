// Positions of a step, however it is dealt out.
#include "jobs/training/training_batches.h"

#include <gtest/gtest.h>

#include "tests/datasets/support.h"

namespace lexring {
namespace {

TEST(TrainingBatches, PositionsAreThoseOfTheSampleOnEveryMesh) {
  const testing::TempDirectory directory;
  const Dataset dataset = testing::make_dataset(directory, {std::string(500, 'a'), std::string(300, 'b')});
  const Sampler sampler(dataset, 8, 5, Documents::mask);
  for (const SamplingMethod& method : SamplingMethod::table()) {
    const SamplingConfig config = {
        .kind = method.name, .limit = 40, .jump = 5, .global_shift = 3.0, .local_shift = 0.4, .global_scale = 1.2};
    std::vector<std::int64_t> expected;
    std::vector<double> coordinates;
    for (std::uint64_t sample = 12; sample < 24; ++sample) {
      const auto drawn = sample_positions(config, 8, 5, sample);
      expected.insert(expected.end(), drawn.begin(), drawn.end());
      const auto between = sample_coordinates(config, 8, 5, sample);
      coordinates.insert(coordinates.end(), between.begin(), between.end());
    }
    for (const int replicas : {1, 2, 3}) {
      for (const std::int64_t micro_batch : {0, 1, 3}) {
        std::vector<std::int64_t> positions;
        std::vector<double> between;
        for (int replica = 0; replica < replicas; ++replica) {
          const auto ranges = micro_batches(12, 12, replica, replicas, micro_batch);
          for (const auto& [tokens, ids, targets, start, sinks] : read_batches(sampler, ranges, 0, config)) {
            positions.insert(positions.end(), tokens.position.begin(), tokens.position.end());
            between.insert(between.end(), tokens.coordinate.begin(), tokens.coordinate.end());
          }
        }
        EXPECT_EQ(between, coordinates) << method.name;
        EXPECT_EQ(positions, expected) << method.name << ", " << replicas << " replicas, " << micro_batch;
      }
    }
  }
}

}  // namespace
}  // namespace lexring
