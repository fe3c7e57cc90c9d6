#include "framework/ops/attention.h"

namespace lexring {

namespace {

Dtype statistics_dtype(Dtype working) { return working == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

}  // namespace

QueryKeyValue split_columns(const AttentionSpec& spec, const Tensor& qkv) {
  const std::int64_t query_width = spec.heads * spec.head_width;
  const std::int64_t key_width = spec.kv_heads * spec.head_width;
  require(qkv.shape().size() == 2 && qkv.dim(1) == query_width + 2 * key_width,
          "attention: {} is not query, key and value of widths {}, {} and {}", to_string(qkv.shape()), query_width,
          key_width, key_width);
  return {{qkv, 0, query_width}, {qkv, query_width, key_width}, {qkv, query_width + key_width, key_width}};
}

Var attention(Tape& tape, const std::shared_ptr<const AttentionTables>& tables, const Var& qkv) {
  const Tensor& input = qkv.value();
  const AttentionSpec& spec = tables->spec;
  const QueryKeyValue in = split_columns(spec, input);
  const std::int64_t rows = input.dim(0);
  const MemoryPurpose purpose("attention: output, state, gradients");
  Var output(Tensor(tape.runtime(), {rows, spec.heads * spec.head_width}, input.dtype()));
  const Tensor lse(tape.runtime(), {rows, spec.heads}, statistics_dtype(input.dtype()));
  const AttentionForward call{.spec = spec,
                              .queries = tables->tokens,
                              .keys = tables->tokens,
                              .query_rotary = tables->rotary,
                              .key_rotary = tables->rotary,
                              .visible = tables->visible,
                              .q = in.query,
                              .k = in.key,
                              .v = in.value,
                              .stage = {},
                              .state = {},
                              .output = output.value(),
                              .lse = lse};
  check(call);
  tape.backend().attention(call);
  tape.record([&backend = tape.backend(), tables, input, lse, o = output.value(), o_slot = output.slot(),
               qkv_slot = qkv.slot()]() mutable {
    const Tensor doutput = o_slot.take();
    if (!doutput.defined()) return;
    const Tensor delta(backend.runtime(), lse.shape(), lse.dtype());
    backend.attention_delta(o, doutput, delta);
    o = Tensor();
    Tensor dinput(backend.runtime(), input.shape(), input.dtype());
    const QueryKeyValue q = split_columns(tables->spec, input);
    const QueryKeyValue dq = split_columns(tables->spec, dinput);
    const AttentionBackward back{.spec = tables->spec,
                                 .queries = tables->tokens,
                                 .keys = tables->tokens,
                                 .query_rotary = tables->rotary,
                                 .key_rotary = tables->rotary,
                                 .visible = tables->visible,
                                 .q = q.query,
                                 .k = q.key,
                                 .v = q.value,
                                 .doutput = doutput,
                                 .lse = lse,
                                 .delta = delta,
                                 .query_stage = {},
                                 .key_stage = {},
                                 .dq_state = {},
                                 .dk_state = {},
                                 .dv_state = {},
                                 .dq = dq.query,
                                 .dk = dq.key,
                                 .dv = dq.value};
    check(back);
    backend.attention_backward(back);
    qkv_slot.accumulate(backend, std::move(dinput));
  });
  return output;
}

Tensor attention_to_cache(Backend& backend, const AttentionTables& queries, const Columns& query,
                          const CachedKeys& cached) {
  const std::int64_t rows = query.rows();
  Tensor output(backend.runtime(), {rows, query.width}, query.dtype());
  const Tensor lse(backend.runtime(), {rows, queries.spec.heads}, statistics_dtype(query.dtype()));
  const AttentionForward call{.spec = queries.spec,
                              .queries = queries.tokens,
                              .keys = cached.tokens,
                              .query_rotary = queries.rotary,
                              .key_rotary = cached.rotary,
                              .visible = queries.visible,
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
