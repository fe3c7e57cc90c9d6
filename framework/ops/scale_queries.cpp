#include "framework/ops/scale_queries.h"

#include "framework/ops/attention.h"

namespace lexring {

namespace {

Tensor scaled(Backend& backend, const AttentionForm& form, const QueryFactors& factors, const Tensor& qkv) {
  Tensor y(backend.runtime(), qkv.shape(), qkv.dtype());
  backend.scale_queries(split_columns(form, qkv).query, factors.by_row, factors.by_head.value,
                        split_columns(form, y).query);
  backend.copy(key_value_columns(form, qkv), key_value_columns(form, y));
  return y;
}

/// Rows that have no other columns.
Tensor alone(Backend& backend, const Columns& columns) {
  Tensor copy(backend.runtime(), {columns.rows(), columns.width}, columns.dtype());
  backend.copy(columns, copy);
  return copy;
}

/// From queries as they were, and the gradient of the scaled ones.
void add_head_gradient(Backend& backend, const AttentionForm& form, const QueryFactors& factors, const Tensor& qkv,
                       const Tensor& dscaled) {
  const Tensor products(backend.runtime(), {qkv.dim(0), form.heads}, factors.by_row.dtype());
  backend.attention_delta(alone(backend, split_columns(form, qkv).query),
                          alone(backend, split_columns(form, dscaled).query), products);
  backend.linear_backward_weight(products, factors.by_row.reshape({qkv.dim(0), 1}),
                                 factors.by_head.gradient.reshape({form.heads, 1}), Tensor());
}

}  // namespace

Var scale_queries(Tape& tape, const AttentionForm& form, const QueryFactors& factors, const Var& qkv) {
  const MemoryPurpose purpose("attention: scaled queries");
  require(factors.by_row.elements() == qkv.value().dim(0), "{} factors came for {} queries", factors.by_row.elements(),
          qkv.value().dim(0));
  Backend& backend = tape.backend();
  const bool learned = tape.recording() && factors.by_head.gradient.defined();
  Tensor value = scaled(backend, form, factors, qkv.value());
  const Kept kept = learned ? tape.keep(qkv) : Kept();
  // Of both only one is kept: what the learned factors' gradient reads, or else what attention reads.
  const Var out = learned ? Var(std::move(value),
                                [&backend, &form, factors, kept] { return scaled(backend, form, factors, kept()); })
                          : Var(std::move(value));
  tape.record([&backend, &form, factors, learned, kept, qkv_slot = qkv.slot(), slot = out.slot()] {
    Tensor gradient = slot.take();
    if (!gradient.defined()) return;
    if (learned) add_head_gradient(backend, form, factors, kept(), gradient);
    const Columns query = split_columns(form, gradient).query;
    backend.scale_queries(query, factors.by_row, factors.by_head.value, query);
    qkv_slot.accumulate(backend, std::move(gradient));
  });
  return out;
}

Var scale_rows(Tape& tape, const Tensor& by_row, const Var& x) {
  const MemoryPurpose purpose("attention: output, state, gradients");
  require(by_row.elements() == x.value().dim(0), "{} factors came for {} rows", by_row.elements(), x.value().dim(0));
  Backend& backend = tape.backend();
  Tensor y(backend.runtime(), x.value().shape(), x.value().dtype());
  backend.scale_queries(x.value(), by_row, {}, y);
  const Var out(std::move(y));
  tape.record([&backend, by_row, x_slot = x.slot(), slot = out.slot()] {
    Tensor gradient = slot.take();
    if (!gradient.defined()) return;
    backend.scale_queries(gradient, by_row, {}, gradient);
    x_slot.accumulate(backend, std::move(gradient));
  });
  return out;
}

}  // namespace lexring
