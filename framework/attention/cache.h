/// Past keys and values, kept by one object that holds everything, a halo, or sinks and a window: what later queries can still see.
///
/// One sequence per cache (streamed evaluation, generation). Keys are stored as projected, neither rotated nor scaled, with their
/// positions; memory is bounded by what the pattern can still see plus one chunk.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "framework/backend/backend.h"

namespace lexring {

class KeyValueCache {
 public:
  /// `keep(first_needed)`: see forget(). `layers` pairs of buffers [rows, K * E] of `dtype`.
  KeyValueCache(Runtime& runtime, std::int64_t layers, std::int64_t row_width, Dtype dtype);

  /// Begins a chunk: adds its positions to the table, after forgetting all rows at positions in [sinks_end, first_needed).
  /// Layers then append their keys and values of this chunk. Positions must follow those of the chunk before.
  void begin_chunk(const TokenTable& chunk, std::int64_t sinks_end, std::int64_t first_needed);
  /// Appends the chunk's keys and values of one layer, once per layer and chunk.
  void append(std::int64_t layer, Backend& backend, const Columns& k, const Columns& v);
  /// Past and current rows of a layer, [rows, K * E].
  Tensor keys(std::int64_t layer) const;
  Tensor values(std::int64_t layer) const;
  /// The table of all rows held, the current chunk included.
  const TokenTable& tokens() const { return tokens_; }
  /// Rotation tables of all rows held; the model makes those of the current chunk and gives them to append_rotary.
  const RotaryTable& rotary() const { return rotary_; }
  void append_rotary(const RotaryTable& chunk);

 private:
  struct Layer {
    Tensor keys, values;  ///< [capacity, K * E]; the first tokens_.rows() rows are live
  };
  Tensor with_room(const Tensor& old, std::int64_t live, std::int64_t more) const;

  Runtime* runtime_;
  std::int64_t row_width_;
  Dtype dtype_;
  TokenTable tokens_;
  RotaryTable rotary_;
  std::int64_t past_ = 0;  ///< rows before the current chunk
  std::vector<Layer> layers_;
};

}  // namespace lexring
