#include "framework/backend/cpu/attention_tile_bias.h"

namespace lexring::cpu {

using namespace simd;

RelativeBias::RelativeBias(const ScoreBias& bias, std::int64_t head, const std::int64_t* positions,
                           std::int64_t queries)
    : pieces_(bias.distances() / 3),
      knots_((pieces_ - 1 + lanes - 1) / lanes * lanes),
      distances_(bias.log_distance.dim(1)),
      row_(bias.by_distance.data<float>() + head * bias.distances()),
      log_(bias.log_distance.data<float>()),
      beyond_(static_cast<std::size_t>(queries * knots_)) {
  const RelativeRow<float> row(row_, bias.distances());
  const f32v farthest = broadcast(static_cast<float>(1 << 30)), inverse = broadcast(1 / row.c);
  for (std::int64_t r = 0; r < queries; ++r) {
    rates_.push_back(row.rate(positions[r]));
    const float exponent = log2_e / static_cast<float>(rates_.back().value);
    for_lanes(pieces_ - 1, [&](std::int64_t k, std::int64_t m) {
      // x = log(c d + 1) rate is the knot where d = (e^(knot / rate) - 1) / c; which side a pair very close to it is
      // on makes no difference, for the pieces meet there.
      const f32v distance = minimum((simd::exp2(exponent * load(row.knots + k, m)) - 1.0F) * inverse, farthest);
      const i32v beyond = __builtin_convertvector(distance, i32v) + 1;
      std::memcpy(&beyond_[static_cast<std::size_t>(r * knots_ + k)], &beyond, sizeof beyond);
    });
  }
}

void RelativeBias::gather(const float* table, std::int64_t position, std::int64_t first, std::int64_t last,
                          float* out) const {
  const std::int64_t farthest = position - position_[0];
  for (std::int64_t i = first; i < last; i += lanes) {
    const std::int64_t nearest = farthest - i - (lanes - 1);
    if (!has_gaps_ && nearest >= 0 && nearest + lanes <= distances_) {
      store(out + i, __builtin_shuffle(load(table + nearest), (lanes - 1) - lane_index()));
      continue;
    }
    for (std::int64_t j = i; j < i + lanes; ++j) {
      const std::int64_t distance = position - position_[std::min(j, count_ - 1)];
      out[j] = table[std::clamp<std::int64_t>(distance, 0, distances_ - 1)];
    }
  }
}

void RelativeBias::take_query(std::int64_t r, std::int64_t position, std::int64_t first, std::int64_t last, bool learns,
                              Row& logs, float* bias) const {
  gather(log_, position, first, last, logs.log);
  if (learns) gather(log_ + distances_, position, first, last, logs.log_by_c);
  const float rate = static_cast<float>(rates_[static_cast<std::size_t>(r)].value) * log2_e;
  for_runs(r, position, first, last, [&](std::int64_t piece, std::int64_t begin, std::int64_t end) {
    const f32v slope = broadcast(row_[piece] * rate), value = broadcast(row_[pieces_ + piece] * log2_e);
    // What is written beyond the run, the next one overwrites.
    for (std::int64_t i = begin; i < end; i += lanes) store(bias + i, slope * load(logs.log + i) + value);
  });
}

void RelativeBias::add_gradients(std::int64_t r, std::int64_t position, const Row& logs, const float* gradients,
                                 std::int64_t first, std::int64_t last, double* sums) const {
  const RelativeRow<float>::Rate& rate = rates_[static_cast<std::size_t>(r)];
  for_runs(r, position, first, last, [&](std::int64_t piece, std::int64_t begin, std::int64_t end) {
    f32v total = {}, by_log = {}, by_log_by_c = {};
    for (std::int64_t i = begin; i < end; i += lanes) {
      f32v g = load(gradients + i);
      if (i + lanes > end) g = lane_index() < static_cast<std::int32_t>(end - i) ? g : f32v{};
      total += g;
      by_log += g * load(logs.log + i);
      by_log_by_c += g * load(logs.log_by_c + i);
    }
    const auto slope = static_cast<double>(row_[piece]), log = static_cast<double>(sum(by_log));
    sums[piece] += log * rate.value;
    sums[pieces_ + piece] += static_cast<double>(sum(total));
    sums[2 * pieces_] += slope * (static_cast<double>(sum(by_log_by_c)) * rate.value + log * rate.by_c);
    sums[2 * pieces_ + 1] += slope * log * rate.by_threshold;
  });
}

}  // namespace lexring::cpu
