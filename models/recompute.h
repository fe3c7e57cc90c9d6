/// What of a layer backward makes again instead of keeping it. The bits of a step are the same whatever it is.
///
///   attention   the attention half: norm, query, key and value
///   ffn         the feed-forward half: norm, the inner product, the activation's operand
///   layer       both
///
/// Attention never runs twice: its output and log-sum-exp stay, for they are small beside what they cost. Nor does the
/// last product of what is made again, whose value nobody reads.
///
/// What stays of a layer, in bytes per token; D width, H heads (K of keys), E head width, F the rows of the inner
/// product (2 x feed-forward width where it is gated), b of working, r of residual, m of master values:
///
///   none        2 r D + b ((H + 2K) E + D + F) + m (H + 4)
///   attention   r D + b (2 D + F) + m (H + 2)
///   ffn         r D + b ((H + 2K) E + 2 D) + m (H + 2)
///   layer       r D + b D + m (H + 2)
///
/// With model.parallel, where both halves read one stream, r D + m (H + 4) in every row, and of b: (H + 2K) E + D + F;
/// D + F; (H + 2K) E + D; D.
#pragma once

#include "framework/base/words.h"

namespace lexring {

enum class Recompute { none, attention, ffn, layer };
constexpr auto words(Recompute) {
  return std::to_array<Word<Recompute>>({{Recompute::none, "none"},
                                         {Recompute::attention, "attention"},
                                         {Recompute::ffn, "ffn"},
                                         {Recompute::layer, "layer"},
                                         {Recompute::layer, "block"}});  // as it was once written
}

}  // namespace lexring
