#include "models/sampling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_set>

#include "framework/base/random.h"
#include "models/layer_configs.h"

namespace lexring {

namespace {

using Positions = std::span<std::int64_t>;

void from(Positions positions, std::int64_t first) { std::iota(positions.begin(), positions.end(), first); }
std::int64_t size(Positions positions) { return static_cast<std::int64_t>(positions.size()); }

void none(Positions positions, std::int64_t, const SampleDraw&) { from(positions, 0); }

/// A sorted sample without replacement from [0, limit) (Ruoss et al. 2023, "Randomized Positional Encodings Boost
/// Length Generalization of Transformers"), one for all layers. Floyd's algorithm (Bentley and Floyd 1987).
void randomized(Positions positions, std::int64_t limit, const SampleDraw& draw) {
  std::unordered_set<std::int64_t> taken;
  for (std::int64_t last = limit - size(positions); last < limit; ++last) {
    const std::int64_t drawn = draw(taken.size(), 0, last);
    if (!taken.insert(drawn).second) taken.insert(last);
  }
  std::copy(taken.begin(), taken.end(), positions.begin());
  std::sort(positions.begin(), positions.end());
}

/// All shifted by U{0 .. limit - 1} (SHAPE: Kiyono et al. 2021).
void shape(Positions positions, std::int64_t limit, const SampleDraw& draw) { from(positions, draw(0, 0, limit - 1)); }

/// All shifted by U{0 .. limit - T}, as if padding stood in front (Tao et al. 2023, "A Frustratingly Easy Improvement
/// for Position Embeddings via Random Padding").
void random_padding(Positions positions, std::int64_t limit, const SampleDraw& draw) {
  from(positions, draw(0, 0, limit - size(positions)));
}

/// Two chunks, the first of U{1 .. (T + 1) / 2} tokens; the second skips U{0 .. limit - T} positions (PoSE: Zhu et al.
/// 2024). Its text is what follows the first's, not a later part.
void pose(Positions positions, std::int64_t limit, const SampleDraw& draw) {
  const std::int64_t first = draw(0, 1, (size(positions) + 1) / 2);
  from(positions, 0);
  const std::int64_t skipped = draw(1, 0, limit - size(positions));
  if (first < size(positions)) from(positions.subspan(static_cast<std::size_t>(first)), first + skipped);
}

/// (p + D + e_p) lambda with D of U(+-global_shift), e_p of U(+-local_shift) for each token, and log lambda of
/// U(+-log global_scale) (CAPE: Likhomanenko et al. 2021, "CAPE: Encoding Relative Positions with Continuous Augmented
/// Positional Embeddings", section 3.2). Rotary angles take the fractions just as sinusoids do: the global shift then
/// cancels, and the scale is a random position interpolation.
void cape(std::span<double> coordinates, const SamplingConfig& config, const SampleDraw& draw) {
  const auto uniform = [&](std::uint64_t index, double bound) {  // 53 bits, in (-bound, bound)
    constexpr std::int64_t half = std::int64_t{1} << 52;
    return bound * (static_cast<double>(draw(index, -half, half - 1)) + 0.5) / static_cast<double>(half);
  };
  const double shift = uniform(0, config.global_shift), scale = std::exp(uniform(1, std::log(config.global_scale)));
  for (std::size_t n = 0; n < coordinates.size(); ++n)
    coordinates[n] = (static_cast<double>(n) + shift + uniform(2 + n, config.local_shift)) * scale;
}

constexpr std::array methods = {
    SamplingMethod{.name = "none", .positions = none, .limited = false},
    SamplingMethod{.name = "randomized", .positions = randomized},
    SamplingMethod{.name = "shape", .positions = shape, .ahead = true},
    SamplingMethod{.name = "random_padding", .positions = random_padding},
    SamplingMethod{.name = "pose", .positions = pose},
    SamplingMethod{.name = "landmark_jump", .positions = none, .limited = false, .jumps = true},
    SamplingMethod{.name = "cape", .positions = none, .limited = false, .coordinates = cape}};

}  // namespace

std::span<const SamplingMethod> SamplingMethod::table() { return methods; }

void check(const SamplingConfig& config, std::int64_t length) {
  require_usage(config.kind->coordinates == nullptr || config.global_shift > 0 || config.local_shift > 0 ||
                    config.global_scale > 1,
                "sampling.kind = {} without a shift and without a scale changes nothing; give sampling.global_shift, "
                "e.g. 5, sampling.local_shift, e.g. 0.5, or sampling.global_scale, e.g. 1.03",
                config.kind->name);
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  require_usage(
      !config.kind->jumps || (config.jump > 1 && config.jump - 1 <= (most - length) / length),
      "sampling.jump = {} with sampling.kind = {}: positions skip 0 to jump - 1 after each landmark, and shall "
      "stay below {}; choose e.g. 100",
      config.jump, config.kind->name, most);
  if (!config.kind->limited) return;
  const std::int64_t least = config.kind->ahead ? 1 : length;
  require_usage(config.limit >= least,
                "sampling.limit = {} is too small for sampling.kind = {} and train.length = {}; give at least {}, e.g. "
                "{}, the length that the model shall read",
                config.limit, config.kind->name, length, least, 4 * length);
  require_usage(config.reach(length) <= most,
                "sampling.limit = {} reaches beyond the last position, {}; give at most {}", config.limit, most - 1,
                most - length);
}

void check(const SamplingConfig& config, const ModelConfig& model) {
  require_usage(
      !config.kind->jumps || landmark_of(model) >= 0,
      "sampling.kind = {} skips positions after landmarks, but no layer has any; choose attention.normalizer = "
      "landmark, or another sampling.kind",
      config.kind->name);
  if (config.kind->coordinates == nullptr) return;
  const auto takes = [](const PositionKind& kind) { return kind->fractions; };
  for (std::int64_t n = 0; n < model.layers; ++n) {
    const PositionKind kind = model.layer(n).position.kind;
    require_usage(takes(kind),
                  "sampling.kind = {} draws positions with fractions, but position.kind = {} (layer {}) takes whole "
                  "numbers only; choose one of {}, or another sampling.kind",
                  config.kind->name, kind->name, n, fmt::join(names_where<PositionKind>(takes), ", "));
  }
}

namespace {

/// Answers the questions of one sequence. It has a seed of its own, so that they are counted from 0; their remainders
/// favour no number by more than 2^-11 of its chance (2^-32 where there are fewer than 2^32).
SampleDraw draw_of(const SamplingConfig& config, std::uint64_t seed, std::uint64_t sample) {
  const std::uint64_t own = random_bits(seed, stream_id("positions"), sample), stream = stream_id(config.kind->name);
  return [=](std::uint64_t index, std::int64_t low, std::int64_t high) {
    return low +
           static_cast<std::int64_t>(random_bits(own, stream, index) % static_cast<std::uint64_t>(high - low + 1));
  };
}

/// After each landmark positions skip U{0 .. jump - 1} ahead (Mohtashami and Jaggi 2023).
void skip_after(const std::vector<bool>& landmarks, std::int64_t jump, const SampleDraw& draw, Positions positions) {
  std::int64_t skipped = 0;
  for (std::size_t n = 0; n < landmarks.size(); ++n) {
    positions[n] += skipped;
    if (landmarks[n]) skipped += draw(n, 0, jump - 1);
  }
}

}  // namespace

std::vector<std::int64_t> sample_positions(const SamplingConfig& config, std::int64_t length, std::uint64_t seed,
                                           std::uint64_t sample, const std::vector<bool>& landmarks) {
  std::vector<std::int64_t> positions(static_cast<std::size_t>(length));
  const SampleDraw draw = draw_of(config, seed, sample);
  config.kind->positions(positions, config.limit, draw);
  if (config.kind->jumps) skip_after(landmarks, config.jump, draw, positions);
  return positions;
}

std::vector<double> sample_coordinates(const SamplingConfig& config, std::int64_t length, std::uint64_t seed,
                                       std::uint64_t sample) {
  if (config.kind->coordinates == nullptr) return {};
  std::vector<double> coordinates(static_cast<std::size_t>(length));
  config.kind->coordinates(coordinates, config, draw_of(config, seed, sample));
  return coordinates;
}

void draw_positions(ModelBatch& batch, const SamplingConfig& config, std::uint64_t seed, std::uint64_t first,
                    std::int64_t landmark) {
  for (std::size_t i = 0; i < batch.tokens.sequences.size(); ++i) {
    const std::vector<double> drawn = sample_coordinates(config, batch.tokens.sequences[i].count, seed, first + i);
    batch.tokens.coordinate.insert(batch.tokens.coordinate.end(), drawn.begin(), drawn.end());
  }
  if (!config.kind->limited && !config.kind->jumps) return;
  for (std::size_t i = 0; i < batch.tokens.sequences.size(); ++i) {
    const TokenTable::Sequence& sequence = batch.tokens.sequences[i];
    const auto begin = static_cast<std::size_t>(sequence.first);
    std::vector<bool> landmarks;
    for (std::size_t n = begin; n < begin + static_cast<std::size_t>(sequence.count); ++n)
      landmarks.push_back(batch.ids[n] == landmark);
    const std::vector<std::int64_t> drawn = sample_positions(config, sequence.count, seed, first + i, landmarks);
    std::copy(drawn.begin(), drawn.end(), batch.tokens.position.begin() + sequence.first);
    const auto place = [&](std::int64_t token) { return drawn[static_cast<std::size_t>(token)]; };
    for (std::size_t n = begin; n < begin + drawn.size() && !batch.document_start.empty(); ++n) {
      batch.document_start[n] = place(batch.document_start[n]);
      const std::int64_t sinks = std::min(batch.sink_end[n], sequence.count);  // tokens up to the last sink
      batch.sink_end[n] = sinks == 0 ? 0 : place(sinks - 1) + 1;
    }
  }
}

}  // namespace lexring
