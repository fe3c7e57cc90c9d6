#include "framework/backend/cpu/attention_tiles.h"

#include <algorithm>
#include <cmath>

#include "framework/base/parallel_for.h"

namespace lexring::cpu {

using namespace simd;

Side make_side(const AttentionSpec& spec, const TokenTable& tokens, const RotaryTable& rotary, Role role, Runtime& runtime) {
  Side side;
  const std::int64_t span = diagonal_span(spec) / 2;
  side.tiles = make_tiles(tokens, role == Role::query ? query_tile : key_tile, span);
  side.first_tile.assign(tokens.sequences.size() + 1, static_cast<std::int64_t>(side.tiles.size()));
  for (auto t = static_cast<std::int64_t>(side.tiles.size()); t-- > 0;) {
    side.first_tile[static_cast<std::size_t>(side.tiles[static_cast<std::size_t>(t)].sequence)] = t;
  }
  for (std::size_t s = tokens.sequences.size(); s-- > 0;) {  // sequences without rows have no tile of their own
    if (tokens.sequences[s].count == 0) side.first_tile[s] = side.first_tile[s + 1];
  }
  if (!spec.rotary) return side;

  const std::int64_t pairs = spec.head_width / 2;
  side.factors = {Tensor(runtime, {tokens.rows(), pairs}, Dtype::f32), Tensor(runtime, {tokens.rows(), pairs}, Dtype::f32)};
  const float scale = role == Role::query ? static_cast<float>(spec.scale) * log2_e : 1.0F;
  const float *cosine = rotary.cosine.data<float>(), *sine = rotary.sine.data<float>();
  float *c = side.factors.cosine.data<float>(), *s = side.factors.sine.data<float>();
  parallel_for(0, static_cast<std::int64_t>(side.tiles.size()), 1, [&](std::int64_t first, std::int64_t last) {
    std::vector<float> decay(static_cast<std::size_t>(pairs + lanes), 1.0F);
    for (std::int64_t t = first; t < last; ++t) {
      const TokenTile& tile = side.tiles[static_cast<std::size_t>(t)];
      const std::int64_t base = tokens.position[static_cast<std::size_t>(role == Role::query ? tile.first : tile.first + tile.count - 1)];
      for (std::int64_t n = tile.first; n < tile.first + tile.count; ++n) {
        const std::int64_t distance = std::abs(tokens.position[static_cast<std::size_t>(n)] - base), at = n * pairs;
        pair_factors(spec, distance, decay.data());
        for_lanes(pairs, [&](std::int64_t i, std::int64_t m) {
          const f32v f = scale * load(decay.data() + i);
          store(c + at + i, load(cosine + at + i, m) * f, m);
          store(s + at + i, load(sine + at + i, m) * f, m);
        });
      }
    }
  });
  return side;
}

namespace {

Ranges ranges_of(const TokenTable& queries, const TokenTable& keys, const Visibility& visible) {
  Ranges ranges;
  ranges.rows.assign(static_cast<std::size_t>(queries.rows()), RowRange{0, 0, 0, 0});
  const auto lower = [&](const TokenTable::Sequence& s, std::int64_t position) {  // first row of the sequence at `position` or later
    const auto begin = keys.position.begin() + s.first;
    return static_cast<std::int32_t>(std::lower_bound(begin, begin + s.count, position) - keys.position.begin());
  };
  for (const TokenTable::Sequence& q : queries.sequences) {
    const auto found = std::lower_bound(keys.sequences.begin(), keys.sequences.end(), q.id, [](const auto& s, std::int64_t id) { return s.id < id; });
    const bool present = found != keys.sequences.end() && found->id == q.id;
    ranges.key_sequence.push_back(present ? found - keys.sequences.begin() : -1);
    if (!present) continue;
    parallel_for(q.first, q.first + q.count, 1024, [&](std::int64_t first, std::int64_t last) {
      for (auto n = static_cast<std::size_t>(first); n < static_cast<std::size_t>(last); ++n) {
        RowRange& row = ranges.rows[n];
        const std::int64_t own = queries.position[n];
        row.first = lower(*found, visible.first[n]);
        row.last = std::max(row.first, lower(*found, own + 1));
        if (visible.sink_begin.empty()) continue;
        row.sink_first = lower(*found, visible.sink_begin[n]);
        row.sink_last = std::max(row.sink_first, lower(*found, std::min(visible.sink_end[n], own + 1)));
      }
    });
  }
  return ranges;
}

}  // namespace

Ranges make_ranges(const AttentionForward& call) { return ranges_of(call.queries, call.keys, call.visible); }
Ranges make_ranges(const AttentionBackward& call) { return ranges_of(call.queries, call.keys, call.visible); }

TileMask make_mask(const RowRange* rows, const TokenTile& queries, const TokenTile& keys) {
  const auto begin = static_cast<std::int32_t>(keys.first), end = static_cast<std::int32_t>(keys.first + keys.count);
  TileMask mask{false, true, end, begin};
  for (std::int64_t n = queries.first; n < queries.first + queries.count; ++n) {
    const RowRange& row = rows[n];
    mask.all = mask.all && row.first <= begin && row.last >= end;
    for (const auto& [first, last] : {std::pair{row.first, row.last}, std::pair{row.sink_first, row.sink_last}}) {
      const std::int32_t low = std::max(first, begin), high = std::min(last, end);
      if (low >= high) continue;
      mask.any = true;
      mask.first_column = std::min<std::int64_t>(mask.first_column, low);
      mask.last_column = std::max<std::int64_t>(mask.last_column, high);
    }
  }
  mask.first_column -= begin;
  mask.last_column -= begin;
  return mask;
}

void pair_factors(const AttentionSpec& spec, std::int64_t distance, float* factors) {
  // In powers of two, the whole part apart from the fraction in f64: the error does not grow with the distance.
  const auto pairs = static_cast<std::int64_t>(spec.log_decay.size());
  for (std::int64_t i = 0; i < pairs; ++i) {
    const double power = std::max(spec.log_decay[static_cast<std::size_t>(i)] * static_cast<double>(distance) * 1.4426950408889634, -300.0);
    const double whole = std::nearbyint(power);
    const auto fraction = static_cast<float>(power - whole);
    factors[i] = std::ldexp(simd::exp2(broadcast(fraction))[0], static_cast<int>(whole));
  }
}

template <class T>
void rotate_rows(const T* x, std::int64_t x_stride, const RowFactors& factors, std::int64_t row, std::int64_t count, std::int64_t width,
                 float scale, float* out, std::int64_t out_stride) {
  const std::int64_t pairs = width / 2;
  for (std::int64_t n = 0; n < count; ++n) {
    const T* from = x + n * x_stride;
    float* to = out + n * out_stride;
    if (!factors.cosine.defined()) {
      for_lanes(width, [&](std::int64_t i, std::int64_t m) { store(to + i, load(from + i, m) * scale, m); });
      continue;
    }
    const float *c = factors.cosine.data<float>() + (row + n) * pairs, *s = factors.sine.data<float>() + (row + n) * pairs;
    for (std::int64_t i = 0; i < pairs; ++i) {
      const float x0 = from[2 * i], x1 = from[2 * i + 1];
      to[2 * i] = x0 * c[i] - x1 * s[i];
      to[2 * i + 1] = x1 * c[i] + x0 * s[i];
    }
  }
}

template <class T>
void rotate_rows_back(const float* g, std::int64_t g_stride, const RowFactors& factors, std::int64_t row, std::int64_t count,
                      std::int64_t width, float scale, T* out, std::int64_t out_stride) {
  const std::int64_t pairs = width / 2;
  for (std::int64_t n = 0; n < count; ++n) {
    const float* from = g + n * g_stride;
    T* to = out + n * out_stride;
    if (!factors.cosine.defined()) {
      for_lanes(width, [&](std::int64_t i, std::int64_t m) { store(to + i, load(from + i, m) * scale, m); });
      continue;
    }
    const float *c = factors.cosine.data<float>() + (row + n) * pairs, *s = factors.sine.data<float>() + (row + n) * pairs;
    for (std::int64_t i = 0; i < pairs; ++i) {
      const float g0 = from[2 * i], g1 = from[2 * i + 1];
      to[2 * i] = T(g0 * c[i] + g1 * s[i]);
      to[2 * i + 1] = T(g1 * c[i] - g0 * s[i]);
    }
  }
}

template void rotate_rows(const float*, std::int64_t, const RowFactors&, std::int64_t, std::int64_t, std::int64_t, float, float*, std::int64_t);
template void rotate_rows(const bfloat16*, std::int64_t, const RowFactors&, std::int64_t, std::int64_t, std::int64_t, float, float*, std::int64_t);
template void rotate_rows_back(const float*, std::int64_t, const RowFactors&, std::int64_t, std::int64_t, std::int64_t, float, float*, std::int64_t);
template void rotate_rows_back(const float*, std::int64_t, const RowFactors&, std::int64_t, std::int64_t, std::int64_t, float, bfloat16*, std::int64_t);

void scale_pairs(const float* rows, std::int64_t stride, std::int64_t count, std::int64_t width, const float* factors, float* out,
                 std::int64_t out_stride) {
  for (std::int64_t n = 0; n < count; ++n) {
    for (std::int64_t i = 0; i < width; ++i) out[n * out_stride + i] = rows[n * stride + i] * factors[i / 2];
  }
}

}  // namespace lexring::cpu
