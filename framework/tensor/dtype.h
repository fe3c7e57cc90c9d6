/// Element types of tensors.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lexring {

/// f64 exists in the reference backend only.
enum class Dtype : std::uint8_t { f32, bf16, i32, f64 };

constexpr std::size_t size_of(Dtype dtype) { return dtype == Dtype::bf16 ? 2 : dtype == Dtype::f64 ? 8 : 4; }

constexpr std::string_view name_of(Dtype dtype) {
  constexpr std::string_view names[] = {"f32", "bf16", "i32", "f64"};
  return names[static_cast<int>(dtype)];
}

/// Of parameters, their gradients and all statistics, where activations are of dtype `working`.
constexpr Dtype master_dtype(Dtype working) { return working == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

/// The upper half of an f32: 8 exponent bits, 7 of significand. Conversion rounds to nearest even and keeps NaN a NaN.
struct bfloat16 {
  std::uint16_t bits;

  bfloat16() = default;
  constexpr explicit bfloat16(float value) : bits(round(std::bit_cast<std::uint32_t>(value))) {}
  // NOLINTNEXTLINE(google-explicit-constructor): it loses nothing
  constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

 private:
  static constexpr std::uint16_t round(std::uint32_t u) {
    if ((u & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>((u >> 16) | 0x40U);
    return static_cast<std::uint16_t>((u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
  }
};

template <class T>
inline constexpr Dtype dtype_of = [] {
  static_assert(sizeof(T) == 0, "no tensor holds this type");
  return Dtype::f32;
}();
template <>
inline constexpr Dtype dtype_of<float> = Dtype::f32;
template <>
inline constexpr Dtype dtype_of<bfloat16> = Dtype::bf16;
template <>
inline constexpr Dtype dtype_of<std::int32_t> = Dtype::i32;
template <>
inline constexpr Dtype dtype_of<double> = Dtype::f64;

}  // namespace lexring
