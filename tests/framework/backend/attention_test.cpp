// A backend's attention against the reference in f64 from pair distances, both fed with the same rounded numbers: every
// method, pattern and kind of table, in one block and in several. Which backend: tested_backend.h.
#include <cmath>
#include <functional>
#include <memory>
#include <random>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/framework/backend/attention_problem.h"
#include "tests/framework/backend/tested_backend.h"
#include "tests/support/tolerances.h"

namespace lexring::testing {
namespace {

struct Tables {
  std::string name;
  TokenTable queries, keys;
};

Tables same(const std::string& name, const std::vector<Span>& sequences) {
  return {name, make_table(sequences), make_table(sequences)};
}

/// A problem that is made when its test runs: a program lists hundreds of them, and is often started for one.
struct ListedProblem {
  std::string name;
  std::function<AttentionProblem()> make;
};
void PrintTo(const ListedProblem& problem, std::ostream* os) { *os << problem.name; }

ListedProblem listed(const std::string& method, const std::string& pattern, std::int64_t extent, std::int64_t heads,
                     std::int64_t kv_heads, std::int64_t width, const Tables& tables) {
  const std::string name =
      fmt::format("{}_{}_{}_h{}k{}e{}_{}", tested_backend().name, method, pattern, heads, kv_heads, width, tables.name);
  const auto held = std::make_shared<const Tables>(tables);  // copies of a parameter share them
  return {name, [=] {
            return make_problem(name, method, heads, kv_heads, width, held->queries, held->keys,
                                make_visibility(pattern, extent, held->queries));
          }};
}

/// A few of everything below, for backends that are slow and for tools that make them so.
std::vector<ListedProblem> small_problems() {
  std::vector<ListedProblem> all;
  const auto add = [&](auto... arguments) { all.push_back(listed(arguments...)); };
  const Tables t33 = same("t33", {{0, consecutive(33)}}), t130 = same("t130", {{0, consecutive(130)}});
  add("none", "causal", 0, 2, 2, 2, t33);
  add("rope", "causal", 0, 2, 2, 6, t33);
  add("alibi", "causal", 0, 2, 2, 20, t33);
  add("xpos", "causal", 0, 1, 1, 96, t33);
  for (const std::int64_t width : {16, 32, 64, 128}) add("xpos", "causal", 0, 2, 1, width, t130);
  add("alibi", "causal", 0, 1, 1, 64, t130);
  const Tables several = same("unequal", {{0, consecutive(90)}, {2, consecutive(1)}, {3, consecutive(37)}});
  for (const char* pattern : {"window", "blockwise", "chunked", "sink_window", "documents", "documents_sinks", "holes"})
    add("xpos", pattern, 20, 2, 1, 32, several);
  const Tables spread = same("clusters", {{0, clusters({0, 300, 131000, 1000003}, 20)}}),
               gaps = same("gaps", {{0, with_gaps(40, 5000, 2)}});
  for (const char* method : {"none", "xpos", "steep"}) add(method, "causal", 0, 2, 1, 16, spread);
  add("xpos", "blockwise", 1000, 2, 1, 64, gaps);
  // Across the borders of decay spans (32,695 and 65,390).
  add("xpos", "causal", 0, 2, 1, 32, same("borders", {{0, clusters({16300, 32660, 65350}, 70)}}));
  const Tables cached{"cached", make_table({{0, consecutive(20, 60)}, {4, consecutive(5)}}),
                      make_table({{0, consecutive(80)}, {1, consecutive(17)}, {4, consecutive(5)}})};
  const Tables one_more{"one_more", make_table({{0, {1000000}}}), make_table({{0, consecutive(97, 999904)}})};
  const Tables strangers{"strangers", make_table({{0, consecutive(20)}, {1, consecutive(9)}, {5, consecutive(3)}}),
                         make_table({{1, consecutive(30)}})};
  const Tables no_rows{"no_rows", {}, {}}, no_queries{"no_queries", {}, make_table({{0, consecutive(5)}})},
      no_keys{"no_keys", make_table({{0, consecutive(5)}}), {}};
  for (const Tables& tables : {cached, one_more, strangers, no_rows, no_queries, no_keys})
    add("xpos", "causal", 0, 4, 2, 16, tables);
  add("alibi", "causal", 0, 4, 2, 64, cached);
  for (const Tables& tables : {t130, several, spread, cached, strangers, no_keys})
    add("table", "causal", 0, 4, 2, 16, tables);
  add("alibi_table", "documents_sinks", 20, 2, 2, 32, several);
  // Keys on both sides of the query, and after it.
  for (const char* method : {"rope", "alibi", "table", "relu_alibi_table"}) {
    add(method, "full", 0, 2, 1, 32, several);
    add(method, "full_documents", 20, 2, 2, 16, t130);
  }
  for (const Tables& tables : {several, spread, gaps, strangers}) add("later_xpos", "later", 0, 4, 2, 16, tables);
  for (const char* rule : {"capped", "clamped", "relu"}) {
    const std::string name = rule;
    add(name, "causal", 0, 2, 1, 16, t130);
    add(name + "_alibi_table", "documents_sinks", 20, 4, 2, 32, several);
    add(name + "_alibi", "holes", 20, 2, 2, 6, several);
    for (const Tables& tables : {cached, strangers, no_keys}) add(name + "_table", "causal", 0, 4, 2, 16, tables);
    add(name + "_gate_fire", "documents_sinks", 20, 4, 2, 32, several);
  }
  for (const Tables& tables : {t130, several, spread, cached, strangers, no_keys}) {
    add("fire", "causal", 0, 4, 2, 16, tables);
    add("gate", "causal", 0, 4, 2, 16, tables);
  }
  add("alibi_gate", "window", 20, 2, 2, 32, gaps);
  const auto fractions = [](const std::string& name, const std::vector<Span>& sequences) {
    return Tables{name, with_fractions(make_table(sequences)), with_fractions(make_table(sequences))};
  };
  const Tables between = fractions("fractions", {{0, consecutive(70)}, {3, consecutive(20)}}),
               far = fractions("fractions_far", {{0, consecutive(70, 1000003)}, {1, consecutive(40, 39370)}});
  for (const char* method : {"xpos", "alibi"}) add(method, "causal", 0, 2, 2, 16, between);
  for (const char* method : {"steep", "alibi"}) add(method, "causal", 0, 2, 2, 16, far);
  add("xpos", "window", 50, 2, 1, 64, far);
  return all;
}

std::vector<ListedProblem> problems() {
  std::vector<ListedProblem> all;
  if (tested_backend().slow) return all;
  const auto add = [&](auto... arguments) { all.push_back(listed(arguments...)); };
  // Every width with every method.
  const Tables short_one = same("t33", {{0, consecutive(33)}});
  for (const std::int64_t width : {2, 6, 12, 16, 20, 32, 64, 96, 128})
    for (const char* method : {"none", "rope", "xpos", "alibi", "table"})
      add(method, "causal", 0, 2, 2, width, short_one);
  // Every pattern over several tiles and several sequences of unequal length.
  const Tables several =
      same("unequal", {{0, consecutive(300)}, {2, consecutive(1)}, {3, consecutive(77)}, {9, consecutive(130)}});
  for (const char* pattern :
       {"causal", "window", "blockwise", "sink_window", "documents", "documents_sinks", "holes"}) {
    add("xpos", pattern, 50, 2, 1, 32, several);
    add("alibi", pattern, 50, 2, 2, 12, several);
    add("table", pattern, 50, 4, 2, 32, several);
  }
  // Long and odd positions.
  const Tables million = same("million", {{0, consecutive(200, 1000000)}}),
               gaps = same("gaps", {{0, with_gaps(300, 60, 1)}, {1, with_gaps(90, 5000, 2)}}),
               spread = same("clusters", {{0, clusters({0, 300, 131000, 200003}, 70)}}),
               long_one = same("t700", {{0, consecutive(700)}});
  for (const Tables& tables : {million, gaps, spread, long_one})
    for (const char* method : {"none", "rope", "xpos", "steep", "alibi", "table"})
      add(method, "causal", 0, 2, 1, 16, tables);
  add("xpos", "window", 333, 2, 2, 64, spread);
  const Tables borders = same("borders", {{0, clusters({16300, 32600, 65350}, 130)}, {1, with_gaps(200, 700, 3)}});
  add("xpos", "causal", 0, 4, 2, 20, borders);
  add("xpos", "documents_sinks", 40000, 2, 2, 16, borders);
  add("xpos", "blockwise", 1000, 4, 2, 32, gaps);
  add("steep", "blockwise", 128, 2, 2, 20, long_one);
  // Keys of the past, keys that some queries miss, queries without a sequence of keys, and nothing at all.
  const Tables cached{"cached", make_table({{0, consecutive(40, 300)}, {4, consecutive(5)}}),
                      make_table({{0, consecutive(340)}, {1, consecutive(17)}, {4, consecutive(5)}})};
  const Tables one_more{"one_more", make_table({{0, {1000000}}}), make_table({{0, consecutive(257, 999744)}})};
  const Tables strangers{"strangers", make_table({{0, consecutive(20)}, {1, consecutive(9)}, {5, consecutive(3)}}),
                         make_table({{1, consecutive(30)}})};
  const Tables ahead{"ahead", make_table({{0, consecutive(50)}}), make_table({{0, consecutive(50, 25)}})};
  const Tables no_rows{"no_rows", {}, {}}, no_queries{"no_queries", {}, make_table({{0, consecutive(5)}})},
      no_keys{"no_keys", make_table({{0, consecutive(5)}}), {}};
  for (const Tables& tables : {cached, one_more, strangers, ahead, no_rows, no_queries, no_keys})
    for (const char* method : {"xpos", "alibi", "table"}) add(method, "causal", 0, 4, 2, 16, tables);
  add("xpos", "sink_window", 60, 4, 2, 16, cached);
  // Keys on both sides of the query, and after it.
  for (const char* method : {"none", "alibi", "table", "clamped_alibi"}) {
    for (const Tables& tables : {several, gaps, long_one}) add(method, "full", 0, 2, 1, 16, tables);
    add(method, "full_documents", 50, 2, 2, 32, several);
  }
  for (const Tables& tables : {several, million, gaps, spread, long_one, borders, ahead})
    add("later_xpos", "later", 0, 4, 2, 32, tables);
  // Keys in several segments, some of which some queries do not see.
  const Tables many_keys{"many_keys", make_table({{0, clusters({100, 4300, 9050}, 60)}, {1, consecutive(30, 4400)}}),
                         make_table({{0, consecutive(9200)}, {1, consecutive(4430)}, {2, consecutive(4200)}})};
  for (const char* method : {"none", "xpos", "alibi", "table", "fire", "gate"})
    add(method, "causal", 0, 2, 1, 16, many_keys);
  for (const Tables& tables : {million, gaps, spread, long_one})
    for (const char* method : {"fire", "gate", "alibi_gate_fire"}) add(method, "causal", 0, 2, 1, 16, tables);
  add("xpos", "window", 300, 2, 2, 16, many_keys);
  // One and seven and a hundred tokens; many heads on one key head.
  for (const std::int64_t count : {1, 7, 100})
    add("xpos", "causal", 0, 3, 1, 20, same(fmt::format("t{}", count), {{0, consecutive(count)}}));
  add("rope", "causal", 0, 8, 1, 16, same("t100", {{0, consecutive(100)}}));
  for (const char* method : {"capped_table", "clamped_alibi", "relu_alibi_table"}) {
    add(method, "window", 50, 4, 2, 32, several);
    for (const Tables& tables : {gaps, many_keys, ahead}) add(method, "causal", 0, 2, 1, 16, tables);
  }
  return all;
}

/// Leaves NaN in the memory that kernels take next, so that what they read without having written it shows.
void spoil_free_memory(Backend& backend) {
  std::vector<Tensor> used;  // small and large blocks come from different places
  for (int i = 0; i < 32; ++i) used.emplace_back(backend.runtime(), Shape{1 << 14}, Dtype::f32);
  used.emplace_back(backend.runtime(), Shape{1 << 19}, Dtype::f32);
  for (const Tensor& tensor : used) backend.fill(tensor, std::nan(""));
}

class Attention : public ::testing::TestWithParam<ListedProblem> {
 protected:
  std::unique_ptr<Backend> reference_ = make_reference_backend(), ours_ = tested_backend().make();

  void compare(Dtype working, Blocks blocks) {
    SCOPED_TRACE(::testing::Message() << name_of(working) << ", " << blocks.queries << " x " << blocks.keys
                                      << " blocks");
    const AttentionProblem problem = GetParam().make();
    const AttentionInputs inputs = rounded_to(working, random_inputs(problem, 21));
    const AttentionResult expected = run_attention(*reference_, Dtype::f64, problem, inputs);
    spoil_free_memory(*ours_);
    const AttentionResult ours = run_attention(*ours_, working, problem, inputs, blocks, &expected);
    const bool half = working == Dtype::bf16;
    if (half && problem.form.clamps()) return;  // rounding carries scores across the clamp
    const double forward = half ? tolerance::bf16_attention : tolerance::f32_attention,
                 backward = half ? tolerance::bf16_attention_backward : tolerance::f32_attention_backward;
    EXPECT_LT(relative_error(ours.output, expected.output), forward) << "output";
    EXPECT_LT(relative_error(ours.lse, expected.lse), forward) << "lse";
    EXPECT_LT(relative_error(ours.delta, expected.delta), backward) << "delta";
    EXPECT_LT(relative_error(ours.dv, expected.dv), backward) << "dv";
    if (half && problem.form.normalizer == Normalizer::relu) return;  // its derivative jumps, where rounding decides
    EXPECT_LT(relative_error(ours.dq, expected.dq), backward) << "dq";
    EXPECT_LT(relative_error(ours.dk, expected.dk), backward) << "dk";
    EXPECT_LT(relative_error(ours.dby_distance, expected.dby_distance), backward) << "dby_distance";
    EXPECT_LT(relative_error(ours.dkey_terms, expected.dkey_terms), backward) << "dkey_terms";
    // Under softmax the gradient of a query's term is what rounding leaves of 0.
    if (problem.form.normalizer == Normalizer::relu)
      EXPECT_LT(relative_error(ours.dquery_terms, expected.dquery_terms), backward) << "dquery_terms";
    else EXPECT_LT(largest_difference(ours.dquery_terms, expected.dquery_terms), 10 * backward) << "dquery_terms";
  }
};

TEST_P(Attention, F32) { compare(Dtype::f32, {}); }
TEST_P(Attention, Bf16) { compare(Dtype::bf16, {}); }
TEST_P(Attention, F32InBlocks) { compare(Dtype::f32, {2, 3}); }
TEST_P(Attention, Bf16InBlocks) { compare(Dtype::bf16, {3, 2}); }

INSTANTIATE_TEST_SUITE_P(Small, Attention, ::testing::ValuesIn(small_problems()),
                         [](const auto& p) { return p.param.name; });
INSTANTIATE_TEST_SUITE_P(Problems, Attention, ::testing::ValuesIn(problems()),
                         [](const auto& p) { return p.param.name; });

/// Of one backend as a whole.
class AttentionKernels : public ::testing::TestWithParam<const char*> {};

/// A problem drawn at random, for combinations that nobody thought of.
AttentionProblem random_problem(std::uint64_t seed, std::int64_t longest) {
  std::mt19937_64 generator(seed);
  const auto draw = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(generator() % static_cast<std::uint64_t>(high - low + 1));
  };
  const char* methods[] = {"none", "rope", "xpos", "steep", "alibi", "alibi_table", "fire", "alibi_gate"};
  const char* patterns[] = {"causal", "window", "blockwise", "sink_window", "documents", "documents_sinks", "holes"};
  std::vector<Span> queries, keys;
  for (std::int64_t id = 0; id < draw(1, 4); ++id) {
    const std::vector<std::int64_t> positions =
        with_gaps(draw(1, longest), draw(0, 2) == 0 ? 3000 : draw(1, 3), generator());
    const std::int64_t kind = draw(0, 3), count = static_cast<std::int64_t>(positions.size());
    if (kind != 0) keys.push_back({id, positions});  // 0: queries without keys; 1: keys of the past only; else both
    queries.push_back({id, {positions.begin() + (kind == 1 ? count / 2 : 0), positions.end()}});
  }
  const std::int64_t kv_heads = draw(1, 3);
  const char* const method = methods[draw(0, 7)];
  const std::int64_t heads = kv_heads * draw(1, 3), width = 2 * draw(1, 20);
  AttentionProblem problem = make_problem(fmt::format("seed {}", seed), method, heads, kv_heads, width,
                                          make_table(queries), make_table(keys), {});
  problem.visible = make_visibility(patterns[draw(0, 6)], draw(4, 200), problem.queries);
  return problem;
}

TEST_P(AttentionKernels, RandomProblemsEqualTheReference) {
  const auto reference = make_reference_backend(), tested = tested_backend().make();
  // Where every query has one key, or nearly all weight on one, gradients of scores are what rounding leaves of those
  // of values.
  const auto size = [](const Values& values) { return largest_difference(values, Values(values.size())); };
  const auto error = [&](const Values& ours, const Values& expected, const AttentionResult& all) {
    const double least = 0.05 * size(all.dv);
    return size(expected) < least ? largest_difference(ours, expected) / least : relative_error(ours, expected);
  };
  for (std::uint64_t seed = 1; seed <= (tested_backend().slow ? 24U : 60U); ++seed) {
    const AttentionProblem problem = random_problem(seed, tested_backend().slow ? 70 : 160);
    const AttentionInputs inputs = rounded_to(Dtype::bf16, random_inputs(problem, seed));
    const AttentionResult expected = run_attention(*reference, Dtype::f64, problem, inputs);
    const Blocks blocks{static_cast<int>(seed % 3) + 1, static_cast<int>(seed % 4) + 1};
    for (const Dtype working : {Dtype::f32, Dtype::bf16}) {
      if (working == Dtype::f32 && !tested_backend().own_f32) continue;
      SCOPED_TRACE(::testing::Message() << problem.name << " " << name_of(working));
      const bool half = working == Dtype::bf16;
      const double forward = half ? tolerance::bf16_attention : tolerance::f32_attention,
                   backward = half ? tolerance::bf16_attention_backward : tolerance::f32_attention_backward;
      const AttentionResult ours = run_attention(*tested, working, problem, inputs, blocks, &expected);
      EXPECT_LT(relative_error(ours.output, expected.output), forward);
      EXPECT_LT(relative_error(ours.lse, expected.lse), forward);
      EXPECT_LT(error(ours.dq, expected.dq, expected), backward);
      EXPECT_LT(error(ours.dk, expected.dk, expected), backward);
      EXPECT_LT(error(ours.dv, expected.dv, expected), backward);
      EXPECT_LT(error(ours.dby_distance, expected.dby_distance, expected), backward);
      EXPECT_LT(error(ours.dkey_terms, expected.dkey_terms, expected), backward);
    }
  }
}

TEST_P(AttentionKernels, TwoRunsGiveTheSameBits) {
  const auto tested = tested_backend().make();
  const Tables tables = same("", {{0, consecutive(tested_backend().slow ? 80 : 300)}, {1, consecutive(90)}});
  const Visibility causal = make_visibility("causal", 0, tables.queries);
  for (const char* method : {"xpos", "table", "gate_fire"})
    for (const Dtype working : {Dtype::f32, Dtype::bf16}) {
      const AttentionProblem problem = make_problem("", method, 4, 2, 32, tables.queries, tables.keys, causal);
      const AttentionInputs inputs = random_inputs(problem, 1);
      const AttentionResult once = run_attention(*tested, working, problem, inputs),
                            again = run_attention(*tested, working, problem, inputs);
      EXPECT_EQ(once.output, again.output);
      EXPECT_EQ(once.dq, again.dq);
      EXPECT_EQ(once.dk, again.dk);
      EXPECT_EQ(once.dv, again.dv);
      EXPECT_EQ(once.dby_distance, again.dby_distance);
      EXPECT_EQ(once.dkey_terms, again.dkey_terms);
    }
}

TEST_P(AttentionKernels, HugeScoresDoNotOverflow) {
  const auto reference = make_reference_backend(), tested = tested_backend().make();
  for (const Dtype working : {Dtype::f32, Dtype::bf16}) {
    SCOPED_TRACE(name_of(working));
    const Tables tables = same("", {{0, consecutive(90)}});
    const AttentionProblem problem =
        make_problem("", "none", 2, 2, 16, tables.queries, tables.keys, make_visibility("causal", 0, tables.queries));
    const AttentionInputs inputs = rounded_to(working, random_inputs(problem, 5, 100.0));  // scores of up to about 1e5
    const AttentionResult expected = run_attention(*reference, Dtype::f64, problem, inputs),
                          ours = run_attention(*tested, working, problem, inputs, {1, 3});
    // Scores of 1e5 in f32 are good to 1e-2, so that the winner is right but ties may share.
    EXPECT_LT(relative_error(ours.lse, expected.lse),
              working == Dtype::f32 ? tolerance::f32_attention : tolerance::bf16_rounded);
    for (const Values* values : {&ours.output, &ours.dq, &ours.dk, &ours.dv})
      for (const double x : *values) ASSERT_TRUE(std::isfinite(x));
  }
}

TEST_P(AttentionKernels, ScoreSumsEqualTheReference) {
  const auto reference = make_reference_backend(), tested = tested_backend().make();
  const TokenTable tokens = make_table(
      {{0, consecutive(150)}, {1, with_gaps(90, 9, 3)}, {2, consecutive(40, 1000000)}, {3, consecutive(40, 32680)}});
  for (const Dtype working : {Dtype::f32, Dtype::bf16})
    for (const char* method : {"none", "xpos"}) {
      SCOPED_TRACE(::testing::Message() << method << " " << name_of(working));
      const AttentionForm form = make_form(method, 4, 2, 16);
      const Values q = rounded_to(working, random_values(tokens.rows() * 64, 1)),
                   k = rounded_to(working, random_values(tokens.rows() * 32, 2));
      Values sums[2] = {Values(200, 1.0), Values(200, 1.0)}, cosine(static_cast<std::size_t>(tokens.rows() * 8), 0.6),
             sine(cosine.size(), 0.8);
      std::vector<std::int64_t> counts[2] = {std::vector<std::int64_t>(200, 2), std::vector<std::int64_t>(200, 2)};
      for (Backend* backend : {reference.get(), tested.get()}) {
        const bool ours = backend == tested.get();
        const Dtype dtype = ours ? working : Dtype::f64, master = ours ? Dtype::f32 : Dtype::f64;
        const RotaryTable rotary{make(*backend, {tokens.rows(), 8}, master, rounded_to(Dtype::f32, cosine)),
                                 make(*backend, {tokens.rows(), 8}, master, rounded_to(Dtype::f32, sine))};
        backend->attention_score_sums({form, make_rows(tokens, rotary), make(*backend, {tokens.rows(), 64}, dtype, q),
                                       make(*backend, {tokens.rows(), 32}, dtype, k), sums[ours], counts[ours]});
      }
      EXPECT_LT(relative_error(sums[1], sums[0]),
                working == Dtype::f32 ? tolerance::f32_attention : tolerance::bf16_attention);
      EXPECT_EQ(counts[1], counts[0]);
    }
}

INSTANTIATE_TEST_SUITE_P(Various, AttentionKernels, ::testing::Values(tested_backend().name),
                         [](const auto& p) { return std::string(p.param); });

}  // namespace
}  // namespace lexring::testing
