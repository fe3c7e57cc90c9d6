#include "framework/attention/rows.h"

#include <cmath>

#include <gtest/gtest.h>

#include "framework/attention/call.h"
#include "framework/attention/parts.h"
#include "framework/attention/tiling.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

AttentionForm small_form() {
  AttentionForm form;
  form.heads = 4;
  form.kv_heads = 2;
  form.head_width = 8;
  return form;
}

TEST(AttentionForm, AcceptsWhatBackendsHave) {
  AttentionForm form = small_form();
  EXPECT_NO_THROW(check(form));
  form.rotary = true;
  form.log_decay = {-1, -0.5, -0.1, 0};
  form.softcap = 50, form.clamp = -3, form.normalizer = Normalizer::relu;
  EXPECT_NO_THROW(check(form));
}

TEST(AttentionForm, RefusesContradictionsAndWhatIsNotThere) {
  const auto refused = [](auto change) {
    AttentionForm form = small_form();
    change(form);
    EXPECT_THROW(check(form), Error);
  };
  refused([](auto& s) { s.kv_heads = 3; });
  refused([](auto& s) { s.heads = 0; });
  refused([](auto& s) { s.head_width = 7; });
  refused([](auto& s) { s.log_decay = {-1, -1, -1, -1}; });  // without rotation
  refused([](auto& s) { s.rotary = true, s.log_decay = {-1, -1}; });
  refused([](auto& s) { s.rotary = true, s.log_decay = {-1, -1, -1, 0.5}; });
  refused([](auto& s) { s.rotary = true, s.log_decay = {-1, -1, -1, std::nan("")}; });
  refused([](auto& s) { s.softcap = -1; });
  refused([](auto& s) { s.softcap = std::nan(""); });
  refused([](auto& s) { s.clamp = std::nan(""); });
}

TEST(DecaySpan, KeepsFactorsWithinReach) {
  AttentionForm form = small_form();
  EXPECT_EQ(decay_span(form), std::int64_t{1} << 62);
  form.rotary = true;
  form.log_decay = {std::log(0.4 / 1.4) / 512, 0, 0, 0};
  EXPECT_EQ(decay_span(form), 32695);  // 16,347 = 40 * 512 / ln(3.5) on either side of the middle
  form.log_decay = {-100, 0, 0, 0};
  EXPECT_EQ(decay_span(form), 1);
  form.log_decay = {0, 0, 0, 0};
  EXPECT_EQ(decay_span(form), (1 << 23) + 1);
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

TEST(Tiles, AreBoundedInTokensAndLieWithinOneSpan) {
  const TokenTable tokens{{{0, 0, 5}, {3, 5, 4}}, {0, 1, 2, 3, 4, 0, 10, 11, 30}};
  ASSERT_NO_THROW(check(tokens));
  EXPECT_EQ(counts_of(make_tiles(tokens, 100, 100)), (std::vector<std::int64_t>{5, 4}));
  EXPECT_EQ(counts_of(make_tiles(tokens, 2, 100)), (std::vector<std::int64_t>{2, 2, 1, 2, 2}));
  EXPECT_EQ(counts_of(make_tiles(tokens, 100, 11)), (std::vector<std::int64_t>{5, 2, 1, 1}));
  EXPECT_EQ(counts_of(make_tiles(tokens, 100, 3)), (std::vector<std::int64_t>{3, 2, 1, 2, 1}));
  EXPECT_EQ(counts_of(make_tiles(tokens, 100, 1)), (std::vector<std::int64_t>(9, 1)));
  const auto tiles = make_tiles(tokens, 100, 11);
  EXPECT_EQ(tiles[2].sequence, 1);
  EXPECT_EQ(tiles[2].first, 7);
}

TEST(Tiling, BasesAreTheMiddlesOfSpans) {
  const TokenTable tokens{{{0, 0, 5}, {1, 5, 1}}, {0, 32694, 32695, 65389, 1000000, 40000}};
  ASSERT_NO_THROW(check(tokens));
  AttentionForm form = small_form();
  EXPECT_EQ(make_tiling(form, tokens, 100).base, (std::vector<std::int64_t>{0, 0}));
  form.rotary = true, form.log_decay = {std::log(0.4 / 1.4) / 512, 0, 0, 0};
  const Tiling tiling = make_tiling(form, tokens, 100);
  EXPECT_EQ(counts_of(tiling.tiles), (std::vector<std::int64_t>{2, 2, 1, 1}));
  EXPECT_EQ(tiling.base, (std::vector<std::int64_t>{16347, 32695 + 16347, 30 * 32695 + 16347, 32695 + 16347}));
}

TEST(AttentionRows, AreCheckedWhenMade) {
  const auto runtime = make_cpu_runtime();
  const Tensor table(*runtime, {3, 2}, Dtype::f32), other(*runtime, {2, 2}, Dtype::f32);
  const TokenTable tokens = dense_tokens(1, 3);
  EXPECT_NO_THROW(make_rows(tokens, {}));
  EXPECT_NO_THROW(make_rows(tokens, {table, table}, {{0, 0, 0}, {0, 0, 0}, {1, 1, 1}, {}}));
  EXPECT_NO_THROW(make_rows(tokens, {}, {{0, 0, 0}, {}, {}, {3, 3, 3}}));
  EXPECT_THROW(make_rows(TokenTable{{{0, 0, 2}}, {5, 5}}, {}), Error);
  EXPECT_THROW(make_rows(tokens, {table, {}}), Error);
  EXPECT_THROW(make_rows(tokens, {other, other}), Error);
  EXPECT_THROW(make_rows(tokens, {}, {{0, 0}, {}, {}, {}}), Error);
  EXPECT_THROW(make_rows(tokens, {}, {{0, 0, 0}, {0, 0, 0}, {}, {}}), Error);
  EXPECT_THROW(make_rows(tokens, {}, {{0, 0, 0}, {}, {}, {3}}), Error);
}

TEST(AttentionRows, ThatOnlyAskMayStandAtOnePosition) {
  const TokenTable tokens = dense_tokens(1, 3);
  EXPECT_EQ(make_queries(tokens, {0, 1, 1}, {}, {})->tokens.position, (std::vector<std::int64_t>{0, 1, 1}));
  EXPECT_THROW(make_queries(tokens, {0, 1, 0}, {}, {}), Error);
  EXPECT_THROW(make_queries(tokens, {-1, 0, 0}, {}, {}), Error);
  EXPECT_THROW(make_queries(tokens, {0, 1}, {}, {}), Error);
}

/// A call with everything right, to be broken one thing at a time.
struct Call {
  std::unique_ptr<Runtime> runtime = make_cpu_runtime();
  AttentionForm form = small_form();
  ScoreBias bias;
  SharedRows rows = make_rows(dense_tokens(1, 3), {}, {{0, 0, 0}, {}, {}, {}});
  Tensor q{*runtime, {3, 32}, Dtype::f32}, k{*runtime, {3, 16}, Dtype::f32}, output{*runtime, {3, 32}, Dtype::f32},
      lse{*runtime, {3, 4}, Dtype::f32}, dby_distance;
  CallStage stage;

  void check_forward() { check(AttentionForward{form, bias, rows, rows, q, k, k, stage, {}, output, lse}); }
  void check_backward() {
    check(AttentionBackward{form, bias,  rows,  rows, q,  k,  k, output, output, lse,
                            lse,  stage, stage, {},   {}, {}, q, k,      k,      dby_distance});
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
  refused([](Call& c) { c.form.head_width = 16; });
  refused([](Call& c) { c.form.softcap = -1; });
  refused([](Call& c) { c.form.rotary = true; });                        // no table
  refused([](Call& c) { c.stage.last = false; });                        // no state
  refused([](Call& c) { c.rows = make_rows(dense_tokens(1, 3), {}); });  // no visibility
  refused([](Call& c) { c.rows = nullptr; });
  refused([](Call& c) { c.bias.slopes = {1, 2}; });
  refused([](Call& c) { c.bias.by_distance = c.dby_distance = Tensor(*c.runtime, {3, 5}, Dtype::f32); });
  refused([](Call& c) { c.bias.by_distance = c.dby_distance = Tensor(*c.runtime, {4, 5}, Dtype::bf16); });
  refused([](Call& c) { c.lse = Tensor(*c.runtime, {3, 5}, Dtype::f32); });
  refused([](Call& c) { c.lse = Tensor(*c.runtime, {3, 4}, Dtype::f64); });
  refused([](Call& c) { c.output = {}; });
  refused([](Call& c) { c.k = Tensor(*c.runtime, {3, 16}, Dtype::bf16); });
  Call call;
  call.bias.by_distance = Tensor(*call.runtime, {4, 5}, Dtype::f32);
  EXPECT_NO_THROW(call.check_forward());
  EXPECT_THROW(call.check_backward(), Error);  // no gradient
  call.dby_distance = Tensor(*call.runtime, {4, 5}, Dtype::f32);
  EXPECT_NO_THROW(call.check_backward());
}

}  // namespace
}  // namespace lexring
