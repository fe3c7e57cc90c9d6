#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/backend/reference/attention_pairs.h"
#include "framework/backend/reference/dispatch.h"
#include "framework/backend/reference/reference_backend.h"

namespace lexring::reference {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// The state of one row and head, in f64.
struct RowState {
  std::vector<double> output;  ///< [E]
  double maximum = -infinity, sum = 0;
};

template <class T>
RowState load(const AttentionForward& call, std::int64_t n, std::int64_t head) {
  const std::int64_t heads = call.form.heads, width = call.form.head_width, row = n * heads + head;
  RowState state{std::vector<double>(static_cast<std::size_t>(width))};
  if (call.stage.first) return state;
  const T* o = call.state.output.template data<T>() + row * width;
  state.output.assign(o, o + width);
  if (call.form.normalizer == Normalizer::relu) return state;
  state.maximum = call.state.maximum.template data<T>()[row];
  state.sum = call.state.sum.template data<T>()[row];
  return state;
}

template <class T>
void store(const AttentionForward& call, std::int64_t n, std::int64_t head, const RowState& state) {
  const std::int64_t heads = call.form.heads, width = call.form.head_width, row = n * heads + head;
  const bool relu = call.form.normalizer == Normalizer::relu, empty = !relu && state.sum == 0;
  if (call.stage.last) {
    const double divisor = relu ? 1 : state.sum;
    for (std::int64_t e = 0; e < width; ++e)
      call.output.template data<T>()[row * width + e] = empty ? T{0} : static_cast<T>(state.output[e] / divisor);
    call.lse.template data<T>()[row] = static_cast<T>(relu    ? 0
                                                      : empty ? -infinity
                                                              : state.maximum + std::log(state.sum));
    return;
  }
  for (std::int64_t e = 0; e < width; ++e)
    call.state.output.template data<T>()[row * width + e] = static_cast<T>(state.output[e]);
  if (relu) return;
  call.state.maximum.template data<T>()[row] = static_cast<T>(state.maximum);
  call.state.sum.template data<T>()[row] = static_cast<T>(state.sum);
}

/// Adds `weight` times the value of key m, which is at v + m * stride, to a row's output.
template <class T>
void add_value(RowState& state, double weight, const T* v, std::int64_t m, std::int64_t stride) {
  for (std::size_t e = 0; e < state.output.size(); ++e)
    state.output[e] += weight * v[m * stride + static_cast<std::int64_t>(e)];
}

/// Adds the keys `seen`, whose scores are given (-inf: not seen after all) and whose values are at v + m * stride, to a
/// row's state.
template <class T>
void accumulate(RowState& state, const std::vector<double>& scores, const std::vector<std::int64_t>& seen, const T* v,
                std::int64_t stride) {
  if (seen.empty()) return;
  // Rounded as a stored state is, so that exp(s - m) and m agree across blocks.
  const double maximum =
      std::max<double>(state.maximum, static_cast<T>(*std::max_element(scores.begin(), scores.end())));
  if (maximum == -infinity) return;
  const double keep = std::exp(state.maximum - maximum);
  for (double& o : state.output) o *= keep;
  state.sum *= keep;
  for (std::size_t j = 0; j < seen.size(); ++j) {
    const double weight = std::exp(scores[j] - maximum);
    add_value(state, weight, v, seen[j], stride);
    state.sum += weight;
  }
  state.maximum = maximum;
}

template <class T>
void forward(const AttentionForward& call) {
  const AttentionForm& form = call.form;
  const std::int64_t heads = form.heads, group = heads / form.kv_heads, width = form.head_width;
  std::vector<double> q_NHE = widened<T>(call.q), k_MKE = widened<T>(call.k);
  turn<T>(q_NHE, form, call.queries->rotary, heads * width, +1);
  turn<T>(k_MKE, form, call.keys->rotary, form.kv_heads * width, +1);
  PairScore<T> score(form, call.bias, call.row_terms);
  std::vector<std::vector<double>> scores(static_cast<std::size_t>(heads));
  for_each_query(call.queries->tokens, call.keys->tokens, call.queries->visible,
                 [&](std::int64_t n, const std::vector<std::int64_t>& seen) {
                   for (auto& row : scores) row.clear();
                   for (const std::int64_t m : seen) {
                     score.set_pair(call.queries->tokens, n, call.keys->tokens, m);
                     for (std::int64_t h = 0; h < heads; ++h) {
                       const double *q = &q_NHE[(n * heads + h) * width],
                                    *k = &k_MKE[(m * form.kv_heads + h / group) * width];
                       const double s = score(q, k, h);
                       scores[h].push_back(score.seen(s) ? s : -infinity);
                     }
                   }
                   for (std::int64_t h = 0; h < heads; ++h) {
                     RowState state = load<T>(call, n, h);
                     const T* v = call.v.data<T>() + h / group * width;
                     if (form.normalizer == Normalizer::softmax) {
                       accumulate(state, scores[h], seen, v, call.v.stride());
                     } else {
                       for (std::size_t j = 0; j < seen.size(); ++j)
                         add_value(state, std::max(scores[h][j], 0.0), v, seen[j], call.v.stride());
                     }
                     store<T>(call, n, h, state);
                   }
                 });
}

template <class T>
void score_sums(const AttentionScoreSums& call) {
  const AttentionForm& form = call.form;
  const std::int64_t heads = form.heads, group = heads / form.kv_heads, width = form.head_width;
  std::vector<double> q_NHE = widened<T>(call.q), k_NKE = widened<T>(call.k);
  turn<T>(q_NHE, form, call.rows->rotary, heads * width, +1);
  turn<T>(k_NKE, form, call.rows->rotary, form.kv_heads * width, +1);
  const ScoreBias none;
  PairScore<T> score(form, none);
  Visibility everything;
  everything.first.assign(call.rows->tokens.position.size(), 0);
  for_each_query(call.rows->tokens, call.rows->tokens, everything,
                 [&](std::int64_t n, const std::vector<std::int64_t>& seen) {
                   for (const std::int64_t m : seen) {
                     const std::int64_t distance = call.rows->tokens.position[n] - call.rows->tokens.position[m];
                     if (distance >= static_cast<std::int64_t>(call.sums.size())) continue;
                     score.set_pair(call.rows->tokens, n, call.rows->tokens, m);
                     for (std::int64_t h = 0; h < heads; ++h)
                       call.sums[distance] +=
                           score(&q_NHE[(n * heads + h) * width], &k_NKE[(m * form.kv_heads + h / group) * width], h);
                     call.counts[distance] += heads;
                   }
                 });
}

}  // namespace

void ReferenceBackend::attention(const AttentionForward& call) {
  check(call);
  dispatch(call.q.dtype(), [&](auto zero) { forward<decltype(zero)>(call); });
}

void ReferenceBackend::attention_score_sums(const AttentionScoreSums& call) {
  dispatch(call.q.dtype(), [&](auto zero) { score_sums<decltype(zero)>(call); });
}

}  // namespace lexring::reference
