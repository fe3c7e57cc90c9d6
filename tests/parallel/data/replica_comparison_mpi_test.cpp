#include "parallel/data/replica_comparison.h"

#include <algorithm>
#include <cstring>

#include <gtest/gtest.h>

#include "tests/models/model_testing.h"
#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

/// One bit of the first element of a tensor.
void flip(const Tensor& data, int bit) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, data.raw(), sizeof bits);
  bits ^= 1U << bit;
  std::memcpy(data.raw(), &bits, sizeof bits);
}

std::vector<Mesh> meshes(int ranks) {
  std::vector<Mesh> all = {make_mesh(ranks, 0, 1, 1), make_mesh(ranks, 1, ranks, 1)};
  if (ranks == 2 || ranks == 4) all.push_back(make_mesh(ranks, 0, 1, 2));
  if (ranks == 4) all.push_back(make_mesh(ranks, 1, 1, 4));
  return all;
}

/// Every parameter, every rank: a flip of the lowest bit is seen where somebody else holds the same part, and nowhere
/// else; the same answer on all ranks.
TEST(ReplicaComparison, ALowestBitOfAnyRankIsNamed) {
  const auto world = testing::world();
  for (const Mesh& mesh : meshes(world->size())) {
    SCOPED_TRACE(mesh.describe());
    const Context context(world, mesh);
    const auto backend = make_reference_backend();
    ModelConfig config = small_config();
    config.heads = 4;
    config.kv_heads = 2;  // two copies each on a tp of 4
    Transformer model(config, {}, context, *backend);
    model.initialise(5);
    const auto parts = replicated_parts(model.parameters());
    EXPECT_FALSE(compare_replicas(context, parts));
    int named = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const int holders = context.replicas().size() * parts[i].copies, victim = static_cast<int>(i) % world->size();
      if (world->rank() == victim) flip(parts[i].data, 0);
      const auto drift = compare_replicas(context, parts);
      if (world->rank() == victim) flip(parts[i].data, 0);
      ASSERT_EQ(drift.has_value(), holders > 1) << parts[i].name;
      if (!drift) continue;
      ++named;
      EXPECT_EQ(drift->name, parts[i].name);
      EXPECT_EQ(drift->outvoted, holders > 2);
      EXPECT_EQ(drift->ranks.size() + drift->others.size(), static_cast<std::size_t>(holders));
      EXPECT_EQ(drift->ranks.size(), holders > 2 ? 1U : 2U);
      EXPECT_NE(std::find(drift->ranks.begin(), drift->ranks.end(), victim), drift->ranks.end());
    }
    EXPECT_EQ(named > 0, world->size() > 1);
    EXPECT_FALSE(compare_replicas(context, parts)) << "all flips were taken back";
  }
}

TEST(ReplicaComparison, TheFirstPartAndAllOutvotedRanksAreNamed) {
  const auto world = testing::world();
  if (world->size() < 4) return;
  const Context context(world, make_mesh(world->size(), 0, 1, 1));
  const auto backend = make_reference_backend();
  Transformer model(small_config(), {}, context, *backend);
  model.initialise(5);
  const auto parts = replicated_parts(model.parameters());
  if (world->rank() == 1) flip(parts[3].data, 12);
  if (world->rank() == 2) flip(parts[1].data, 30);
  const auto drift = compare_replicas(context, parts);
  ASSERT_TRUE(drift);
  EXPECT_EQ(drift->name, parts[1].name);
  EXPECT_EQ(drift->ranks, (std::vector<int>{1, 2}));
  EXPECT_EQ(drift->others, (std::vector<int>{0, 3}));
}

/// A working copy that every update rewrites from a master value here needs no look of its own; others do.
TEST(ReplicaComparison, WorkingCopiesCountWhereNothingRewritesThem) {
  const auto backend = make_reference_backend();
  const Tensor master(backend->runtime(), {2}, Dtype::f32), copy(backend->runtime(), {2}, Dtype::bf16);
  const auto sizes = [&](const Tensor& value, const Tensor& gradient, const Tensor& compute) {
    Parameter parameter;
    parameter.value = value;
    parameter.gradient = gradient;
    parameter.compute = compute;
    std::vector<Dtype> dtypes;
    for (const ReplicatedPart& part : replicated_parts({parameter})) dtypes.push_back(part.data.dtype());
    return dtypes;
  };
  EXPECT_EQ(sizes(master, master, copy), std::vector<Dtype>{Dtype::f32});
  EXPECT_EQ(sizes(master, {}, copy), (std::vector<Dtype>{Dtype::f32, Dtype::bf16})) << "frozen";
  EXPECT_EQ(sizes({}, master, copy), std::vector<Dtype>{Dtype::bf16}) << "a sharded optimizer has the master";
  EXPECT_EQ(sizes(master, master, master), std::vector<Dtype>{Dtype::f32});
}

}  // namespace
}  // namespace lexring
