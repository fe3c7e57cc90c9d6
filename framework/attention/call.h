/// The attention call, the one contract behind every attention path: queries against keys and values, both with global
/// positions, the form, the score bias, and a running state. One device is a ring of one; past keys (streamed
/// evaluation, generation) are rows with earlier positions.
///
/// N query rows, M key rows, H heads, K key heads, E head width.
///
/// Decay (XPOS) at any length: positions are cut into spans of decay_span() (32k for LEX), the same on both sides of
/// every call, and kernels into tiles that lie within one. The decay exp(log_decay (n - m)) of query n and key m whose
/// spans have their middles at b and c is the product of three factors: (n - b) on the query and (c - m) on the key,
/// put on when rows are rotated, and (b - c) per channel, put onto the query before the product. Within one span the
/// third is 1: decay costs nothing there, and attention is that of scaled rows. The first two stay between e^-40 and
/// e^40; their product is at most 1 where n >= m, and below e^80 for pairs that are masked. The third is at most 1, and
/// where it underflows so does nothing that counts: all of the pair's decay is below e^-43 there. Gradients are
/// accumulated in the rows' own base, then scaled and rotated back once. Where queries see keys after them only, decay
/// is over m - n (mirrored): all signs change, and the same bounds hold.
#pragma once

#include "framework/attention/bias.h"
#include "framework/attention/form.h"
#include "framework/attention/rows.h"

namespace lexring {

/// The running state of a row of queries: f32 (f64 in the reference at f64). Under ReLU there is the output alone, sum
/// of max(s, 0) v: nobody reads or writes the others.
struct AttentionState {
  Tensor output;   ///< o [N, H * E], unnormalised: sum of exp(s - m) v
  Tensor maximum;  ///< m [N, H], the largest score seen; -inf where nothing was
  Tensor sum;      ///< l [N, H], sum of exp(s - m)
};

/// What rows add to scores, per head: + queries[n, h] - keys[m, h] (the sums of a forget gate; Lin et al. 2025). Each
/// is the sum of two numbers, the second a rest that the first has no room for, so that small differences of large sums
/// are exact: the first ones of all heads, then the second ones.
struct RowTerms {
  Tensor queries;  ///< [N, 2 H] f32 (f64); undefined: none
  Tensor keys;     ///< [M, 2 H] likewise

  bool defined() const { return queries.defined(); }
};

/// Where a call stands in the series of calls that the same queries (or the same keys) take part in.
struct CallStage {
  bool first = true;  ///< there is no state yet: it is not read
  bool last = true;   ///< the result is written instead of the state
};

struct AttentionForward {
  const AttentionForm& form;
  const ScoreBias& bias;
  SharedRows queries;  ///< with visibility
  SharedRows keys;
  Columns q;     ///< [N, H * E] in the working dtype, as projected: neither rotated nor scaled
  Columns k, v;  ///< [M, K * E]
  CallStage stage;
  AttentionState state;  ///< read unless first, written unless last; may be undefined when first and last
  /// [N, H * E] working dtype, written when last: o / l (o under ReLU: what divides it is the caller's), and 0 where a
  /// row saw nothing.
  Tensor output;
  Tensor lse;  ///< [N, H] f32 (f64), written when last: m + log l, -inf where a row saw nothing; 0 under ReLU
  RowTerms row_terms = {};
};

struct AttentionBackward {
  const AttentionForm& form;
  const ScoreBias& bias;
  SharedRows queries, keys;
  Columns q, k, v;
  Tensor output;   ///< [N, H * E] from forward, after the last call: of all keys
  Tensor doutput;  ///< [N, H * E] gradient of the normalised output
  Tensor lse;      ///< [N, H] from forward
  Tensor delta;    ///< [N, H] f32 (f64): sum over E of output * doutput, from Backend::attention_delta; nothing to ReLU
  CallStage query_stage;  ///< first / last block that these queries meet
  CallStage key_stage;    ///< first / last block of queries that these keys meet
  /// Accumulators between stages, f32 (f64), in the rows' own base (not yet rotated back): [N, H * E], [M, K * E], [M,
  /// K * E]. Read unless first, written unless last; may be undefined when first and last. Opaque between calls of one
  /// backend: the reference's are gradients of the rotated rows, without decay factors.
  Tensor dq_state, dk_state, dv_state;
  /// Results in the working dtype: dq written when query_stage.last, dk and dv when key_stage.last. They may also be
  /// f32: what several calls add to one row is summed before it is rounded.
  Columns dq, dk, dv;
  Tensor dby_distance;  ///< f32 (f64), in the shape of bias.by_distance, +=; undefined where the bias has no table
  RowTerms row_terms = {};
  /// [N, H] and [M, H] f32 (f64), +=: with queries and keys of the same rows they may be one tensor. Undefined without
  /// `row_terms`.
  Tensor dquery_terms = {}, dkey_terms = {};
  /// False: `delta` is another number, and a backend may not make it again.
  bool delta_is_of_output = true;
};

/// Sums of scores by distance, for attention resolution (Sun et al. 2022, eq. 13): for every d in [0, sums.size()),
/// adds to sums[d] the sum over heads and over pairs of rows of one sequence with n - m = d of the score (capped;
/// pattern, clamp and bias are left out, see add_bias), and to counts[d] their number.
struct AttentionScoreSums {
  const AttentionForm& form;
  SharedRows rows;
  Columns q, k;
  std::vector<double>& sums;
  std::vector<std::int64_t>& counts;
};

/// Throws Error unless shapes, dtypes and tables of a call agree.
void check(const AttentionForward& call);
void check(const AttentionBackward& call);

}  // namespace lexring
