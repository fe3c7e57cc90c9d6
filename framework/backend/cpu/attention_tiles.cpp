#include "framework/backend/cpu/attention_tiles.h"

#include <algorithm>
#include <cmath>

#include "framework/base/parallel_for.h"

namespace lexring::cpu {

using namespace simd;

Side make_side(const AttentionForm& form, const TokenTable& tokens, const RotaryTable& rotary, AttentionRole role,
               Runtime& runtime) {
  Side side{make_tiling(form, tokens, role == AttentionRole::query ? query_tile : key_tile), {}};
  if (!form.rotary) return side;

  const std::int64_t pairs = form.head_width / 2;
  side.factors = {Tensor(runtime, {tokens.rows(), pairs}, Dtype::f32),
                  Tensor(runtime, {tokens.rows(), pairs}, Dtype::f32)};
  const float scale = role == AttentionRole::query ? static_cast<float>(form.scale) * log2_e : 1.0F;
  const float *cosine = rotary.cosine.data<float>(), *sine = rotary.sine.data<float>();
  float *c = side.factors.cosine.data<float>(), *s = side.factors.sine.data<float>();
  parallel_for(0, static_cast<std::int64_t>(side.tiles.size()), 1, [&](std::int64_t first, std::int64_t last) {
    std::vector<float> decay(static_cast<std::size_t>(pairs + lanes), 1.0F);
    for (std::int64_t t = first; t < last; ++t) {
      const TokenTile& tile = side.tiles[static_cast<std::size_t>(t)];
      const std::int64_t base = side.base[static_cast<std::size_t>(t)];
      for (std::int64_t n = tile.first; n < tile.first + tile.count; ++n) {
        const double after = tokens.coordinate_of(static_cast<std::size_t>(n)) - static_cast<double>(base);
        const std::int64_t at = n * pairs;
        pair_factors(form, role == AttentionRole::query ? after : -after, decay.data());
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

TileMask make_mask(const RowRange* rows, const RowRange& reach, const TokenTile& queries, const TokenTile& keys) {
  const auto begin = static_cast<std::int32_t>(keys.first), end = static_cast<std::int32_t>(keys.first + keys.count);
  TileMask mask;
  const bool met = std::max(reach.first, begin) < std::min(reach.last, end) ||
                   std::max(reach.sink_first, begin) < std::min(reach.sink_last, end);
  if (!met) return mask;

  std::array<Strip, key_tile / strip_width> seen;
  seen.fill({0, 0, queries.count, 0});
  mask.all = true;
  for (std::int64_t r = 0; r < queries.count; ++r) {
    const RowRange& row = rows[queries.first + r];
    mask.all = mask.all && row.first <= begin && row.last >= end;
    for (const auto& [first, last] : {std::pair{row.first, row.last}, std::pair{row.sink_first, row.sink_last}}) {
      const std::int64_t low = std::max(first, begin) - begin, high = std::min(last, end) - begin;
      for (std::int64_t s = low / strip_width; s * strip_width < high; ++s) {
        Strip& strip = seen[static_cast<std::size_t>(s)];
        strip.first_row = std::min(strip.first_row, r);
        strip.last_row = r + 1;
        strip.last_column = std::max(strip.last_column, std::min(high, (s + 1) * strip_width));
      }
    }
  }
  if (mask.all) {
    mask.storage[0] = {0, keys.count, 0, queries.count}, mask.count = 1;
    return mask;
  }
  for (std::size_t s = 0; s < seen.size(); ++s) {
    Strip strip = seen[s];
    if (strip.first_row >= strip.last_row) continue;
    strip.first_column = static_cast<std::int64_t>(s) * strip_width;
    strip.first_row -= strip.first_row % 2,
        strip.last_row = std::min(queries.count, strip.last_row + strip.last_row % 2);  // bf16 has rows in pairs
    Strip* const before = mask.count > 0 ? &mask.storage[static_cast<std::size_t>(mask.count) - 1] : nullptr;
    if (before && before->last_column == strip.first_column && before->first_row == strip.first_row &&
        before->last_row == strip.last_row)
      before->last_column = strip.last_column;
    else mask.storage[static_cast<std::size_t>(mask.count++)] = strip;
  }
  return mask;
}

std::pair<std::int64_t, std::int64_t> TileMask::columns(std::int64_t row) const {
  std::int64_t first = key_tile, last = 0;
  for (const Strip& strip : strips()) {
    if (row < strip.first_row || row >= strip.last_row) continue;
    first = std::min(first, strip.first_column);
    last = strip.last_column;
  }
  return {first, last};
}

void pair_factors(const AttentionForm& form, double distance, float* factors) {
  // In powers of two, the whole part apart from the fraction in f64: the error does not grow with the distance.
  const double scale = distance * 1.4426950408889634;
  for_lanes(static_cast<std::int64_t>(form.log_decay.size()), [&](std::int64_t i, std::int64_t m) {
    f32v fraction = {};
    i32v whole = {};
    for (std::int64_t j = 0; j < m; ++j) {
      const double power = std::max(form.log_decay[static_cast<std::size_t>(i + j)] * scale, -127.0),
                   nearest = std::nearbyint(power);
      whole[j] = static_cast<std::int32_t>(nearest);
      fraction[j] = static_cast<float>(power - nearest);
    }
    store(factors + i, simd::exp2(fraction) * as_f32(reinterpret_cast<u32v>((whole + 127) << 23)), m);  // 0 at 2^-127
  });
}

void cap_scores(const AttentionForm& form, const Strip& strip, float* scores) {
  const float cap = static_cast<float>(form.softcap) * log2_e, inverse = 1.0F / cap;
  for (std::int64_t r = strip.first_row; r < strip.last_row; ++r) {
    for (std::int64_t i = strip.first_column; i < strip.last_column; i += lanes) {
      float* const at = scores + r * key_tile + i;
      store(at, cap * simd::tanh(inverse * load(at)));
    }
  }
}

namespace {

/// Pairs (x0, x1) turned: (x0 c - x1 s, x1 c + x0 s).
f32v turn(f32v x, f32v cosine, f32v sine) {
  const u32v even = reinterpret_cast<u32v>((lane_index() & 1) - 1) & 0x80000000U;  // the sign of the first of each pair
  return x * cosine + swap_pairs(x) * as_f32(as_u32(sine) ^ even);
}

/// Rows of one head lie a whole layer's width apart, a pattern that hardware does not foresee: without this, reading
/// them is one cache miss after the other.
template <class T>
void prefetch_row(const T* row, std::int64_t width) {
  for (std::int64_t i = 0; i < width; i += 64 / static_cast<std::int64_t>(sizeof(T))) __builtin_prefetch(row + i);
}
constexpr std::int64_t rows_ahead = 16;

}  // namespace

template <class T>
void rotate_rows(const T* x, std::int64_t x_stride, const RowFactors& factors, std::int64_t row, std::int64_t count,
                 std::int64_t width, float scale, float* out, std::int64_t out_stride) {
  const std::int64_t pairs = width / 2;
  for (std::int64_t n = 0; n < count; ++n) {
    const T* from = x + n * x_stride;
    float* to = out + n * out_stride;
    prefetch_row(from + std::min(rows_ahead, count - 1 - n) * x_stride, width);
    if (!factors.cosine.defined()) {
      for_lanes(width, [&](std::int64_t i, std::int64_t m) { store(to + i, load(from + i, m) * scale, m); });
      continue;
    }
    const float *c = factors.cosine.data<float>() + (row + n) * pairs,
                *s = factors.sine.data<float>() + (row + n) * pairs;
    for_lanes(width, [&](std::int64_t i, std::int64_t m) {
      store(to + i, turn(load(from + i, m), load_for_pairs(c + i / 2, m), load_for_pairs(s + i / 2, m)), m);
    });
  }
}

template <class T>
void rotate_rows_back(const float* g, std::int64_t g_stride, const RowFactors& factors, std::int64_t row,
                      std::int64_t count, std::int64_t width, float scale, T* out, std::int64_t out_stride) {
  const std::int64_t pairs = width / 2;
  for (std::int64_t n = 0; n < count; ++n) {
    const float* from = g + n * g_stride;
    T* to = out + n * out_stride;
    if (!factors.cosine.defined()) {
      for_lanes(width, [&](std::int64_t i, std::int64_t m) { store(to + i, load(from + i, m) * scale, m); });
      continue;
    }
    const float *c = factors.cosine.data<float>() + (row + n) * pairs,
                *s = factors.sine.data<float>() + (row + n) * pairs;
    for_lanes(width, [&](std::int64_t i, std::int64_t m) {
      store(to + i, turn(load(from + i, m), load_for_pairs(c + i / 2, m), -load_for_pairs(s + i / 2, m)), m);
    });
  }
}

template void rotate_rows(const float*, std::int64_t, const RowFactors&, std::int64_t, std::int64_t, std::int64_t,
                          float, float*, std::int64_t);
template void rotate_rows(const bfloat16*, std::int64_t, const RowFactors&, std::int64_t, std::int64_t, std::int64_t,
                          float, float*, std::int64_t);
template void rotate_rows_back(const float*, std::int64_t, const RowFactors&, std::int64_t, std::int64_t, std::int64_t,
                               float, float*, std::int64_t);
template void rotate_rows_back(const float*, std::int64_t, const RowFactors&, std::int64_t, std::int64_t, std::int64_t,
                               float, bfloat16*, std::int64_t);

void scale_pairs(const float* rows, std::int64_t stride, std::int64_t count, std::int64_t width, const float* factors,
                 float* out, std::int64_t out_stride, bool accumulate) {
  for_lanes(width, [&](std::int64_t i, std::int64_t m) {
    const f32v f = load_for_pairs(factors + i / 2, m);
    for (std::int64_t n = 0; n < count; ++n) {
      float* to = out + n * out_stride + i;
      const f32v x = load(rows + n * stride + i, m) * f;
      store(to, accumulate ? x + load(to, m) : x, m);
    }
  });
}

}  // namespace lexring::cpu
