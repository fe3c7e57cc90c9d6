/// Past keys and values, kept by one object that holds everything, a halo, or sinks and a window: what later queries
/// can still see.
///
/// One sequence per cache (streamed evaluation, generation). Keys are stored as projected, neither rotated nor scaled,
/// with their positions and rotation tables; memory is bounded by about one and a half times what the pattern can still
/// see, plus one chunk.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/backend/backend.h"

namespace lexring {

/// What a chunk's first query, and so every later one, can still see: keys at positions in [sinks_begin, sinks_end),
/// and from `first` on.
struct CacheKeep {
  std::int64_t sinks_begin = 0;
  std::int64_t sinks_end = 0;
  std::int64_t first = 0;
};

class KeyValueCache {
 public:
  /// `layers` pairs of buffers [rows, row_width = K * E] of `dtype`. Rows are forgotten when a third of what is held
  /// may go, so that a token-by-token generation does not move its cache at every token.
  KeyValueCache(Runtime& runtime, std::int64_t layers, std::int64_t row_width, Dtype dtype);

  /// Begins a chunk of one sequence: forgets what `keep` leaves out, then adds the chunk's positions and rotation
  /// tables (undefined without rotation). Layers then append their keys and values of this chunk. Positions must follow
  /// those of the chunk before; throws Error otherwise.
  void begin_chunk(const AttentionRows& chunk, const CacheKeep& keep);
  /// Appends the chunk's keys and values of one layer [N, K * E], once per layer and chunk.
  void append(std::int64_t layer, Backend& backend, const Columns& k, const Columns& v);
  /// Past and current rows of a layer, [rows, K * E]; the layer's part of the chunk must have been appended.
  Tensor keys(std::int64_t layer) const;
  Tensor values(std::int64_t layer) const;
  /// For a layer with a forget gate, once per chunk: sums [rows, 2 H] of past and current rows (RowTerms), from the
  /// chunk's logits [N, H]. They go on from the chunk before, whatever was forgotten since.
  Tensor append_gates(std::int64_t layer, Backend& backend, const Tensor& logits);
  /// All rows held, the current chunk included, with their rotation tables; no sequences before the first chunk.
  const SharedRows& rows() const { return rows_; }

 private:
  struct Range {
    std::int64_t first, count;
  };
  struct Layer {
    Tensor keys, values;  ///< [capacity, K * E]; the first rows_->tokens.rows() are live
    Tensor sums;          ///< [capacity, 2 H] likewise; undefined without a forget gate
    Tensor last_sum;      ///< [1, 2 H] of the last row
  };
  /// `buffer` with the kept rows in front and room for `rows`; the same storage where nothing was forgotten and there
  /// is room.
  Tensor advance(const Tensor& buffer, std::int64_t rows, std::int64_t row_width, Dtype dtype) const;
  Tensor advance_table(const Tensor& table, const Tensor& chunk, std::int64_t rows) const;

  Runtime* runtime_;
  std::int64_t row_width_;
  Dtype dtype_;
  SharedRows rows_ = make_rows({}, {});  ///< its rotation tables are views of the live rows of rotary_buffer_
  RotaryTable rotary_buffer_;
  std::vector<Range> kept_;  ///< rows of the buffers before this chunk that stay
  std::int64_t held_ = 0;    ///< rows before this chunk, before forgetting
  std::int64_t past_ = 0;    ///< rows before this chunk, after forgetting
  std::vector<Layer> layers_;
};

}  // namespace lexring
