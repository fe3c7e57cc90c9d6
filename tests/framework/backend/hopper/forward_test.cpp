// The forward kernel for Hopper beyond what attention_test.cpp asks of every backend: several tiles of 128, more tasks
// than blocks, operands in place, and what it leaves to others.
#include <cmath>

#include <gtest/gtest.h>

#include "framework/backend/cuda/hopper/attention.h"
#include "tests/framework/backend/attention_problem.h"
#include "tests/framework/backend/tested_backend.h"
#include "tests/support/tolerances.h"

namespace lexring::testing {
namespace {

struct Case {
  const char *name, *method, *pattern;
  std::int64_t extent, heads, kv_heads, width;
  std::vector<Span> queries, keys;
};
void PrintTo(const Case& c, std::ostream* os) { *os << c.name; }

std::vector<Case> cases() {
  const std::vector<Span> t400 = {{0, consecutive(400)}}, uneven = {{0, consecutive(130)}, {2, consecutive(257)}},
                          borders = {{0, clusters({16300, 32660, 65350}, 150)}};
  return {
      {"causal_128", "rope", "causal", 0, 2, 1, 128, t400, t400},
      {"causal_64", "none", "causal", 0, 4, 2, 64, t400, t400},
      {"in_place_128", "none", "causal", 0, 3, 1, 128, uneven, uneven},
      {"full", "rope", "full", 0, 2, 2, 64, uneven, uneven},
      {"window", "xpos", "window", 150, 2, 1, 128, t400, t400},
      {"sinks", "none", "sink_window", 140, 2, 2, 64, t400, t400},
      {"holes", "none", "holes", 0, 2, 1, 64, t400, t400},
      {"documents", "xpos", "documents_sinks", 90, 2, 1, 64, uneven, uneven},
      {"alibi_128", "alibi", "causal", 0, 2, 1, 128, t400, t400},
      {"alibi_64", "alibi", "full_documents", 90, 2, 2, 64, uneven, uneven},
      {"narrow", "rope", "causal", 0, 2, 1, 20, t400, t400},
      {"odd", "none", "causal", 0, 2, 2, 70, uneven, uneven},
      {"past_keys", "rope", "causal", 0, 4, 2, 128, {{0, consecutive(100, 900)}}, {{0, consecutive(1000)}}},
      {"decay_across_spans", "xpos", "causal", 0, 2, 1, 128, borders, borders},
      {"decay_across_spans_64", "steep", "causal", 0, 2, 2, 64, borders, borders},
  };
}

class HopperForward : public ::testing::TestWithParam<Case> {};

/// In one block, and by states between blocks.
TEST_P(HopperForward, EqualsTheReference) {
  const Case& c = GetParam();
  const TokenTable queries = make_table(c.queries), keys = make_table(c.keys);
  const AttentionProblem problem = make_problem(c.name, c.method, c.heads, c.kv_heads, c.width, queries, keys,
                                                make_visibility(c.pattern, c.extent, queries));
  const AttentionInputs inputs = rounded_to(Dtype::bf16, random_inputs(problem, 3));
  const auto reference = make_reference_backend(), tested = tested_backend().make();
  const AttentionResult expected = run_attention(*reference, Dtype::f64, problem, inputs);
  for (const Blocks blocks : {Blocks{1, 1}, Blocks{2, 2}}) {
    const AttentionResult ours = run_attention(*tested, Dtype::bf16, problem, inputs, blocks, &expected);
    EXPECT_LT(relative_error(ours.output, expected.output), tolerance::bf16_attention);
    EXPECT_LT(relative_error(ours.lse, expected.lse), tolerance::bf16_attention);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, HopperForward, ::testing::ValuesIn(cases()),
                         [](const auto& p) { return std::string(p.param.name); });

}  // namespace
}  // namespace lexring::testing
