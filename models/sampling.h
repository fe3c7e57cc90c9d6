/// Positions of training, drawn anew for every sequence so that a model also meets positions and distances beyond its
/// training length. Evaluation uses 0, 1, 2, ...
///
/// A draw is a pure function of (seed, sample): the same on every mesh and after every resume.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/batch.h"

namespace lexring {

/// A whole number in [low, high] for the `index`th question of one sequence.
using SampleDraw = std::function<std::int64_t(std::uint64_t index, std::int64_t low, std::int64_t high)>;

struct SamplingConfig;

/// A row of the table of methods (sampling.cpp).
struct SamplingMethod {
  const char* name;
  /// Fills the positions of one sequence, which rise; `limit` as the method understands it.
  void (*positions)(std::span<std::int64_t> positions, std::int64_t limit, const SampleDraw& draw);
  bool limited = true;  ///< reads `limit`
  bool ahead = false;   ///< `limit` is of how far positions are shifted, not of the positions
  bool jumps = false;   ///< positions skip some after each landmark
  /// Fills the coordinates of one sequence, which do not fall (TokenTable); positions are then 0, 1, 2, ...
  void (*coordinates)(std::span<double> coordinates, const SamplingConfig& config, const SampleDraw& draw) = nullptr;

  static constexpr const char* key = "sampling.kind";
  static std::span<const SamplingMethod> table();
};
using SamplingKind = RowNamed<SamplingMethod>;

struct SamplingConfig {
  SamplingKind kind = "none";
  std::int64_t limit = 0;     ///< positions stay below it; with `shape`, shifts do
  std::int64_t jump = 1;      ///< landmark_jump: after a landmark positions skip 0 .. jump - 1
  double global_shift = 0.0;  ///< cape: the largest shift of a sequence, either way
  double local_shift = 0.0;   ///< cape: likewise of a token; at most 0.5, so that none passes another
  double global_scale = 1.0;  ///< cape: the largest scale of a sequence, which is at least 1 over it
  bool operator==(const SamplingConfig&) const = default;

  /// All positions of sequences of `length` tokens are below this.
  std::int64_t reach(std::int64_t length) const {
    if (kind->jumps) return length + (length - 1) * (jump - 1);  // if all tokens were landmarks
    return !kind->limited ? length : kind->ahead ? limit + length - 1 : limit;
  }
};

/// Throws UsageError where sequences of `length` tokens have no such positions.
void check(const SamplingConfig& config, std::int64_t length);
/// Throws UsageError where some layer's position method takes whole numbers only, and the method draws others; or where
/// it goes by landmarks, and no layer has them.
void check(const SamplingConfig& config, const ModelConfig& model);

/// The positions of the tokens of sample `sample` of the training with this seed. `landmarks`: whether a token is one;
/// only read by methods that skip after them.
std::vector<std::int64_t> sample_positions(const SamplingConfig& config, std::int64_t length, std::uint64_t seed,
                                           std::uint64_t sample, const std::vector<bool>& landmarks = {});

/// Their coordinates; empty: their positions.
std::vector<double> sample_coordinates(const SamplingConfig& config, std::int64_t length, std::uint64_t seed,
                                       std::uint64_t sample);

/// Moves a batch of dense sequences (make_batch), samples `first`, `first` + 1, ..., to their drawn positions, and with
/// them where documents begin and sinks end, which are counted in tokens; or to their drawn coordinates.
/// `landmark`: the id of landmarks.
void draw_positions(ModelBatch& batch, const SamplingConfig& config, std::uint64_t seed, std::uint64_t first,
                    std::int64_t landmark = -1);

}  // namespace lexring
