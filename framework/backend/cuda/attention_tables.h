/// What attention kernels read of token tables, on the device; and rows turned and scaled for them.
///
/// Scores are kept in base 2: a kernel multiplies products by scale * log2(e), so that softmax needs exp2 only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "framework/attention/call.h"
#include "framework/attention/tiling.h"
#include "framework/backend/cuda/kernels.h"

namespace lexring::cuda {

inline constexpr float log2_e = 1.44269504F;
inline constexpr float ln_2 = 0.69314718F;

/// Rows [first, first + count) of the queries, and what they meet.
struct QueryTile {
  std::int32_t first, count;
  std::int32_t tiles_begin, tiles_end;            ///< key tiles that some row sees by its first interval
  std::int32_t sink_tiles_begin, sink_tiles_end;  ///< by its second; tiles of both are in the first only
  std::int32_t whole_first,
      whole_last;     ///< keys [whole_first, whole_last) are seen by every row: no mask is needed there
  std::int32_t base;  ///< position that decay is counted from
  std::int32_t padding[3];
};

/// Rows [first, first + count) of the keys, and the query tiles among which all lie that see one of them (some in
/// between may not).
struct KeyTile {
  std::int32_t first, count;
  std::int32_t tiles_begin, tiles_end;
  std::int32_t base;
  std::int32_t padding[3];
};

/// Rows of queries and of keys under one form, for kernels with tiles of these sizes.
struct AttentionTables {
  std::int32_t query_tiles_count = 0, key_tiles_count = 0;
  bool sinks = false;
  Tensor query_tiles;  ///< [tiles, 12] i32: QueryTile; those with most keys to meet are not first
  Tensor key_tiles;    ///< [tiles, 8] i32: KeyTile
  Tensor ranges;       ///< [N, 4] i32: RowRange
  Tensor query_distance,
      key_distance;  ///< [N], [M] f32: what rows' decay is raised to (AttentionRole); undefined without decay
  Tensor query_position, key_position;  ///< [N], [M] i32, in the unit that `slopes` are of; undefined without score
                                        ///< bias and clamp
  Tensor decay;   ///< [E / 2, 2] f32: LogDecay of attention_decay.h per channel pair; undefined without decay
  Tensor slopes;  ///< [H] f32: times log2(e), per unit of the positions; undefined without

  const QueryTile* queries() const { return reinterpret_cast<const QueryTile*>(query_tiles.raw()); }
  const KeyTile* keys() const { return reinterpret_cast<const KeyTile*>(key_tiles.raw()); }
  const RowRange* rows() const { return reinterpret_cast<const RowRange*>(ranges.raw()); }
};

/// The tables made last, kept: layers with the same rows and form, and both passes, share theirs.
class AttentionTableCache {
 public:
  /// Valid until the next call. Throws Error for positions of 2^31 and more.
  const AttentionTables& of(const Gpu& gpu, const AttentionForm& form, const ScoreBias& bias, const SharedRows& queries,
                            const SharedRows& keys, std::int64_t query_tile, std::int64_t key_tile);

 private:
  struct Entry {
    std::int64_t query_tile, key_tile;
    std::vector<double> log_decay;
    std::vector<float> slopes;
    bool positions;  ///< are there
    std::weak_ptr<const AttentionRows> queries, keys;
    std::int64_t rows;
    AttentionTables tables;
  };
  static constexpr std::size_t kept = 64;  // ring attention meets one block of keys after the other, forward and back
  static constexpr std::int64_t kept_rows = std::int64_t{1} << 24;  // of all entries together

  std::vector<Entry> entries_;  ///< the one used last at the end
};

/// Rows of one operand by head: row n of head h begins at data + h * head_stride + n * row_stride (elements).
struct HeadRows {
  Tensor storage;
  std::int64_t first = 0;  ///< element of the storage where row 0 of head 0 begins
  std::int64_t row_stride = 0, head_stride = 0;
  std::int64_t width = 0;  ///< channels, padded with zeros beyond the head's own

  template <class T>
  T* data() const {
    return storage.data<T>() + first;
  }
  /// Whether rows may be read 16 bytes at a time.
  bool vectors() const;
};

/// x [N, heads * E] as kernels want it: turned by the rotary tables (undefined: not), times the decay over `distance`
/// [N] f32 (with `decay`; both undefined: 1), heads padded to `width` channels with zeros. x itself where nothing is to
/// be done. Bytes: x and the tables read, as much written.
HeadRows turned_rows(const Gpu& gpu, const Columns& x, std::int64_t heads, std::int64_t width,
                     const RotaryTable& rotary, const Tensor& distance, const Tensor& decay);

/// The adjoint: gradient [N, heads * E] f32, of turned rows, back to the frame of x (f32 or bf16).
void turn_back(const Gpu& gpu, const Tensor& gradient, std::int64_t heads, const RotaryTable& rotary,
               const Tensor& distance, const Tensor& decay, const Columns& x);

}  // namespace lexring::cuda
