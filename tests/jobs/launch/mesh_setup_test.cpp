#include "jobs/launch/mesh_setup.h"
#include "jobs/config/mesh_keys.h"

#include <gtest/gtest.h>

#include "framework/base/error.h"
#include "parallel/sequence/exchange_choice.h"

namespace lexring {
namespace {

ModelConfig model_with(std::int64_t heads, std::int64_t kv_heads, const std::string& pattern = "causal") {
  ModelConfig model;
  model.heads = heads;
  model.kv_heads = kv_heads;
  model.width = 16 * heads;
  model.attention.pattern = pattern;
  model.attention.block = 64;
  return model;
}

const std::vector<std::string> one_node(8, "a");
const std::vector<std::string> two_nodes = {"a", "a", "a", "a", "b", "b", "b", "b"};

std::string refusal(const MeshKeys& keys, const ModelConfig& model, const std::vector<std::string>& nodes = one_node,
                    const SequenceKeys& sequence = {}) {
  try {
    choose_mesh(keys, sequence, model, {1, 4096, 2}, nodes);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(MeshSetup, SizesMustMultiplyToTheProcesses) {
  EXPECT_HAS(refusal({.dp = 2, .cp = 2, .tp = 1}, model_with(8, 4)), "use mesh.dp = 4, or start 4");
  EXPECT_HAS(refusal({.cp = 3}, model_with(8, 4)), "their product may be 1, 2, 4, 8");
  EXPECT_EQ(choose_mesh({.cp = 2, .tp = 2}, {}, model_with(8, 4), {1, 4096, 2}, one_node).mesh.size(Axis::dp), 2);
}

TEST(MeshSetup, HeadsAreSplitOrReplicatedForTp) {
  for (const std::int64_t tp : {1, 2, 4, 8})
    EXPECT_EQ(refusal({.tp = tp}, model_with(8, 4)), "nothing was thrown") << tp;
  EXPECT_HAS(refusal({.tp = 4}, model_with(6, 3)), "choose 1, 3 or 6");
  EXPECT_HAS(refusal({.tp = 8}, model_with(4, 4)), "mesh.tp = 8: 4 heads");
  EXPECT_HAS(refusal({.tp = 2}, model_with(6, 3)),
             "neither split nor replicated");  // 2 divides 6, but 3 and 2 do not divide each other
}

TEST(MeshSetup, UlyssesDividesTheRanksOfASequenceAndTheHeads) {
  EXPECT_HAS(refusal({.cp = 8, .ulysses = 3}, model_with(12, 12)), "mesh.ulysses = 3");
  EXPECT_HAS(refusal({.cp = 8, .ulysses = 8}, model_with(12, 12)), "choose 1, 2 or 4");
  EXPECT_HAS(refusal({.cp = 4, .tp = 2, .ulysses = 4}, model_with(4, 4)), "the 2 heads");
  const Mesh mesh = choose_mesh({.cp = 8, .ulysses = 4}, {}, model_with(12, 12), {1, 4096, 2}, one_node).mesh;
  EXPECT_EQ(mesh.ulysses, 4);
  EXPECT_EQ(mesh.ring(), 2);
}

TEST(MeshSetup, TpStaysInsideANode) {
  EXPECT_EQ(refusal({.tp = 4}, model_with(8, 8), two_nodes), "nothing was thrown");
  EXPECT_HAS(refusal({.tp = 8}, model_with(8, 8), two_nodes), "choose mesh.tp = 1, 2 or 4");
  EXPECT_EQ(refusal({.tp = 8, .tp_across_nodes = true}, model_with(8, 8), two_nodes), "nothing was thrown");
  // Ranks dealt to the nodes in turn.
  EXPECT_HAS(refusal({.tp = 2}, model_with(8, 8), {"a", "b", "a", "b", "a", "b", "a", "b"}), "choose mesh.tp = 1,");
}

TEST(MeshSetup, AHaloServesNoCausalPattern) {
  EXPECT_HAS(refusal({.cp = 8}, model_with(8, 8), one_node, {.exchange = Exchange::halo}), "choose ring");
  ModelConfig landmarks = model_with(8, 8);
  landmarks.attention.normalizer = Normalizer::landmark;
  EXPECT_HAS(refusal({.cp = 8}, landmarks, one_node, {.exchange = Exchange::ring}), "leave it at auto");
  EXPECT_EQ(refusal({.cp = 8}, landmarks, one_node), "nothing was thrown");
  EXPECT_EQ(refusal({.cp = 8}, model_with(8, 8, "blockwise"), one_node, {.exchange = Exchange::halo}),
            "nothing was thrown");
}

TEST(MeshSetup, SaysWhatItChose) {
  const std::string causal = choose_mesh({.cp = 8}, {}, model_with(8, 8), {1, 1 << 20, 2}, two_nodes).description;
  EXPECT_EQ(causal.rfind("dp 1 x cp 8 x tp 1, zigzag partition, ring: a hop takes about ", 0), 0U) << causal;
  EXPECT_HAS(causal, "a hop takes about 54 ms, hidden behind 44 s of attention");
  EXPECT_HAS(causal, "ranks 0-3 on a, 4-7 on b");
  const std::string blockwise =
      choose_mesh({.cp = 8}, {}, model_with(8, 8, "blockwise"), {1, 4096, 2}, two_nodes).description;
  EXPECT_EQ(
      blockwise.rfind("dp 1 x cp 8 x tp 1, contiguous partition, ring (64 rows from the busiest place in 1 round)", 0),
      0U)
      << blockwise;
  EXPECT_EQ(choose_mesh({}, {}, model_with(8, 8), {1, 4096, 2}, one_node).description, "dp 8 x cp 1 x tp 1");
}

TEST(MeshSetup, AsManyProcessesAsSlurmSays) {
  EXPECT_NO_THROW(check_launch(4, 0));
  EXPECT_NO_THROW(check_launch(4, 4));
  EXPECT_THROW(check_launch(1, 4), UsageError);
  EXPECT_THROW(check_launch(2, 4), UsageError);
}

ExchangeShape llama(int cp, int inside_node, std::int64_t length) {
  ExchangeShape shape;
  shape.length = length;
  shape.heads = 32;
  shape.kv_heads = 8;
  shape.head_width = 128;
  shape.bytes = 2;
  shape.cp = cp;
  shape.cp_inside_node = inside_node;
  return shape;
}
constexpr ExchangeSpeeds h100 = {5e14, 4.5e11, 5e10, 1e-5};

TEST(ExchangeChoice, LongSequencesGoAroundARing) {
  // 16,384 tokens a rank: a hop over the network hides behind its block (facts: about 9,900 at full speed, fewer at
  // this one).
  const ExchangeChoice choice = choose_exchange(llama(64, 8, 64 * 16384), h100);
  EXPECT_EQ(choice.ulysses, 1) << choice.reason;
  EXPECT_EQ(choice.name, "ring");
}

TEST(ExchangeChoice, ShortOnesExchangeHeadsInsideANode) {
  const ExchangeChoice one = choose_exchange(llama(8, 8, 2048), h100);
  EXPECT_EQ(one.name, "all-to-all") << one.reason;
  const ExchangeChoice two = choose_exchange(llama(16, 8, 16 * 2048), h100);
  EXPECT_EQ(two.name, "ring x all-to-all") << two.reason;
  EXPECT_EQ(two.ulysses, 4);
}

TEST(ExchangeChoice, TakesOnlyFactorsThatFit) {
  ExchangeShape shape = llama(6, 6, 600);
  EXPECT_EQ(choose_exchange(shape, h100).ulysses, 2) << "32 heads are not dealt to 3 or 6";
  shape.kv_heads = 1;
  shape.heads = 6;
  EXPECT_EQ(choose_exchange(shape, h100).ulysses, 6) << "one key head can be replicated";
  EXPECT_EQ(choose_exchange(llama(8, 1, 2048), h100).ulysses, 1) << "no two ranks share a node";
}

TEST(ExchangeChoice, AGivenFactorStays) {
  EXPECT_EQ(choose_exchange(llama(8, 8, 2048), h100, 2).ulysses, 2);
  EXPECT_EQ(choose_exchange(llama(8, 8, 2048), h100, 1).ulysses, 1);
}

}  // namespace
}  // namespace lexring
