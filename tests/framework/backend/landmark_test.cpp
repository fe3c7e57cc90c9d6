// Landmark attention on a backend against the reference in f64, both fed with the same rounded numbers.
#include "framework/ops/landmark_attention.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/framework/backend/attention_problem.h"
#include "tests/framework/backend/tested_backend.h"
#include "tests/support/tolerances.h"

namespace lexring::testing {
namespace {

struct Results {
  Values output, lse, dq, dk, dv, dby_distance;
};

/// Two sequences, the first of two documents; blocks of several sizes, some of them empty, the last ones open.
AttentionProblem problem_of(const std::string& method, std::int64_t width, bool cached) {
  const TokenTable keys = make_table({{0, consecutive(140)}, {3, consecutive(40, 7)}});
  const TokenTable queries = cached ? make_table({{0, consecutive(10, 130)}}) : keys;
  return make_problem("", method, 4, 2, width, queries, keys, make_visibility("causal", 0, queries));
}

LandmarkRows rows_of(const AttentionProblem& problem, const RotaryTable& rotary) {
  const auto positions =
      std::make_shared<const LandmarkPositions>(LandmarkPositions{{0, {0, 9, 10, 30, 90, 110, 132}}, {3, {20, 29}}});
  std::vector<std::int64_t> start;
  for (const TokenTable::Sequence& s : problem.queries.sequences) {
    for (std::int64_t n = s.first; n < s.first + s.count; ++n)
      start.push_back(s.id == 3 ? 7 : problem.queries.position[static_cast<std::size_t>(n)] < 84 ? 0 : 84);
  }
  return make_landmark_rows(problem.queries, rotary, start, positions);
}

Results run(Backend& backend, Dtype working, const AttentionProblem& problem, const AttentionInputs& inputs) {
  const Dtype master = working == Dtype::f64 ? Dtype::f64 : Dtype::f32;
  const std::int64_t n = problem.queries.rows(), m = problem.keys.rows(), w = problem.query_width(),
                     kw = problem.key_width();
  const LandmarkRows queries = rows_of(problem, make_rotary(backend, master, problem, problem.queries));
  const SharedRows keys = make_rows(problem.keys, make_rotary(backend, master, problem, problem.keys));
  const ScoreBias bias = problem.bias(backend, master);
  const LandmarkCall call{problem.form,
                          bias,
                          queries,
                          keys,
                          make(backend, {n, w}, working, inputs.q),
                          make(backend, {m, kw}, working, inputs.k),
                          make(backend, {m, kw}, working, inputs.v)};
  const LandmarkResult result = landmark_forward(backend, call);
  const Tensor dq = make_output(backend, {n, w}, working), dk = make_output(backend, {m, kw}, working),
               dv = make_output(backend, {m, kw}, working);
  Tensor dby_distance;
  if (bias.by_distance.defined())
    dby_distance =
        make(backend, bias.by_distance.shape(), master, Values(static_cast<std::size_t>(bias.by_distance.elements())));
  landmark_backward(backend, call, result, make(backend, {n, w}, working, inputs.doutput), {dq, dk, dv, dby_distance});
  return {read(result.output), read(result.lse), read(dq), read(dk), read(dv), read(dby_distance)};
}

class LandmarkAttention : public ::testing::TestWithParam<const char*> {};

TEST_P(LandmarkAttention, EqualsTheReference) {
  const auto reference = make_reference_backend(), tested = tested_backend().make();
  std::vector<std::string> methods = {"xpos", "table"};
  if (!tested_backend().slow) methods.insert(methods.end(), {"rope", "alibi", "capped_fire"});
  for (const std::string& method : methods) {
    for (const bool cached : {false, true}) {
      if (cached && tested_backend().slow && method != "xpos") continue;
      const AttentionProblem problem = problem_of(method, method == "xpos" ? 64 : 16, cached);
      for (const Dtype working : {Dtype::f32, Dtype::bf16}) {
        if (working == Dtype::f32 && !tested_backend().own_f32) continue;
        SCOPED_TRACE(fmt::format("{}{} {}", method, cached ? " cached" : "", name_of(working)));
        const AttentionInputs inputs = rounded_to(working, random_inputs(problem, 21));
        const Results expected = run(*reference, Dtype::f64, problem, inputs),
                      ours = run(*tested, working, problem, inputs);
        const bool half = working == Dtype::bf16;
        const double forward = half ? tolerance::bf16_attention : tolerance::f32_attention,
                     backward = half ? tolerance::bf16_attention_backward : tolerance::f32_attention_backward;
        EXPECT_LT(relative_error(ours.output, expected.output), forward);
        EXPECT_LT(relative_error(ours.lse, expected.lse), forward);
        EXPECT_LT(relative_error(ours.dq, expected.dq), backward);
        EXPECT_LT(relative_error(ours.dk, expected.dk), backward);
        EXPECT_LT(relative_error(ours.dv, expected.dv), backward);
        EXPECT_LT(relative_error(ours.dby_distance, expected.dby_distance), backward);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Various, LandmarkAttention, ::testing::Values(tested_backend().name),
                         [](const auto& p) { return std::string(p.param); });

}  // namespace
}  // namespace lexring::testing
