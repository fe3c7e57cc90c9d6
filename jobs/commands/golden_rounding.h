/// The weights of a golden case, as they are and rounded: how far the exact numbers of the case move then is what no
/// computation in that precision can know better.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "jobs/commands/golden_comparison.h"
#include "parallel/checkpoint/tensor_source.h"

namespace lexring {

/// Each weight is w (1 + rounding u), u uniform in [-1, 1] and a function of (draw, name, place).
class GoldenWeights final : public TensorSource {
 public:
  /// `file` must outlive it.
  GoldenWeights(const Hdf5File& file, const std::string& name, double rounding = 0, std::uint64_t draw = 0)
      : file_(file), group_(name + "/weights"), rounding_(rounding), draw_(draw) {}
  std::string origin() const override;
  std::vector<std::string> names() const override { return file_.members(group_); }
  std::optional<Info> info(const std::string& name) const override;

 private:
  void do_read(const std::string& name, const Shape& offset, const Shape& shape,
               std::span<std::byte> out) const override;

  const Hdf5File& file_;
  std::string group_;
  double rounding_;
  std::uint64_t draw_;
};

/// By how much what golden_tolerance(precision) compares moves at most in 16 draws of weights that are rounded eight
/// times as coarsely as `precision` does: about as much as a computation that rounds every intermediate result is off.
/// Without what is not in the file as the weights have it: that is wrong, not rounded. Nothing for fp64. In f64 by the
/// reference backend, by each rank for itself.
GoldenMoves golden_moves(const Hdf5File& file, const std::string& name, const ModelConfig& config,
                         const ModelBatch& batch, Precision precision);

}  // namespace lexring
