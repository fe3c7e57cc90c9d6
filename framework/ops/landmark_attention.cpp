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

void attend(Backend& backend, const LandmarkCall& call, SharedRows queries, const CallStage& stage,
            const AttentionState& state, const LandmarkResult& result) {
  const AttentionForward forward{.form = call.form,
                                 .bias = call.bias,
                                 .queries = std::move(queries),
                                 .keys = call.keys,
                                 .q = call.q,
                                 .k = call.k,
                                 .v = call.v,
                                 .stage = stage,
                                 .state = state,
                                 .output = result.output,
                                 .lse = result.lse};
  check(forward);
  backend.attention(forward);
}

/// The calls of a backward pass, which go on from one another.
class BackwardCalls {
 public:
  BackwardCalls(Backend& backend, const LandmarkCall& call, const LandmarkGradients& gradients)
      : backend_(backend), call_(call), gradients_(gradients), left_(2 * call.queries.rounds() + 1) {
    if (left_ == 1) return;
    const Shapes shapes(backend, call);
    const auto accumulator = [&](std::int64_t rows, std::int64_t width) {
      return Tensor(shapes.runtime, {rows, width}, shapes.statistics);
    };
    dq_ = accumulator(shapes.rows, shapes.query_width);
    dk_ = accumulator(shapes.keys, shapes.key_width), dv_ = accumulator(shapes.keys, shapes.key_width);
  }

  /// `whole`: delta is that of output and doutput.
  void differentiate(SharedRows queries, const LandmarkResult& result, const Tensor& doutput, const Tensor& delta,
                     bool whole = true) {
    const CallStage stage{first_, --left_ == 0};
    first_ = false;
    const AttentionBackward back{.form = call_.form,
                                 .bias = call_.bias,
                                 .queries = std::move(queries),
                                 .keys = call_.keys,
                                 .q = call_.q,
                                 .k = call_.k,
                                 .v = call_.v,
                                 .output = result.output,
                                 .doutput = doutput,
                                 .lse = result.lse,
                                 .delta = delta,
                                 .query_stage = stage,
                                 .key_stage = stage,
                                 .dq_state = dq_,
                                 .dk_state = dk_,
                                 .dv_state = dv_,
                                 .dq = gradients_.dq,
                                 .dk = gradients_.dk,
                                 .dv = gradients_.dv,
                                 .dby_distance = gradients_.dby_distance,
                                 .delta_is_of_output = whole};
    check(back);
    backend_.attention_backward(back);
  }

 private:
  Backend& backend_;
  const LandmarkCall& call_;
  const LandmarkGradients& gradients_;
  std::int64_t left_;
  bool first_ = true;
  Tensor dq_, dk_, dv_;
};

constexpr CallStage alone{true, true};

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
  for (std::int64_t round = 0; round < rounds; ++round) {
    attend(backend, call, call.queries.landmark(round), alone, {}, {result.output, score});  // its output is not read
    attend(backend, call, call.queries.block(round), {true, false}, block, {});
    backend.merge_landmark(block, score, whole);
  }
  attend(backend, call, call.queries.own, {rounds == 0, true}, whole, result);
  return result;
}

void landmark_backward(Backend& backend, const LandmarkCall& call, const LandmarkResult& result, const Tensor& doutput,
                       const LandmarkGradients& gradients) {
  const Shapes shapes(backend, call);
  const std::int64_t rounds = call.queries.rounds();
  const Tensor delta = shapes.statistic();
  backend.attention_delta(result.output, doutput, delta);
  BackwardCalls calls(backend, call, gradients);
  if (rounds > 0) {
    const LandmarkResult block{shapes.output(), shapes.statistic()};
    const Tensor zeros = shapes.output(), score = shapes.statistic(), block_delta = shapes.statistic(),
                 landmark_delta = shapes.statistic();
    for (std::int64_t round = 0; round < rounds; ++round) {
      const SharedRows landmark = call.queries.landmark(round), tokens = call.queries.block(round);
      attend(backend, call, landmark, alone, {}, {zeros, score});
      backend.fill(zeros, 0.0);
      attend(backend, call, tokens, alone, {}, block);
      backend.attention_delta(block.output, doutput, block_delta);
      backend.landmark_statistics({result.lse, score, delta, block_delta, block.lse, landmark_delta});
      calls.differentiate(tokens, block, doutput, block_delta);
      calls.differentiate(landmark, result, zeros, landmark_delta, false);
    }
  }
  calls.differentiate(call.queries.own, result, doutput, delta);
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
