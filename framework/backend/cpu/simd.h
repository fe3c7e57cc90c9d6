/// f32 vectors of the machine's width, on GCC's vector extensions: the same source is AVX-512, AVX2 or NEON. For the
/// CPU kernels only.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "framework/tensor/dtype.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace lexring::simd {

#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif

/// Whether two neighbouring bf16 are multiplied and added to an f32 in one operation.
#if defined(__AVX512BF16__)
constexpr bool has_bf16_dot = true;
#else
constexpr bool has_bf16_dot = false;
#endif

using f32v = float __attribute__((vector_size(lanes * 4)));
using i32v = std::int32_t __attribute__((vector_size(lanes * 4)));
using u32v = std::uint32_t __attribute__((vector_size(lanes * 4)));
using u16v = std::uint16_t __attribute__((vector_size(lanes * 2)));
using u16v2 = std::uint16_t __attribute__((vector_size(lanes * 4)));

inline f32v broadcast(float x) { return x - f32v{}; }
inline i32v broadcast(std::int32_t x) { return x - i32v{}; }
inline f32v as_f32(u32v x) { return reinterpret_cast<f32v>(x); }
inline u32v as_u32(f32v x) { return reinterpret_cast<u32v>(x); }

/// Rounds to nearest even into the lower 16 bits of each lane; NaN stays NaN.
inline u32v bf16_bits(f32v x) {
  const u32v u = as_u32(x);
  const u32v rounded = (u + 0x7fffU + ((u >> 16) & 1U)) >> 16;
  return x == x ? rounded : (u >> 16) | 0x40U;
}

inline f32v load(const float* p) {
  f32v x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline f32v load(const bfloat16* p) {
#if defined(__AVX512F__)  // GCC 12 takes the conversion below apart
  const __m512i x = _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return as_f32(reinterpret_cast<u32v>(x) << 16);
#else
  u16v x;
  std::memcpy(&x, p, sizeof x);
  return as_f32(__builtin_convertvector(x, u32v) << 16);
#endif
}
inline void store(float* p, f32v x) { std::memcpy(p, &x, sizeof x); }
inline void store(bfloat16* p, f32v x) {
#if defined(__AVX512BF16__)
  const __m256bh y = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(x));
  std::memcpy(p, &y, sizeof y);
#else
  const u16v y = __builtin_convertvector(bf16_bits(x), u16v);
  std::memcpy(p, &y, sizeof y);
#endif
}

/// The first n elements; the others read as 0.
template <class T>
inline f32v load(const T* p, std::int64_t n) {
  if (n >= lanes) return load(p);
  T buffer[lanes] = {};
  std::memcpy(buffer, p, static_cast<std::size_t>(n) * sizeof(T));
  return load(buffer);
}
template <class T>
inline void store(T* p, f32v x, std::int64_t n) {
  if (n >= lanes) return store(p, x);
  T buffer[lanes];
  store(buffer, x);
  std::memcpy(p, buffer, static_cast<std::size_t>(n) * sizeof(T));
}

/// body(i, n) over [0, count) in steps of a vector; n is the number of live lanes.
template <class Body>
inline void for_lanes(std::int64_t count, const Body& body) {
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(i, std::int64_t{lanes});
  if (i < count) body(i, count - i);
}

/// Lanes 0, 1, 2, ...
inline i32v lane_index() {
  i32v x = {};
  for (int i = 0; i < lanes; ++i) x[i] = i;
  return x;
}
/// Where one is NaN, b.
inline f32v maximum(f32v a, f32v b) {
#if defined(__AVX512F__)  // GCC makes a comparison and a blend of the expression below
  return reinterpret_cast<f32v>(_mm512_maskz_max_ps(0xffff, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#else
  return a > b ? a : b;
#endif
}
inline f32v minimum(f32v a, f32v b) {
#if defined(__AVX512F__)
  return reinterpret_cast<f32v>(_mm512_maskz_min_ps(0xffff, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#else
  return a < b ? a : b;
#endif
}
/// In halves: log2(lanes) dependent steps, where lane after lane takes as many as there are lanes.
inline float sum(f32v x) {
  for (int half = lanes / 2; half > 0; half /= 2) x += __builtin_shuffle(x, lane_index() ^ half);
  return x[0];
}
inline float largest(f32v x) {
  for (int half = lanes / 2; half > 0; half /= 2) x = maximum(x, __builtin_shuffle(x, lane_index() ^ half));
  return x[0];
}

/// Neighbours 2i and 2i + 1 change places.
inline f32v swap_pairs(f32v x) { return __builtin_shuffle(x, lane_index() ^ 1); }
/// p[0], p[0], p[1], p[1], ...: one number for each of the n / 2 pairs of lanes.
inline f32v load_for_pairs(const float* p, std::int64_t n) {
#if defined(__AVX512F__)
  const auto live = static_cast<__mmask16>((1U << (n < lanes ? n : lanes) / 2) - 1);
  return __builtin_shuffle(reinterpret_cast<f32v>(_mm512_maskz_loadu_ps(live, p)), lane_index() >> 1);
#else
  f32v x = {};
  for (int i = 0; i < lanes && i < n; ++i) x[i] = p[i / 2];
  return x;
#endif
}

/// Both rounded to bf16, first | second.
inline u16v2 to_bf16(f32v first, f32v second) {
  u16v2 both;
#if defined(__AVX512BF16__)
  const __m512bh y = _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(second), reinterpret_cast<__m512>(first));
  std::memcpy(&both, &y, sizeof both);
#else
  const u16v a = __builtin_convertvector(bf16_bits(first), u16v), b = __builtin_convertvector(bf16_bits(second), u16v);
  std::memcpy(&both, &a, sizeof a);
  std::memcpy(reinterpret_cast<char*>(&both) + sizeof a, &b, sizeof b);
#endif
  return both;
}
/// Words of one element of each: first[0] second[0] first[1] second[1] ...
inline u16v2 interleave(u16v2 both) {
  u16v2 order = {};
  for (int i = 0; i < 2 * lanes; ++i) order[i] = static_cast<std::uint16_t>(i / 2 + i % 2 * lanes);
  return __builtin_shuffle(both, order);
}

/// 2^x to 2e-7 relative for x <= 127 (above it, any number); 0 below -127.
inline f32v exp2_below_127(f32v x) {
  const f32v clamped = maximum(broadcast(-127.0F), x);  // in this order NaN stays NaN
  const float magic = 12582912.0F;                      // 1.5 * 2^23: adding it rounds to an integer
  const f32v rounded = clamped + magic;
  const f32v r = clamped - (rounded - magic);
  f32v p = broadcast(0.0013264727F);  // minimax fit of 2^r on [-1/2, 1/2], exact at 0
  p = p * r + 0.009671513F;
  p = p * r + 0.055507336F;
  p = p * r + 0.24022242F;
  p = p * r + 0.693147F;
  p = p * r + 1.0F;
  return p * as_f32((as_u32(rounded) << 23) + 0x3f800000U);  // the power is 0 at -127
}
/// The same for every x: saturates at 2^127.
inline f32v exp2(f32v x) { return exp2_below_127(minimum(broadcast(127.0F), x)); }

/// e^x: the product x log2(e) is split so that its rounding does not grow with |x|.
inline f32v exp(f32v x) {
  const f32v clamped = minimum(maximum(x, broadcast(-87.4F)), broadcast(88.0F));
  const float magic = 12582912.0F;
  const f32v n = (clamped * 1.44269504F + magic) - magic;
  const f32v r = (clamped - n * 0.693359375F) + n * 2.12194440e-4F;
  const f32v y = exp2(r * 1.44269504F);
  const f32v scaled = as_f32((as_u32(n + magic) << 23) + 0x3f800000U) * y;
  return x < -87.3F ? f32v{} : (x == x ? scaled : x);
}

/// tanh to 3e-7 relative, from u = e^-2x - 1 = 2^k (2^r - 1) + 2^k - 1, which is exact to rounding near 0 too.
inline f32v tanh(f32v x) {
  // Beyond 40 it is +-1; in this order NaN stays NaN.
  const f32v power = minimum(broadcast(40.0F), maximum(broadcast(-40.0F), -2.88539008F * x));
  const float magic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  const f32v rounded = power + magic;
  const f32v r = power - (rounded - magic);
  f32v p = broadcast(1.54035079e-4F);  // minimax fit of (2^r - 1) / r on [-1/2, 1/2]
  for (float c : {1.33907364e-3F, 9.61823761e-3F, 0.0555035733F, 0.240226492F, 0.693147182F}) p = p * r + c;
  const f32v scale = as_f32((as_u32(rounded) << 23) + 0x3f800000U);
  const f32v u = scale * (p * r) + (scale - 1.0F);
  return -u / (u + 2.0F);
}

/// The normal distribution function to 1e-7 absolute: 2 to a polynomial (minimax fit, weighted by the tail itself) on
/// the side below 1/2.
inline f32v normal_cdf(f32v x) {
  const f32v z = minimum(broadcast(8.0F), as_f32(as_u32(x) & 0x7fffffffU));
  f32v power = broadcast(9.84366864e-08F);
  for (float c : {-2.81112261e-06F, 3.0580537e-05F, -0.000133050344F, -0.000272412028F, 0.00723706605F, -0.0526090637F,
                  -0.459174097F, -1.15110898F, -0.99999994F})
    power = power * z + c;
  const f32v tail = exp2_below_127(power);
  return x > 0.0F ? 1.0F - tail : tail;
}

}  // namespace lexring::simd
