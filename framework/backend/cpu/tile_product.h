/// Small matrix products on registers: C [rows, n] = (or +=) A [rows, k] B [k, n], the inside of block attention.
///
/// Both kinds of factor go through one kernel by counting k in 32-bit words: a word is one f32, or two neighbouring
/// bf16 along k. A is read by broadcasting words at (row * row_step + word * word_step), so transposes cost nothing. B
/// is packed in panels of up to 4 vectors: panel p holds [words][panel width] words, with n padded to whole vectors by
/// zeros. C is f32 with at least the padded width per row.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "framework/backend/cpu/simd.h"

namespace lexring::cpu {

using simd::f32v;
using simd::lanes;

/// What products inside a kernel are made of: bf16 tensors are widened where bf16 has no dot product, which costs less
/// than taking words apart.
template <class T>
using Factor = std::conditional_t<simd::has_bf16_dot, T, float>;

/// How a factor fills a 32-bit word.
template <class T>
struct WordOf;
template <>
struct WordOf<float> {
  using type = float;
  static constexpr int depth = 1;  // elements along k
  static f32v multiply_add(f32v c, float a, const float* b) { return c + a * simd::load(b); }
};
#if defined(__AVX512BF16__)
template <>
struct WordOf<bfloat16> {
  using type = std::uint32_t;
  static constexpr int depth = 2;
  static f32v multiply_add(f32v c, std::uint32_t a, const std::uint32_t* b) {
    return reinterpret_cast<f32v>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(c),
                                                   reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(a))),
                                                   reinterpret_cast<__m512bh>(_mm512_loadu_si512(b))));
  }
};
#endif
template <class T>
using Word = typename WordOf<T>::type;

// Constants of these headers are not inline: objcopy cannot hide the unique symbols that g++ makes of such
// (CMakeLists.txt). Accumulators, one row of B and a broadcast fill the registers: 32 of AVX-512 and NEON, 16 of AVX2
// and SSE.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr std::int64_t panel_vectors = 4;
#else
constexpr std::int64_t panel_vectors = 2;
#endif
constexpr std::int64_t panel_width = panel_vectors * lanes;
constexpr int row_block = 6;

constexpr std::int64_t padded_width(std::int64_t n) { return (n + lanes - 1) / lanes * lanes; }
template <class T>
constexpr std::int64_t words(std::int64_t k) {
  return (k + WordOf<T>::depth - 1) / WordOf<T>::depth;
}

/// A strided view of the left operand, in words.
template <class T>
struct Left {
  const Word<T>* data;
  std::int64_t row_step, word_step;
};

/// Not inlined: a caller's own variables would push the accumulators out of the registers.
template <class T, int Rows, int Vectors>
[[gnu::noinline]] void register_tile(const Left<T>& a, const Word<T>* b, float* c, std::int64_t c_stride,
                                     std::int64_t depth, bool accumulate) {
  // Every loop over `sums` is unrolled: an array that is indexed by a variable anywhere lives on the stack, not in
  // registers.
  f32v sums[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sums[r][v] = accumulate ? simd::load(c + r * c_stride + v * lanes) : f32v{};
  }
  const Word<T>* at = a.data;
  for (std::int64_t w = 0; w < depth; ++w, at += a.word_step, b += Vectors * lanes) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Word<T> x = at[r * a.row_step];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sums[r][v] = WordOf<T>::multiply_add(sums[r][v], x, b + v * lanes);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) simd::store(c + r * c_stride + v * lanes, sums[r][v]);
  }
}

/// Blocks of `Rows` rows, then what is left in halves.
template <class T, int Vectors, int Rows = row_block>
inline void panel_product(std::int64_t rows, Left<T> a, const Word<T>* b, float* c, std::int64_t c_stride,
                          std::int64_t depth, bool accumulate) {
  for (; rows >= Rows; rows -= Rows, a.data += Rows * a.row_step, c += Rows * c_stride) {
    register_tile<T, Rows, Vectors>(a, b, c, c_stride, depth, accumulate);
  }
  if constexpr (Rows > 1) panel_product<T, Vectors, Rows / 2>(rows, a, b, c, c_stride, depth, accumulate);
}

/// The panel product of as many vectors as a panel has.
template <class T, int Vectors>
inline void some_vectors(std::int64_t vectors, std::int64_t rows, Left<T> a, const Word<T>* b, float* c,
                         std::int64_t c_stride, std::int64_t depth, bool accumulate) {
  if constexpr (Vectors > 1) {
    if (vectors < Vectors) return some_vectors<T, Vectors - 1>(vectors, rows, a, b, c, c_stride, depth, accumulate);
  }
  panel_product<T, Vectors>(rows, a, b, c, c_stride, depth, accumulate);
}

/// The packed right operand B [words, n].
template <class T>
struct Right {
  const Word<T>* data;
  std::int64_t words, n;
};

/// C [rows, columns of B] = (or +=) A B over words [first_word, last_word) of k; columns [first_column, last_column)
/// only, where the first is a multiple of panel_width. `a` begins at first_word.
template <class T>
void tile_product(std::int64_t rows, Left<T> a, Right<T> b, std::int64_t first_word, std::int64_t last_word,
                  std::int64_t first_column, std::int64_t last_column, float* c, std::int64_t c_stride,
                  bool accumulate) {
  const std::int64_t width = padded_width(b.n), depth = last_word - first_word;
  for (std::int64_t column = first_column; column < last_column; column += panel_width) {
    const std::int64_t live = width - column < panel_width ? width - column : panel_width;
    const Word<T>* panel = b.data + column * b.words + first_word * live;
    float* out = c + column;
    some_vectors<T, panel_vectors>(live / lanes, rows, a, panel, out, c_stride, depth, accumulate);
  }
}

/// All of C.
template <class T>
void tile_product(std::int64_t rows, Left<T> a, Right<T> b, float* c, std::int64_t c_stride, bool accumulate) {
  tile_product(rows, a, b, 0, b.words, 0, b.n, c, c_stride, accumulate);
}

/// Number of words that pack_* writes for B [k, n].
template <class T>
constexpr std::int64_t packed_words(std::int64_t k, std::int64_t n) {
  return padded_width(n) * words<T>(k);
}

/// Packs B [k, n] from f32 rows (stride in elements); rows beyond k and columns beyond n are zeros.
template <class T>
void pack_rows(const float* from, std::int64_t stride, std::int64_t k, std::int64_t n, Word<T>* to) {
  const std::int64_t width = padded_width(n), depth = words<T>(k);
  for (std::int64_t column = 0; column < width; column += panel_width) {
    const std::int64_t panel = std::min(panel_width, width - column);
    Word<T>* out = to + column * depth;
    for (std::int64_t w = 0; w < depth; ++w, out += panel) {
      const std::int64_t row = w * WordOf<T>::depth;
      const float* first = from + row * stride + column;
      for (std::int64_t i = 0; i < panel; i += lanes) {
        const std::int64_t live = n - column - i;
        const f32v a = live > 0 ? simd::load(first + i, std::min<std::int64_t>(live, lanes)) : f32v{};
        if constexpr (WordOf<T>::depth == 1) {
          simd::store(out + i, a);
        } else {
          const f32v b =
              live > 0 && row + 1 < k ? simd::load(first + stride + i, std::min<std::int64_t>(live, lanes)) : f32v{};
          const simd::u16v2 both = simd::interleave(simd::to_bf16(a, b));
          std::memcpy(out + i, &both, sizeof both);
        }
      }
    }
  }
}

/// Packs the transpose: B [k, n] with B(i, j) = from[j * stride + i], for f32 rows [n, k].
template <class T>
void pack_transposed(const float* from, std::int64_t stride, std::int64_t k, std::int64_t n, Word<T>* to) {
  const std::int64_t width = padded_width(n), depth = words<T>(k);
  for (std::int64_t column = 0; column < width; column += panel_width) {
    const std::int64_t panel = std::min(panel_width, width - column);
    Word<T>* out = to + column * depth;
    for (std::int64_t j = 0; j < panel; ++j) {
      const float* row = from + (column + j) * stride;
      if (column + j >= n) {
        for (std::int64_t w = 0; w < depth; ++w) out[w * panel + j] = 0;
        continue;
      }
      for (std::int64_t w = 0; w < depth; ++w) {
        const std::int64_t i = w * WordOf<T>::depth;
        if constexpr (WordOf<T>::depth == 1) {
          out[w * panel + j] = row[i];
        } else {
          out[w * panel + j] =
              bfloat16(row[i]).bits | static_cast<std::uint32_t>(bfloat16(i + 1 < k ? row[i + 1] : 0.0F).bits) << 16;
        }
      }
    }
  }
}

/// Rows of f32 as the left operand: row-major words, `words(k)` per row.
template <class T>
void pack_left(const float* from, std::int64_t stride, std::int64_t rows, std::int64_t k, Word<T>* to) {
  const std::int64_t depth = words<T>(k);
  for (std::int64_t r = 0; r < rows; ++r) {
    T* out = reinterpret_cast<T*>(to + r * depth);
    simd::for_lanes(
        k, [&](std::int64_t i, std::int64_t m) { simd::store(out + i, simd::load(from + r * stride + i, m), m); });
    if (k % WordOf<T>::depth != 0) out[k] = T(0.0F);
  }
}

}  // namespace lexring::cpu
