#include "framework/attention/spec.h"

#include <cmath>

#include <gtest/gtest.h>

#include "framework/attention/block.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

AttentionSpec small_spec() {
  AttentionSpec spec;
  spec.heads = 4;
  spec.kv_heads = 2;
  spec.head_width = 8;
  return spec;
}

TEST(AttentionSpec, AcceptsWhatBackendsHave) {
  AttentionSpec spec = small_spec();
  EXPECT_NO_THROW(check_supported(spec));
  spec.rotary = true;
  spec.log_decay = {-1, -0.5, -0.1, 0};
  spec.slopes = {1, 2, 3, 4};
  EXPECT_NO_THROW(check_supported(spec));
}

TEST(AttentionSpec, RefusesContradictionsAndWhatIsNotThere) {
  const auto refused = [](auto change) {
    AttentionSpec spec = small_spec();
    change(spec);
    EXPECT_THROW(check_supported(spec), Error);
  };
  refused([](auto& s) { s.kv_heads = 3; });
  refused([](auto& s) { s.heads = 0; });
  refused([](auto& s) { s.head_width = 7; });
  refused([](auto& s) { s.log_decay = {-1, -1, -1, -1}; });  // without rotation
  refused([](auto& s) { s.rotary = true, s.log_decay = {-1, -1}; });
  refused([](auto& s) { s.rotary = true, s.log_decay = {-1, -1, -1, 0.5}; });
  refused([](auto& s) { s.rotary = true, s.log_decay = {-1, -1, -1, std::nan("")}; });
  refused([](auto& s) { s.slopes = {1, 2}; });
  refused([](auto& s) { s.normalizer = Normalizer::relu; });
  refused([](auto& s) { s.query_factor = {1, 1}; });
}

TEST(DiagonalSpan, KeepsFactorsWithinReach) {
  AttentionSpec spec = small_spec();
  EXPECT_EQ(diagonal_span(spec), std::int64_t{1} << 40);
  spec.rotary = true;
  spec.log_decay = {std::log(0.4 / 1.4) / 512, 0, 0, 0};
  EXPECT_EQ(diagonal_span(spec), 16347);  // 40 * 512 / ln(3.5)
  spec.log_decay = {-100, 0, 0, 0};
  EXPECT_EQ(diagonal_span(spec), 1);
  spec.log_decay = {0, 0, 0, 0};
  EXPECT_EQ(diagonal_span(spec), std::int64_t{1} << 40);
}

TEST(TokenTable, DenseOnesAreValid) {
  const TokenTable tokens = dense_tokens(3, 4);
  EXPECT_NO_THROW(check(tokens));
  EXPECT_EQ(tokens.rows(), 12);
  EXPECT_EQ(tokens.sequences.back(), (TokenTable::Sequence{2, 8, 4}));
  EXPECT_EQ(tokens.position[9], 1);
  EXPECT_NO_THROW(check(dense_tokens(0, 0)));
}

TEST(TokenTable, BrokenPromisesAreFound) {
  EXPECT_THROW(check(TokenTable{{{0, 0, 2}}, {5, 5}}), Error);
  EXPECT_THROW(check(TokenTable{{{0, 0, 2}}, {5, 4}}), Error);
  EXPECT_THROW(check(TokenTable{{{0, 0, 1}}, {-1}}), Error);
  EXPECT_THROW(check(TokenTable{{{0, 0, 1}}, {0, 1}}), Error);
  EXPECT_THROW(check(TokenTable{{{0, 0, 3}}, {0, 1}}), Error);
  EXPECT_THROW(check(TokenTable{{{1, 0, 1}, {1, 1, 1}}, {0, 0}}), Error);
  EXPECT_THROW(check(TokenTable{{{0, 1, 1}, {1, 0, 1}}, {0, 0}}), Error);
}

std::vector<std::int64_t> counts_of(const std::vector<TokenTile>& tiles) {
  std::vector<std::int64_t> counts;
  for (const TokenTile& t : tiles) counts.push_back(t.count);
  return counts;
}

TEST(Tiles, AreBoundedInTokensAndInPositions) {
  const TokenTable tokens{{{0, 0, 5}, {3, 5, 4}}, {0, 1, 2, 3, 4, 0, 10, 11, 30}};
  ASSERT_NO_THROW(check(tokens));
  EXPECT_EQ(counts_of(make_tiles(tokens, 100, 100)), (std::vector<std::int64_t>{5, 4}));
  EXPECT_EQ(counts_of(make_tiles(tokens, 2, 100)), (std::vector<std::int64_t>{2, 2, 1, 2, 2}));
  EXPECT_EQ(counts_of(make_tiles(tokens, 100, 10)), (std::vector<std::int64_t>{5, 2, 1, 1}));
  EXPECT_EQ(counts_of(make_tiles(tokens, 100, 0)), (std::vector<std::int64_t>(9, 1)));
  const auto tiles = make_tiles(tokens, 100, 10);
  EXPECT_EQ(tiles[2].sequence, 1);
  EXPECT_EQ(tiles[2].first, 7);
}

/// A call with everything right, to be broken one thing at a time.
struct Call {
  std::unique_ptr<Runtime> runtime = make_cpu_runtime();
  AttentionSpec spec = small_spec();
  TokenTable tokens = dense_tokens(1, 3);
  RotaryTable rotary;
  Visibility visible{{0, 0, 0}, {}, {}};
  Tensor q{*runtime, {3, 32}, Dtype::f32}, k{*runtime, {3, 16}, Dtype::f32}, output{*runtime, {3, 32}, Dtype::f32},
      lse{*runtime, {3, 4}, Dtype::f32};
  BlockStage stage;

  void check_forward() {
    check(AttentionForward{spec, tokens, tokens, rotary, rotary, visible, q, k, k, stage, {}, output, lse});
  }
  void check_backward() {
    check(AttentionBackward{spec, tokens, tokens, rotary, rotary, visible, q,  k, k, output,
                            lse,  lse,    stage,  stage,  {},     {},      {}, q, k, k});
  }
};

TEST(AttentionChecks, AcceptACallAndNameWhatIsWrong) {
  EXPECT_NO_THROW(Call().check_forward());
  EXPECT_NO_THROW(Call().check_backward());
  const auto refused = [](auto change) {
    Call call;
    change(call);
    EXPECT_THROW(call.check_forward(), Error);
    EXPECT_THROW(call.check_backward(), Error);
  };
  refused([](Call& c) { c.spec.head_width = 16; });
  refused([](Call& c) { c.spec.normalizer = Normalizer::relu; });
  refused([](Call& c) { c.spec.rotary = true; });  // no table
  refused([](Call& c) { c.stage.last = false; });  // no state
  refused([](Call& c) { c.visible.first.pop_back(); });
  refused([](Call& c) { c.visible.sink_begin = {0, 0, 0}; });
  refused([](Call& c) { c.lse = Tensor(*c.runtime, {3, 5}, Dtype::f32); });
  refused([](Call& c) { c.lse = Tensor(*c.runtime, {3, 4}, Dtype::f64); });
  refused([](Call& c) { c.output = {}; });
  refused([](Call& c) { c.k = Tensor(*c.runtime, {3, 16}, Dtype::bf16); });
  refused([](Call& c) { c.tokens.position[2] = 0; });
}

}  // namespace
}  // namespace lexring
