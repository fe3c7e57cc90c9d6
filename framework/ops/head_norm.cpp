#include "framework/ops/head_norm.h"

#include <array>

namespace lexring {

namespace {

/// The heads of one norm in the fused projections.
struct NormedHeads {
  NormRows rows;
  Vector weight;
};

std::array<NormedHeads, 2> normed_heads(const HeadNorms& norms, const AttentionForm& form) {
  return {{{{0, form.heads}, norms.query}, {{form.query_width(), form.kv_heads}, norms.key}}};
}

/// Columns of the values, whose heads no norm is of.
Columns values_of(const Tensor& qkv, const AttentionForm& form) {
  return {qkv, form.query_width() + form.key_width(), form.key_width()};
}

struct Normed {
  Tensor y;
  std::array<Tensor, 2> rstd;  ///< of queries [N H] and of keys [N K]
};

Normed normalise(Backend& backend, const HeadNorms& norms, const AttentionForm& form, const Tensor& qkv) {
  Normed out{Tensor(backend.runtime(), qkv.shape(), qkv.dtype()), {}};
  const auto heads = normed_heads(norms, form);
  for (std::size_t i = 0; i < heads.size(); ++i) {
    out.rstd[i] = Tensor(backend.runtime(), {heads[i].rows.count(qkv)}, heads[i].weight.value.dtype());
    backend.norm({.kind = NormKind::rmsnorm,
                  .eps = norms.eps,
                  .x = qkv,
                  .delta = {},
                  .weight = heads[i].weight.value,
                  .bias = {},
                  .sum = {},
                  .y = out.y,
                  .mean = {},
                  .rstd = out.rstd[i],
                  .rows = heads[i].rows});
  }
  backend.copy(values_of(qkv, form), values_of(out.y, form));
  return out;
}

}  // namespace

Var head_norms(Tape& tape, const Var& qkv, const HeadNorms& norms, const AttentionForm& form) {
  const Tensor& x = qkv.value();
  require(x.shape().size() == 2 && x.dim(1) == form.query_width() + 2 * form.key_width() &&
              norms.query.value.elements() == form.head_width && norms.key.value.elements() == form.head_width,
          "head_norms: projections {} do not fit weights of {} and {} elements and {} + 2 x {} heads of {}",
          to_string(x.shape()), norms.query.value.elements(), norms.key.value.elements(), form.heads, form.kv_heads,
          form.head_width);
  Backend& backend = tape.backend();
  Normed normed = normalise(backend, norms, form, x);
  if (!tape.recording()) return Var(std::move(normed.y));
  const Kept kept = tape.keep(qkv);
  const Var y(std::move(normed.y), [&backend, norms, form, kept] { return normalise(backend, norms, form, kept()).y; });
  tape.record([&backend, norms, form, kept, rstd = std::array{tape.keep(normed.rstd[0]), tape.keep(normed.rstd[1])},
               dqkv_slot = qkv.slot(), dy_slot = y.slot()] {
    const Tensor dy = dy_slot.take();
    if (!dy.defined()) return;
    const Tensor s = kept();
    Tensor dqkv(backend.runtime(), s.shape(), s.dtype());
    const auto heads = normed_heads(norms, form);
    for (std::size_t i = 0; i < heads.size(); ++i) {
      backend.norm_backward({.kind = NormKind::rmsnorm,
                             .dy = dy,
                             .s = s,
                             .weight = heads[i].weight.value,
                             .mean = {},
                             .rstd = rstd[i](),
                             .dsum = {},
                             .ds = dqkv,
                             .ddelta = {},
                             .dweight = heads[i].weight.gradient,
                             .dbias = {},
                             .rows = heads[i].rows});
    }
    backend.copy(values_of(dy, form), values_of(dqkv, form));
    dqkv_slot.accumulate(backend, std::move(dqkv));
  });
  return y;
}

}  // namespace lexring
