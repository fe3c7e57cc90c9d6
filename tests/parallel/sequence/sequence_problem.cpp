#include "tests/parallel/sequence/sequence_problem.h"

#include <algorithm>
#include <cmath>

namespace lexring::testing {
namespace {

Dtype master_of(Dtype working) { return working == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

std::int64_t fused_width(const AttentionForm& form) { return form.query_width() + 2 * form.key_width(); }

template <class Op>
WholeResult run(Backend& backend, Dtype working, const AttentionProblem& problem, const Values& qkv,
                const Values& doutput, Op&& op) {
  const std::int64_t width = problem.query_width(), rows = static_cast<std::int64_t>(doutput.size()) / width;
  Tape tape(backend, Recording::on);
  const Var input(make(backend, {rows, fused_width(problem.form)}, working, qkv));
  BiasTerms bias{problem.slopes, Var(), Var()};
  if (!problem.by_distance.empty()) bias.by_distance = Var(problem.bias(backend, master_of(working)).by_distance);
  if (!problem.key_terms.empty()) {
    const Shape shape = {problem.keys.rows(), 2 * problem.form.heads};
    bias.sums = Var(make(backend, shape, master_of(working), problem.key_terms));
  }
  const Var output = op(tape, bias, input);
  WholeResult result{read(output.value()), {}, {}, {}};
  output.accumulate(backend, make(backend, {rows, width}, working, doutput));
  tape.backward();
  result.dqkv = read(input.gradient());
  if (bias.by_distance.defined()) result.dby_distance = read(bias.by_distance.gradient());
  if (bias.sums.defined()) result.dsums = read(bias.sums.gradient());
  return result;
}

}  // namespace

AttentionProblem self_problem(const std::string& method, const std::string& pattern, std::int64_t extent,
                              std::int64_t heads, std::int64_t kv_heads, std::int64_t width,
                              const std::vector<Span>& sequences) {
  const TokenTable tokens = make_table(sequences);
  return make_problem(method + "_" + pattern, method, heads, kv_heads, width, tokens, tokens,
                      make_visibility(pattern, extent, tokens));
}

RotaryMaker rotary_maker(Backend& backend, Dtype dtype, const AttentionProblem& problem) {
  if (!problem.form.rotary) return {};
  return [&backend, dtype, width = problem.form.head_width, step = problem.angle_step](const TokenTable& tokens) {
    Values cosine, sine;
    for (const std::int64_t position : tokens.position) {
      for (std::int64_t i = 0; i < width / 2; ++i) {
        const double angle =
            static_cast<double>(position) * std::pow(step, static_cast<double>(i) * 8 / static_cast<double>(width));
        cosine.push_back(std::cos(angle));
        sine.push_back(std::sin(angle));
      }
    }
    const Shape shape{tokens.rows(), width / 2};
    return RotaryTable{make(backend, shape, dtype, cosine), make(backend, shape, dtype, sine)};
  };
}

WholeInputs whole_inputs(const AttentionProblem& problem, std::uint64_t seed) {
  const std::int64_t rows = problem.queries.rows();
  return {random_values(rows * fused_width(problem.form), seed), random_values(rows * problem.query_width(), seed + 1)};
}

WholeInputs rounded_to(Dtype dtype, const WholeInputs& inputs) {
  return {rounded_to(dtype, inputs.qkv), rounded_to(dtype, inputs.doutput)};
}

namespace {

std::vector<PartPlan> parts_of(const AttentionProblem& problem) {
  if (problem.form.decays() && !problem.visible.end.empty())
    return both_sides(problem.form, problem.queries, problem.visible);
  return {{problem.form, problem.visible, {}}};
}

}  // namespace

WholeResult run_whole(Backend& backend, Dtype working, const AttentionProblem& problem, const WholeInputs& inputs) {
  const RotaryMaker maker = rotary_maker(backend, master_of(working), problem);
  const SharedRows rows = make_rows(problem.queries, maker ? maker(problem.queries) : RotaryTable());
  AttentionParts parts;
  for (const PartPlan& part : parts_of(problem))
    parts.push_back({part.form, make_rows(problem.queries, rows->rotary, part.visible), part.later});
  return run(
      backend, working, problem, inputs.qkv, inputs.doutput,
      [&](Tape& tape, const BiasTerms& bias, const Var& qkv) { return attention(tape, parts, rows, bias, qkv); });
}

Values rows_of(const Values& whole, const std::vector<std::int64_t>& rows, std::int64_t width) {
  Values result;
  for (const std::int64_t row : rows)
    result.insert(result.end(), whole.begin() + row * width, whole.begin() + (row + 1) * width);
  return result;
}

std::shared_ptr<const SequenceTables> make_tables(Backend& backend, Dtype working, const AttentionProblem& problem,
                                                  PartitionKind kind, Exchange exchange, int place, int ring) {
  return std::make_shared<const SequenceTables>(
      make_sequence_tables(std::make_shared<const Partition>(problem.queries, kind, ring), place, problem.visible,
                           parts_of(problem), exchange, rotary_maker(backend, master_of(working), problem)));
}

WholeResult run_on_ring(Backend& backend, Dtype working, const AttentionProblem& problem, const WholeInputs& inputs,
                        Communicator& ring, const std::shared_ptr<const SequenceTables>& tables) {
  const auto rows = row_indices(tables->partition->place_chunks(ring.rank()));
  return run(backend, working, problem, rows_of(inputs.qkv, rows, fused_width(problem.form)),
             rows_of(inputs.doutput, rows, problem.query_width()),
             [&](Tape& tape, const BiasTerms& bias, const Var& qkv) {
               return sequence_attention(tape, ring, tables, bias, qkv);
             });
}

}  // namespace lexring::testing
