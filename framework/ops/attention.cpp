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

namespace {

Var slice_heads(Tape& tape, const Var& table, std::int64_t first, std::int64_t count) {
  if (!table.defined()) return {};
  const Tensor& whole = table.value();
  Var part(whole.slice(first, count));
  tape.record([&backend = tape.backend(), whole, first, count, slot = table.slot(), part_slot = part.slot()] {
    const Tensor dpart = part_slot.take();
    if (!dpart.defined()) return;
    Tensor dwhole(backend.runtime(), whole.shape(), whole.dtype());
    backend.fill(dwhole, 0.0);
    backend.copy(dpart, dwhole.slice(first, count));
    slot.accumulate(backend, std::move(dwhole));
  });
  return part;
}

Tensor sums_of_heads(Backend& backend, const Tensor& sums, std::int64_t first, std::int64_t count) {
  const std::int64_t heads = sums.dim(1) / 2;
  Tensor part(backend.runtime(), {sums.dim(0), 2 * count}, sums.dtype());
  for (const std::int64_t half : {0, 1}) backend.copy({sums, half * heads + first, count}, {part, half * count, count});
  return part;
}

Tensor zeros(Backend& backend, const Shape& shape, Dtype dtype) {
  Tensor values(backend.runtime(), shape, dtype);
  backend.fill(values, 0.0);
  return values;
}

Tensor zeros_of(Backend& backend, const Var& table) {
  return table.defined() ? zeros(backend, table.value().shape(), table.value().dtype()) : Tensor();
}

struct Attended {
  Tensor output, lse;
};

/// Part after part, from one state.
Attended attend(Backend& backend, const AttentionParts& parts, const BiasTerms& bias, const SharedRows& keys,
                const QueryKeyValue& in, const RowTerms& terms) {
  Runtime& runtime = backend.runtime();
  const std::int64_t rows = in.query.rows(), heads = parts.front().form.heads;
  const Dtype working = in.query.dtype(), statistics = master_dtype(working);
  const Attended attended{Tensor(runtime, {rows, in.query.width}, working), Tensor(runtime, {rows, heads}, statistics)};
  AttentionState state;
  if (parts.size() > 1) {
    state = {Tensor(runtime, {rows, in.query.width}, statistics), Tensor(runtime, {rows, heads}, statistics),
             Tensor(runtime, {rows, heads}, statistics)};
  }
  for (const AttentionPart& part : parts) {
    const ScoreBias added = bias.value(part);
    const AttentionForward call{.form = part.form,
                                .bias = added,
                                .queries = part.queries,
                                .keys = keys,
                                .q = in.query,
                                .k = in.key,
                                .v = in.value,
                                .stage = {&part == &parts.front(), &part == &parts.back()},
                                .state = state,
                                .output = attended.output,
                                .lse = attended.lse,
                                .row_terms = terms};
    check(call);
    backend.attention(call);
  }
  return attended;
}

}  // namespace

Var slice_sums(Tape& tape, const Var& sums, std::int64_t first, std::int64_t count) {
  if (!sums.defined()) return {};
  Backend& backend = tape.backend();
  Tensor value = sums_of_heads(backend, sums.value(), first, count);
  const Kept kept = tape.keep(sums);
  const auto again = [&backend, kept, first, count] { return sums_of_heads(backend, kept(), first, count); };
  const Var part = kept ? Var(std::move(value), again) : Var(std::move(value));
  tape.record([&backend, shape = sums.value().shape(), first, count, slot = sums.slot(), part_slot = part.slot()] {
    const Tensor dpart = part_slot.take();
    if (!dpart.defined()) return;
    Tensor dsums(backend.runtime(), {shape[0], shape[1] / 2}, dpart.dtype());
    backend.fill(dsums, 0.0);
    backend.copy(dpart, {dsums, first, count});
    slot.accumulate(backend, std::move(dsums));
  });
  return part;
}

BiasTerms slice_heads(Tape& tape, const BiasTerms& bias, std::int64_t first, std::int64_t count) {
  BiasTerms part;
  if (!bias.slopes.empty()) part.slopes.assign(bias.slopes.begin() + first, bias.slopes.begin() + first + count);
  part.by_distance = slice_heads(tape, bias.by_distance, first, count);
  part.later = slice_heads(tape, bias.later, first, count);
  part.log_distance = bias.log_distance;
  part.sums = slice_sums(tape, bias.sums, first, count);
  return part;
}

Tensor gradient_of_sums(Backend& backend, const Tensor& sums) {
  return sums.defined() ? zeros(backend, {sums.dim(0), sums.dim(1) / 2}, sums.dtype()) : Tensor();
}

BiasGradients::BiasGradients(Backend& backend, const BiasTerms& bias)
    : by_distance_(zeros_of(backend, bias.by_distance)), later_(zeros_of(backend, bias.later)) {}

void BiasGradients::accumulate(Backend& backend, const BiasTerms& bias) && {
  if (by_distance_.defined()) bias.by_distance.accumulate(backend, std::move(by_distance_));
  if (later_.defined()) bias.later.accumulate(backend, std::move(later_));
}

Var attention(Tape& tape, const AttentionParts& parts, const SharedRows& keys, const BiasTerms& bias, const Var& qkv) {
  const MemoryPurpose purpose("attention: output, state, gradients");
  const std::vector<Tensor> attended = tape.once([&] {
    const Tensor& sums = bias.sums.value();
    const Attended rows =
        attend(tape.backend(), parts, bias, keys, split_columns(parts.front().form, qkv.value()), {sums, sums});
    return std::vector<Tensor>{rows.output, rows.lse};
  });
  Var output(attended[0]);
  BiasTerms tables = bias;
  tables.sums = Var();  // kept as activations are
  tape.record([&backend = tape.backend(), parts, keys, bias = std::move(tables), kept_sums = tape.keep(bias.sums),
               sums_slot = bias.sums.slot(), kept_qkv = tape.keep(qkv), kept_lse = tape.keep(attended[1]),
               kept_output = tape.keep(output), o_slot = output.slot(), qkv_slot = qkv.slot()]() mutable {
    const Tensor doutput = o_slot.take();
    if (!doutput.defined()) return;
    const Tensor sums = kept_sums(), dsums = gradient_of_sums(backend, sums);
    const Tensor x = kept_qkv(), statistics = kept_lse(), value = std::exchange(kept_output, {})(),
                 delta(backend.runtime(), statistics.shape(), statistics.dtype());
    backend.attention_delta(value, doutput, delta);
    BiasGradients dbias(backend, bias);
    const auto differentiate = [&](const AttentionPart& part, Dtype dtype) {
      Tensor dx(backend.runtime(), x.shape(), dtype);
      const ScoreBias added = bias.value(part);
      const QueryKeyValue q = split_columns(part.form, x), dq = split_columns(part.form, dx);
      const AttentionBackward back{.form = part.form,
                                   .bias = added,
                                   .queries = part.queries,
                                   .keys = keys,
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
                                   .dby_distance = dbias.of(part),
                                   .row_terms = {sums, sums},
                                   .dquery_terms = dsums,
                                   .dkey_terms = dsums};
      check(back);
      backend.attention_backward(back);
      return dx;
    };
    Tensor dx = differentiate(parts.front(), parts.size() > 1 ? statistics.dtype() : x.dtype());
    for (std::size_t i = 1; i < parts.size(); ++i) backend.add(differentiate(parts[i], dx.dtype()), dx);
    if (dx.dtype() != x.dtype()) {
      const Tensor sum = std::exchange(dx, Tensor(backend.runtime(), x.shape(), x.dtype()));
      backend.cast(sum, dx);
    }
    std::move(dbias).accumulate(backend, bias);
    if (dsums.defined()) sums_slot.accumulate(backend, dsums);
    qkv_slot.accumulate(backend, std::move(dx));
  });
  return output;
}

Tensor attention_to_cache(Backend& backend, const AttentionParts& parts, const BiasTerms& bias, const Columns& query,
                          const CachedKeys& cached) {
  return attend(backend, parts, bias, cached.rows, {query, cached.keys, cached.values}, cached.terms).output;
}

}  // namespace lexring
