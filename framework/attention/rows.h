/// The rows of attention: what belongs to the tokens of one batch and one kind of layer. Made once per batch, checked
/// where they are made, shared by all layers of that kind and by both passes, and compared by identity: two calls with
/// the same object have the same tables.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "framework/tensor/tensor.h"

namespace lexring {

/// Tokens: which sequence each row belongs to and where it stands there.
struct TokenTable {
  struct Sequence {
    std::int64_t id;     ///< global within the batch; queries see keys of the same id only
    std::int64_t first;  ///< first row here
    std::int64_t count;  ///< rows here, adjacent (chunks of one sequence are concatenated in order of position)
    bool operator==(const Sequence&) const = default;
  };
  std::vector<Sequence> sequences;     ///< ids ascending, rows in order, covering [0, N)
  std::vector<std::int64_t> position;  ///< [N] global positions, >= 0, strictly increasing within a sequence
  /// [N] where position methods have the tokens, of which distances, decays and angles are made: any numbers that do
  /// not fall within a sequence (CAPE's fractions). Empty: at `position`, by which masks and partitions always go.
  std::vector<double> coordinate = {};

  std::int64_t rows() const { return static_cast<std::int64_t>(position.size()); }
  double coordinate_of(std::size_t row) const {
    return coordinate.empty() ? static_cast<double>(position[row]) : coordinate[row];
  }
  bool operator==(const TokenTable&) const = default;
};

/// `count` sequences of `length` tokens at positions 0 .. length-1, in ids 0 .. count-1.
TokenTable dense_tokens(std::int64_t count, std::int64_t length);
/// Throws Error unless the table keeps its promises.
void check(const TokenTable& tokens);

/// cos and sin of every token's angles, [N, E/2]: f32, or f64 in the reference backend at f64. Computed in f64
/// (models/positions/rotary.h).
struct RotaryTable {
  Tensor cosine, sine;
};

/// Which keys each query sees: those at positions [first, end), and, of those at [sink_begin, sink_end), the ones that
/// are not after it. Causal, window, blockwise, sinks, documents and bidirectional attention all are of this form.
struct Visibility {
  std::vector<std::int64_t> first;       ///< [N]
  std::vector<std::int64_t> sink_begin;  ///< [N] or empty: no second interval. The two may overlap; a key in both
                                         ///< counts once.
  std::vector<std::int64_t> sink_end;    ///< [N], with sink_begin
  std::vector<std::int64_t> end;         ///< [N] or empty: one after the query's own position (causal)

  /// Of a row at `position`.
  std::int64_t end_of(std::size_t row, std::int64_t position) const { return end.empty() ? position + 1 : end[row]; }
  bool operator==(const Visibility&) const = default;
};

struct AttentionRows {
  TokenTable tokens;
  RotaryTable rotary;  ///< undefined tensors without rotation
  Visibility visible;  ///< of rows that ask as queries; empty for rows that only answer as keys
};
using SharedRows = std::shared_ptr<const AttentionRows>;

/// Throws Error unless the parts agree. `visible` may be empty: the rows are then keys only.
SharedRows make_rows(TokenTable tokens, RotaryTable rotary, Visibility visible = {});

}  // namespace lexring
