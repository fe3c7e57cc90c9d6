/// Factors on queries, which multiply all scores of a query before its bias: log-n, scalable softmax. And factors on
/// rows of attended values.
///
/// N rows, H query heads, K key heads, E head width.
#pragma once

#include "framework/autograd/tape.h"
#include "framework/nn/parameter.h"

namespace lexring {

struct QueryFactors {
  Tensor by_row;   ///< [N] master, fixed
  Vector by_head;  ///< [H] master, learned; undefined: 1
};

/// qkv [N, (H + 2K) E] with its query columns multiplied by by_row[n] * by_head[h]. Adjoint: as much on the gradient of
/// these columns; and by_head's gradient += sum over n of by_row[n] times query x gradient.
Var scale_queries(Tape& tape, const AttentionForm& form, const QueryFactors& factors, const Var& qkv);

/// x [N, W] working, times by_row [N] master: attended values whose weights ReLU made. Adjoint: dx = dy by_row.
Var scale_rows(Tape& tape, const Tensor& by_row, const Var& x);

}  // namespace lexring
