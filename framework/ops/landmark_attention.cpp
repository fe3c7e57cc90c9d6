#include "framework/ops/landmark_attention.h"

#include <limits>

namespace lexring {

namespace {

struct Shapes {
  Runtime& runtime;
  std::int64_t rows, keys, heads, query_width, key_width;
  Dtype working, statistics;

  Shapes(Backend& backend, const LandmarkCall& call)
      : runtime(backend.runtime()),
        rows(call.q.rows()),
        keys(call.k.rows()),
        heads(call.form.heads),
        query_width(call.form.query_width()),
        key_width(call.form.key_width()),
        working(call.q.dtype()),
        statistics(master_dtype(working)) {}
  Tensor output() const { return {runtime, {rows, query_width}, working}; }
  Tensor statistic() const { return {runtime, {rows, heads}, statistics}; }
  AttentionState state() const { return {Tensor(runtime, {rows, query_width}, statistics), statistic(), statistic()}; }
};

Tensor part(const Tensor& rows, const LandmarkRound::Range& range) { return rows.slice(range.first, range.count); }
Columns part(const Columns& rows, const LandmarkRound::Range& range) {
  return {part(rows.matrix, range), rows.first, rows.width};
}
AttentionState part(const AttentionState& state, const LandmarkRound::Range& range) {
  return {part(state.output, range), part(state.maximum, range), part(state.sum, range)};
}

/// Rows that meet: all, or those of a round.
struct Meeting {
  SharedRows queries, keys;
  Columns q, k, v;

  Meeting(const LandmarkCall& call, SharedRows asking)
      : queries(std::move(asking)), keys(call.keys), q(call.q), k(call.k), v(call.v) {}
  Meeting(const LandmarkCall& call, const LandmarkRound& round, SharedRows asking)
      : queries(std::move(asking)),
        keys(round.keys),
        q(part(call.q, round.query_range)),
        k(part(call.k, round.key_range)),
        v(part(call.v, round.key_range)) {}
};

void attend(Backend& backend, const LandmarkCall& call, const Meeting& rows, const CallStage& stage,
            const AttentionState& state, const LandmarkResult& result) {
  const AttentionForward forward{.form = call.form,
                                 .bias = call.bias,
                                 .queries = rows.queries,
                                 .keys = rows.keys,
                                 .q = rows.q,
                                 .k = rows.k,
                                 .v = rows.v,
                                 .stage = stage,
                                 .state = state,
                                 .output = result.output,
                                 .lse = result.lse};
  check(forward);
  backend.attention(forward);
}

/// What calls of backward add up.
struct Sums {
  Tensor dq, dk, dv;
};

/// `whole`: delta is that of output and doutput.
void differentiate(Backend& backend, const LandmarkCall& call, const Meeting& rows, const CallStage& stage,
                   const Sums& sums, const LandmarkResult& result, const Tensor& doutput, const Tensor& delta,
                   const LandmarkGradients& gradients, bool whole = true) {
  const AttentionBackward back{.form = call.form,
                               .bias = call.bias,
                               .queries = rows.queries,
                               .keys = rows.keys,
                               .q = rows.q,
                               .k = rows.k,
                               .v = rows.v,
                               .output = result.output,
                               .doutput = doutput,
                               .lse = result.lse,
                               .delta = delta,
                               .query_stage = stage,
                               .key_stage = stage,
                               .dq_state = sums.dq,
                               .dk_state = sums.dk,
                               .dv_state = sums.dv,
                               .dq = gradients.dq,
                               .dk = gradients.dk,
                               .dv = gradients.dv,
                               .dby_distance = gradients.dby_distance,
                               .delta_is_of_output = whole};
  check(back);
  backend.attention_backward(back);
}

constexpr CallStage alone{true, true}, begins{true, false}, goes_on{false, false}, ends{false, true};

}  // namespace

LandmarkResult landmark_forward(Backend& backend, const LandmarkCall& call) {
  const Shapes shapes(backend, call);
  const LandmarkResult result{shapes.output(), shapes.statistic()};
  const std::int64_t rounds = call.queries.rounds();
  AttentionState whole, block;
  if (rounds > 0) {
    whole = shapes.state(), block = shapes.state();
    backend.fill(whole.output, 0.0);
    backend.fill(whole.maximum, -std::numeric_limits<double>::infinity());
    backend.fill(whole.sum, 0.0);
  }
  const Tensor score = shapes.statistic();
  for (std::int64_t number = 0; number < rounds; ++number) {
    const LandmarkRound round = call.queries.round(number, *call.keys);
    const LandmarkResult found{part(result.output, round.query_range), part(score, round.query_range)};
    const AttentionState inside = part(block, round.query_range);
    attend(backend, call, {call, round, round.landmark}, alone, {}, found);  // its output is not read
    attend(backend, call, {call, round, round.block}, begins, inside, {});
    backend.merge_landmark(inside, found.lse, part(whole, round.query_range));
  }
  attend(backend, call, {call, call.queries.own}, rounds > 0 ? ends : alone, whole, result);
  return result;
}

void landmark_backward(Backend& backend, const LandmarkCall& call, const LandmarkResult& result, const Tensor& doutput,
                       const LandmarkGradients& gradients) {
  const Shapes shapes(backend, call);
  const std::int64_t rounds = call.queries.rounds();
  const Tensor delta = shapes.statistic();
  backend.attention_delta(result.output, doutput, delta);
  Sums sums;
  if (rounds > 0) {
    sums = {Tensor(shapes.runtime, {shapes.rows, shapes.query_width}, shapes.statistics),
            Tensor(shapes.runtime, {shapes.keys, shapes.key_width}, shapes.statistics),
            Tensor(shapes.runtime, {shapes.keys, shapes.key_width}, shapes.statistics)};
    for (const Tensor& sum : {sums.dq, sums.dk, sums.dv}) backend.fill(sum, 0.0);
    const Tensor outputs = shapes.output(), zeros = shapes.output(), block_lse = shapes.statistic(),
                 scores = shapes.statistic(), block_deltas = shapes.statistic(), landmark_deltas = shapes.statistic();
    for (std::int64_t number = 0; number < rounds; ++number) {
      const LandmarkRound round = call.queries.round(number, *call.keys);
      const LandmarkRound::Range &asking = round.query_range, &met = round.key_range;
      const Meeting tokens(call, round, round.block), landmark(call, round, round.landmark);
      const Sums own{part(sums.dq, asking), part(sums.dk, met), part(sums.dv, met)};
      const LandmarkResult all{part(result.output, asking), part(result.lse, asking)},
          block{part(outputs, asking), part(block_lse, asking)};
      const Tensor d = part(doutput, asking), none = part(zeros, asking), score = part(scores, asking),
                   block_delta = part(block_deltas, asking), landmark_delta = part(landmark_deltas, asking);
      attend(backend, call, landmark, alone, {}, {none, score});
      backend.fill(none, 0.0);
      attend(backend, call, tokens, alone, {}, block);
      backend.attention_delta(block.output, d, block_delta);
      backend.landmark_statistics({all.lse, score, part(delta, asking), block_delta, block.lse, landmark_delta});
      const LandmarkGradients table{{}, {}, {}, gradients.dby_distance};
      differentiate(backend, call, tokens, goes_on, own, block, d, block_delta, table);
      differentiate(backend, call, landmark, goes_on, own, all, none, landmark_delta, table, false);
    }
  }
  differentiate(backend, call, {call, call.queries.own}, rounds > 0 ? ends : alone, sums, result, doutput, delta,
                gradients);
}

Var landmark_attention(Tape& tape, const AttentionForm& form, const std::shared_ptr<const LandmarkRows>& queries,
                       const SharedRows& keys, const BiasTerms& bias, const Var& qkv) {
  const MemoryPurpose purpose("attention: output, state, gradients");
  const auto with_call = [form, queries, keys, bias](const Tensor& x, const auto& use) {
    const ScoreBias added = bias.value({});
    const QueryKeyValue in = split_columns(form, x);
    return use(LandmarkCall{form, added, *queries, keys, in.query, in.key, in.value});
  };
  const std::vector<Tensor> attended = tape.once([&] {
    return with_call(qkv.value(), [&](const LandmarkCall& call) {
      const LandmarkResult result = landmark_forward(tape.backend(), call);
      return std::vector<Tensor>{result.output, result.lse};
    });
  });
  Var output(attended[0]);
  tape.record([&backend = tape.backend(), form, bias, with_call, kept_qkv = tape.keep(qkv),
               kept_lse = tape.keep(attended[1]), kept_output = tape.keep(output), o_slot = output.slot(),
               qkv_slot = qkv.slot()] {
    const Tensor doutput = o_slot.take();
    if (!doutput.defined()) return;
    const Tensor x = kept_qkv();
    Tensor dx(backend.runtime(), x.shape(), x.dtype());
    const QueryKeyValue to = split_columns(form, dx);
    BiasGradients dbias(backend, bias);
    with_call(x, [&](const LandmarkCall& call) {
      landmark_backward(backend, call, {kept_output(), kept_lse()}, doutput,
                        {to.query, to.key, to.value, dbias.of({})});
    });
    std::move(dbias).accumulate(backend, bias);
    qkv_slot.accumulate(backend, std::move(dx));
  });
  return output;
}

}  // namespace lexring
