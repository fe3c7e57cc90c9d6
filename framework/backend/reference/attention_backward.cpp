#include <cmath>

#include "framework/backend/reference/attention_pairs.h"
#include "framework/backend/reference/dispatch.h"
#include "framework/backend/reference/reference_backend.h"

namespace lexring::reference {
namespace {

/// What earlier stages left, or zeros. States hold gradients of rotated queries and keys.
template <class T>
std::vector<double> begin(bool first, const Tensor& state, std::int64_t elements) {
  return first ? std::vector<double>(static_cast<std::size_t>(elements)) : widened<T>(state);
}

template <class T>
void backward(const AttentionBackward& call) {
  const AttentionForm& form = call.form;
  const std::int64_t heads = form.heads, kv_heads = form.kv_heads, group = heads / kv_heads, width = form.head_width;
  std::vector<double> q_NHE = widened<T>(call.q), k_MKE = widened<T>(call.k), v_MKE = widened<T>(call.v);
  turn<T>(q_NHE, form, call.queries->rotary, heads * width, +1);
  turn<T>(k_MKE, form, call.keys->rotary, kv_heads * width, +1);
  std::vector<double> dq_NHE =
      begin<T>(call.query_stage.first, call.dq_state, call.queries->tokens.rows() * heads * width);
  std::vector<double> dk_MKE =
      begin<T>(call.key_stage.first, call.dk_state, call.keys->tokens.rows() * kv_heads * width);
  std::vector<double> dv_MKE =
      begin<T>(call.key_stage.first, call.dv_state, call.keys->tokens.rows() * kv_heads * width);

  PairScore<T> score(form, call.bias, call.row_terms);
  const bool learns = call.dby_distance.defined();
  std::vector<double> dbias(static_cast<std::size_t>(learns ? call.dby_distance.elements() : 0));
  const bool gated = call.row_terms.defined();
  std::vector<double> drows_NH(static_cast<std::size_t>(gated ? call.dquery_terms.elements() : 0)),
      dkeys_MH(static_cast<std::size_t>(gated ? call.dkey_terms.elements() : 0));
  for_each_query(call.queries->tokens, call.keys->tokens, call.queries->visible,
                 [&](std::int64_t n, const std::vector<std::int64_t>& seen) {
                   for (const std::int64_t m : seen) {
                     score.set_pair(call.queries->tokens, n, call.keys->tokens, m);
                     for (std::int64_t h = 0; h < heads; ++h) {
                       const std::int64_t query = (n * heads + h) * width, key = (m * kv_heads + h / group) * width;
                       const double s = score(&q_NHE[query], &k_MKE[key], h);
                       if (!score.seen(s)) continue;
                       const T* doutput = call.doutput.data<T>() + query;
                       double dp = 0;
                       for (std::int64_t e = 0; e < width; ++e) dp += doutput[e] * v_MKE[key + e];
                       const bool relu = form.normalizer == Normalizer::relu;
                       const double p = relu ? std::max(s, 0.0) : std::exp(s - call.lse.data<T>()[n * heads + h]);
                       const double dscore = relu ? (s > 0 ? dp : 0) : p * (dp - call.delta.data<T>()[n * heads + h]);
                       if (learns) score.add_gradient(h, dscore, dbias);
                       if (gated) drows_NH[n * heads + h] += dscore, dkeys_MH[m * heads + h] -= dscore;
                       const double dproduct = dscore * score.slope();
                       for (std::int64_t e = 0; e < width; ++e) {
                         dv_MKE[key + e] += p * doutput[e];
                         dq_NHE[query + e] += dproduct * score.factor(e) * k_MKE[key + e];
                         dk_MKE[key + e] += dproduct * score.factor(e) * q_NHE[query + e];
                       }
                     }
                   }
                 });

  for (std::size_t i = 0; i < dbias.size(); ++i) call.dby_distance.data<T>()[i] += static_cast<T>(dbias[i]);
  for (std::size_t i = 0; i < drows_NH.size(); ++i) call.dquery_terms.data<T>()[i] += static_cast<T>(drows_NH[i]);
  for (std::size_t i = 0; i < dkeys_MH.size(); ++i) call.dkey_terms.data<T>()[i] += static_cast<T>(dkeys_MH[i]);
  if (call.query_stage.last) {
    turn<T>(dq_NHE, form, call.queries->rotary, heads * width, -1);
    write<T>(dq_NHE, call.dq);
  } else {
    write<T>(dq_NHE, call.dq_state);
  }
  if (call.key_stage.last) {
    turn<T>(dk_MKE, form, call.keys->rotary, kv_heads * width, -1);
    write<T>(dk_MKE, call.dk);
    write<T>(dv_MKE, call.dv);
  } else {
    write<T>(dk_MKE, call.dk_state);
    write<T>(dv_MKE, call.dv_state);
  }
}

}  // namespace

void ReferenceBackend::attention_backward(const AttentionBackward& call) {
  check(call);
  dispatch(call.q.dtype(), [&](auto zero) { backward<decltype(zero)>(call); });
}

}  // namespace lexring::reference
