// What the CPU backend's XPOS attention loses against the reference in f64, where positions are what could matter:
// prints a Markdown table. An error is beside the reference of the whole tensor: rms / rms, and the largest difference
// / the largest value.
#include <cmath>
#include <cstdio>

#include <fmt/format.h>

#include "tests/framework/backend/attention_problem.h"

namespace lexring::testing {
namespace {

struct Errors {
  double rms = 0, largest = 0;
};
Errors errors(const Values& ours, const Values& expected) {
  double difference = 0, all = 0, most = 0, top = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double d = std::abs(ours[i] - expected[i]);
    difference += d * d, all += expected[i] * expected[i];
    most = std::max(most, d), top = std::max(top, std::abs(expected[i]));
  }
  return {std::sqrt(difference / all), most / top};
}

struct Case {
  const char* name;
  std::vector<std::int64_t> queries, keys;
  Blocks blocks;
};

std::vector<std::int64_t> every(std::int64_t step, std::int64_t count, std::int64_t first) {
  std::vector<std::int64_t> positions = consecutive(count);
  for (std::int64_t& p : positions) p = first + p * step;
  return positions;
}

void run() {
  const auto same = [](const char* name, const std::vector<std::int64_t>& positions, Blocks blocks = {}) {
    return Case{name, positions, positions, blocks};
  };
  const std::vector<std::int64_t> far = with_gaps(1400, 99, 7);
  const Case cases[] = {
      same("1,400 positions from 0", consecutive(1400)),
      same("1,400 from 1,000,000", consecutive(1400, 1000000)),
      {"stripe 1 of 4 against all of 1,400", every(4, 350, 1), consecutive(1400), {1, 4}},
      {"stripe 1 of 4 against stripe 3, every 6th position to 33,600", every(24, 1400, 6), every(24, 1400, 18), {}},
      same("1,400 over 32,200, every 23rd", every(23, 1400, 0)),
      same("1,400 over 70,000, with gaps", far),
      same("the same, 2 x 3 blocks", far, {2, 3}),
      same("clusters of 280 at 0, 300, 32,600, 65,300, 200,003", clusters({0, 300, 32600, 65300, 200003}, 280)),
  };
  const auto reference = make_reference_backend(), ours = make_cpu_backend();
  fmt::print("| positions | precision | output | dq | dk | dv |\n|---|---|---|---|---|---|\n");
  for (const Case& c : cases) {
    AttentionProblem problem =
        make_problem("", "xpos", 2, 1, 64, make_table({{0, c.queries}}), make_table({{0, c.keys}}), {});
    problem.visible = make_visibility("causal", 0, problem.queries);
    for (const Dtype working : {Dtype::f32, Dtype::bf16}) {
      const AttentionInputs inputs = rounded_to(working, random_inputs(problem, 21));
      const AttentionResult expected = run_attention(*reference, Dtype::f64, problem, inputs),
                            result = run_attention(*ours, working, problem, inputs, c.blocks, &expected);
      std::string row = fmt::format("| {} | {} |", c.name, name_of(working));
      for (const auto values :
           {&AttentionResult::output, &AttentionResult::dq, &AttentionResult::dk, &AttentionResult::dv}) {
        const Errors e = errors(result.*values, expected.*values);
        row += fmt::format(" {:.2e}, {:.2e} |", e.rms, e.largest);
      }
      fmt::print("{}\n", row);
      std::fflush(stdout);
    }
  }
}

}  // namespace
}  // namespace lexring::testing

int main() { lexring::testing::run(); }
