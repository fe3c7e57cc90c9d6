#include "jobs/launch/fewer_nodes.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "framework/base/error.h"
#include "parallel/mesh.h"

namespace lexring {
namespace {

/// "3 nodes: dp 1 x cp 3", or the refusal.
std::string fewer(const MeshKeys& keys, std::int64_t batch, const NodeCounts& counts) {
  try {
    const FewerNodes found = fit_fewer_nodes(keys, batch, counts);
    return fmt::format("{} nodes: dp {} x cp {}", found.nodes, found.dp, found.cp);
  } catch (const UsageError& error) {
    return error.what();
  }
}

TEST(FewerNodes, AsManyAsBeforeGiveTheMeshOfBefore) {
  EXPECT_EQ(fewer({.dp = 2, .cp = 4, .tp = 2}, 8, {4, 4, 4}), "4 nodes: dp 2 x cp 4");
  EXPECT_EQ(fewer({}, 8, {4, 4, 1}), "4 nodes: dp 4 x cp 1");
}

TEST(FewerNodes, ReplicasGoFirstAndDivideTheBatch) {
  EXPECT_EQ(fewer({}, 12, {4, 3, 1}), "3 nodes: dp 3 x cp 1");
  EXPECT_EQ(fewer({}, 8, {4, 3, 1}), "2 nodes: dp 2 x cp 1");  // 3 does not divide 8, and nobody shares a sequence
  EXPECT_EQ(fewer({}, 0, {4, 3, 1}), "3 nodes: dp 3 x cp 1");  // an evaluation has no batch
  EXPECT_EQ(fewer({.cp = 2, .tp = 2}, 8, {4, 3, 4}), "3 nodes: dp 2 x cp 3");
  EXPECT_EQ(fewer({.cp = 2, .tp = 2}, 12, {4, 3, 4}), "3 nodes: dp 3 x cp 2");
}

TEST(FewerNodes, RanksThatShareASequenceMayBeMore) {
  EXPECT_EQ(fewer({.dp = 2, .cp = 4}, 8, {8, 7, 1}), "7 nodes: dp 1 x cp 7");
  EXPECT_EQ(fewer({.dp = 2, .cp = 4}, 8, {8, 5, 1}), "5 nodes: dp 1 x cp 5");
  EXPECT_EQ(fewer({.dp = 2, .cp = 4, .ulysses = 2}, 8, {8, 7, 1}), "6 nodes: dp 1 x cp 6");
}

TEST(FewerNodes, WhereNoReplicaFitsFewerShareASequence) {
  EXPECT_EQ(fewer({.cp = 4}, 8, {4, 3, 1}), "3 nodes: dp 1 x cp 3");
  EXPECT_EQ(fewer({.cp = 2, .tp = 2}, 8, {2, 1, 2}), "1 nodes: dp 1 x cp 1");
  EXPECT_EQ(fewer({.dp = 2, .cp = 4}, 8, {8, 3, 1}), "3 nodes: dp 1 x cp 3");
  EXPECT_EQ(fewer({.cp = 8, .ulysses = 4}, 8, {4, 3, 2}), "2 nodes: dp 1 x cp 4");
}

TEST(FewerNodes, WhatCannotWorkIsRefused) {
  EXPECT_EQ(fewer({.tp = 4, .tp_across_nodes = true}, 8, {4, 3, 1}),
            "no mesh with mesh.tp = 4 fits 3 nodes with 1 rank each; wait for the others, or choose smaller groups");
  EXPECT_EQ(
      fewer({.cp = 4, .ulysses = 4}, 8, {4, 3, 1}),
      "no mesh with mesh.tp = 1 and mesh.ulysses = 4 fits 3 nodes with 1 rank each; wait for the others, or choose "
      "smaller groups");
  EXPECT_NE(fewer({.cp = 3}, 8, {4, 3, 1}).find("mesh.cp = 3"), std::string::npos);
  EXPECT_EQ(fewer({}, 8, {3, 4, 1}), "4 nodes are left of 3; there are not more of them than there were");
}

/// What the rule promises, of every launch of up to 12 nodes.
TEST(FewerNodes, HoldsForEveryMesh) {
  for (const std::int64_t planned : {1, 2, 3, 4, 6, 8, 12})
    for (std::int64_t left = 1; left <= planned; ++left)
      for (const std::int64_t ranks : {1, 2, 4})
        for (const std::int64_t tp : {1, 2, 4})
          for (const std::int64_t cp : {1, 2, 3, 4, 6, 8}) {
            if (planned * ranks % (cp * tp) != 0 || ranks % tp != 0) continue;
            const std::int64_t dp = planned * ranks / cp / tp;
            SCOPED_TRACE(fmt::format("{} of {} nodes x {}: dp {} x cp {} x tp {}", left, planned, ranks, dp, cp, tp));
            const FewerNodes found = fit_fewer_nodes({.cp = cp, .tp = tp}, 2 * dp, {planned, left, ranks});
            EXPECT_EQ(found.dp * found.cp * tp, found.nodes * ranks);
            EXPECT_LE(found.nodes, left);
            EXPECT_EQ(2 * dp % found.dp, 0);
            EXPECT_LE(found.dp, dp);
            EXPECT_TRUE(found.cp >= cp || left * ranks < cp * tp || found.dp > 1) << found.cp;
            EXPECT_TRUE(left < planned || (found.dp == dp && found.cp == cp));
          }
}

}  // namespace
}  // namespace lexring
