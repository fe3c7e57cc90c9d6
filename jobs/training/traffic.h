/// Bytes that a training step sends, from formulas: what `bench` prints beside the bytes that were measured.
///
/// Per rank and step, mean over ranks. S sequences of L tokens in a replica's step; D width, H query heads, K key heads
/// (of a rank of tp), E head width, F feed-forward width; cp = P places of the ring x U; R = tp; b bytes in working
/// precision, m of a master value (4; 8 in fp64). f = 1, or 2 where the attention half is made again in backward
/// (models/recompute.h), which attention itself never is.
///
/// ring       a layer passes rows of keys and values (2 W each, W = max(K / U, 1) E) in b; backward once more, and as
///            many gradients of rows in m, for a sum over stops is as long as what arrived. Rows per sequence, n = L /
///            P, over all places:
///              causal, contiguous  n P (P - 1) / 2         place p sends on what p' <= p hold
///              causal, zigzag      3/4 n P (P - 1)         high chunks travel half the way
///              causal, striped     (n - 1/2) P (P - 1)     the last row of a stripe is seen by half of the others
///              window w <= n       (P - 1) (w - 1)         contiguous; independent of L
///              blockwise b         (P - 1) b               contiguous, n a multiple of b
///              chunked b           0                       likewise
///              full                n P (P - 1)             every place needs all
///            (Liu et al. 2310.01889 count n P (P - 1): every block goes to everybody.) Others have no closed form:
///            NaN.
/// ulysses    S L / cp rows of 2 H + 2 max(K, U) heads, forward f times and backward once, of which (U - 1) / U leave
///            (Jacobs et al. 2309.14509: 4 N h / P where K = H).
/// tp         between row shards and column shards (Korthikanti et al. 2205.05198): N = S L / cp rows x D x (R - 1) /
///            R, per layer 4 forward and 6 backward (inputs are gathered again, where their weights are trained), 1
///            more where a half is made again, 3 where both are; with model.parallel, where the halves' outputs travel
///            as one, 3, 5, 1 and 2; embedding (1 where it is not trained) and loss 2 each; two statistics per row to
///            R - 1 ranks for the loss; sub-norms exchange columns for rows, forward and backward, and so do logits of
///            a forget gate; an adapter's rank in columns, forward and backward; gradients of what all ranks hold,
///            all-reduced.
/// gradients  over dp x cp = Q ranks: 2 (Q - 1) / Q of the gradients in m (a reduce-scatter and an all-gather); with
///            sharded state half of that (sharded gradients: for each micro-batch), and the updated values in the
///            precision in which they are read (Rajbhandari et al. 1910.02054). Where cp = 1, also the 8 bytes in which
///            each replica tells the others its number of targets; else they go over a group of their own. Where dp = 1
///            the same group gathers a forget gate's logits, S L H b in each forward pass and twice in backward, and
///            sums its gradients, 2 S L H m; of all this (cp - 1) / cp.
#pragma once

#include <cstdint>

#include "jobs/config/options.h"
#include "models/transformer.h"
#include "parallel/context.h"
#include "parallel/data/data_parallel.h"

namespace lexring {

struct StepShape {
  ModelConfig model;
  ModelRuntime runtime;  ///< with the partition as it is, not automatic
  Mesh mesh;
  Shard shard = Shard::none;
  std::int64_t sequences = 1;  ///< of a replica in a step
  std::int64_t length = 1;
  std::int64_t micro_batches = 1;  ///< of a replica in a step
};

/// What the keys of a run say, on this rank; partition and exchange as they say, automatic where they do.
StepShape step_shape(const Options& options, const Context& context);

struct StepBytes {
  double ring = 0, ulysses = 0, tp = 0, gradients = 0;
};

/// `trained`: this rank's parameters that have a gradient.
StepBytes step_bytes(const StepShape& shape, const std::vector<Parameter>& trained);

}  // namespace lexring
