#include "framework/ops/attention.h"

namespace lexring {

QueryKeyValue split_columns(const AttentionForm& form, const Tensor& qkv) {
  const std::int64_t query_width = form.query_width(), key_width = form.key_width();
  require(qkv.shape().size() == 2 && qkv.dim(1) == query_width + 2 * key_width,
          "attention: {} is not query, key and value of widths {}, {} and {}", to_string(qkv.shape()), query_width,
          key_width, key_width);
  return {{qkv, 0, query_width}, {qkv, query_width, key_width}, {qkv, query_width + key_width, key_width}};
}

Columns key_value_columns(const AttentionForm& form, const Tensor& qkv) {
  return {qkv, form.query_width(), 2 * form.key_width()};
}

BiasTerms slice_heads(Tape& tape, const BiasTerms& bias, std::int64_t first, std::int64_t count) {
  BiasTerms part;
  if (!bias.slopes.empty()) part.slopes.assign(bias.slopes.begin() + first, bias.slopes.begin() + first + count);
  if (!bias.by_distance.defined()) return part;
  const Tensor& whole = bias.by_distance.value();
  part.by_distance = Var(whole.slice(first, count));
  tape.record([&backend = tape.backend(), whole, first, count, slot = bias.by_distance.slot(),
               part_slot = part.by_distance.slot()] {
    const Tensor dpart = part_slot.take();
    if (!dpart.defined()) return;
    Tensor dwhole(backend.runtime(), whole.shape(), whole.dtype());
    backend.fill(dwhole, 0.0);
    backend.copy(dpart, dwhole.slice(first, count));
    slot.accumulate(backend, std::move(dwhole));
  });
  return part;
}

Tensor begin_bias_gradient(Backend& backend, const ScoreBias& bias) {
  if (!bias.by_distance.defined()) return {};
  Tensor gradient(backend.runtime(), bias.by_distance.shape(), bias.by_distance.dtype());
  backend.fill(gradient, 0.0);
  return gradient;
}

Var attention(Tape& tape, const AttentionForm& form, const SharedRows& rows, const BiasTerms& bias, const Var& qkv) {
  const MemoryPurpose purpose("attention: output, state, gradients");
  const ScoreBias added = bias.value();
  const std::vector<Tensor> attended = tape.once([&] {
    const Tensor& input = qkv.value();
    const QueryKeyValue in = split_columns(form, input);
    const Tensor output(tape.runtime(), {input.dim(0), form.query_width()}, input.dtype()),
        lse(tape.runtime(), {input.dim(0), form.heads}, master_dtype(input.dtype()));
    const AttentionForward call{.form = form,
                                .bias = added,
                                .queries = rows,
                                .keys = rows,
                                .q = in.query,
                                .k = in.key,
                                .v = in.value,
                                .stage = {},
                                .state = {},
                                .output = output,
                                .lse = lse};
    check(call);
    tape.backend().attention(call);
    return std::vector<Tensor>{output, lse};
  });
  Var output(attended[0]);
  tape.record([&backend = tape.backend(), &form, rows, added, kept_qkv = tape.keep(qkv),
               kept_lse = tape.keep(attended[1]), kept_output = tape.keep(output), o_slot = output.slot(),
               qkv_slot = qkv.slot(), bias_slot = bias.by_distance.slot()]() mutable {
    const Tensor doutput = o_slot.take();
    if (!doutput.defined()) return;
    const Tensor x = kept_qkv(), statistics = kept_lse(), value = std::exchange(kept_output, {})(),
                 delta(backend.runtime(), statistics.shape(), statistics.dtype());
    backend.attention_delta(value, doutput, delta);
    Tensor dx(backend.runtime(), x.shape(), x.dtype());
    Tensor dbias = begin_bias_gradient(backend, added);
    const QueryKeyValue q = split_columns(form, x);
    const QueryKeyValue dq = split_columns(form, dx);
    const AttentionBackward back{.form = form,
                                 .bias = added,
                                 .queries = rows,
                                 .keys = rows,
                                 .q = q.query,
                                 .k = q.key,
                                 .v = q.value,
                                 .output = value,
                                 .doutput = doutput,
                                 .lse = statistics,
                                 .delta = delta,
                                 .query_stage = {},
                                 .key_stage = {},
                                 .dq_state = {},
                                 .dk_state = {},
                                 .dv_state = {},
                                 .dq = dq.query,
                                 .dk = dq.key,
                                 .dv = dq.value,
                                 .dby_distance = dbias};
    check(back);
    backend.attention_backward(back);
    if (dbias.defined()) bias_slot.accumulate(backend, std::move(dbias));
    qkv_slot.accumulate(backend, std::move(dx));
  });
  return output;
}

Tensor attention_to_cache(Backend& backend, const AttentionForm& form, const SharedRows& queries, const ScoreBias& bias,
                          const Columns& query, const CachedKeys& cached) {
  Tensor output(backend.runtime(), {query.rows(), query.width}, query.dtype());
  const Tensor lse(backend.runtime(), {query.rows(), form.heads}, master_dtype(query.dtype()));
  const AttentionForward call{.form = form,
                              .bias = bias,
                              .queries = queries,
                              .keys = cached.rows,
                              .q = query,
                              .k = cached.keys,
                              .v = cached.values,
                              .stage = {},
                              .state = {},
                              .output = output,
                              .lse = lse};
  check(call);
  backend.attention(call);
  return output;
}

}  // namespace lexring
