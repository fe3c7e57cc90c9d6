#include "framework/base/random.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

namespace lexring {
namespace {

constexpr std::uint32_t low(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
constexpr std::uint32_t high(std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); }
constexpr std::uint64_t join(std::uint32_t lower, std::uint32_t upper) { return std::uint64_t{upper} << 32 | lower; }
constexpr double unit(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

inline std::array<std::uint32_t, 4> block(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t second = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {high(second) ^ counter[1] ^ key[0], low(second), high(first) ^ counter[3] ^ key[1], low(first)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

inline std::array<std::uint32_t, 4> draw(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return block({low(index), high(index), low(stream), high(stream)}, {low(seed), high(seed)});
}

// What follows computes normals in vectors, to a small error. Loops below are made of what compilers turn into vector
// instructions: no calls, no branches, and conversions of 32-bit integers alone.

/// unit(join(lower, upper)), exactly.
inline double unit_of_halves(std::uint32_t lower, std::uint32_t upper) {
  const auto top = static_cast<std::int32_t>(upper >> 10);
  const auto rest = static_cast<std::int32_t>((upper << 21 | lower >> 11) & 0x7fffffff);
  return static_cast<double>(top) * 0x1p-22 + static_cast<double>(rest) * 0x1p-53;
}

/// sum of coefficients[k] z^k
template <std::size_t count>
double polynomial(const std::array<double, count>& coefficients, double z) {
  double sum = coefficients[count - 1];
  for (std::size_t k = count - 1; k-- > 0;) sum = sum * z + coefficients[k];
  return sum;
}

constexpr std::array artanh_series = {2.0, 2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11, 2.0 / 13, 2.0 / 15};
constexpr auto sine_series = [] {
  std::array<double, 9> series = {1};
  for (std::size_t k = 1; k < series.size(); ++k) {
    const auto n = static_cast<double>(2 * k);
    series[k] = -series[k - 1] / (n * (n + 1));
  }
  return series;
}();

/// log(x) of x in [2^-53, 1], to a relative 4e-14: x = 2^k m with m in [1 / sqrt(2), sqrt(2)), 2 artanh of the rest.
inline double log_of_fraction(double x) {
  constexpr std::uint64_t root_half = 0x3fe6a09e667f3bcd;
  constexpr std::uint32_t positive = 64;  // k + 64 is
  const auto bits = std::bit_cast<std::uint64_t>(x);
  const std::uint64_t exponent = (bits - root_half + (std::uint64_t{positive} << 52)) >> 52;
  const double m = std::bit_cast<double>(bits - ((exponent - positive) << 52));
  const double s = (m - 1) / (m + 1);
  const auto k = static_cast<std::int32_t>(low(exponent) - positive);
  return static_cast<double>(k) * std::numbers::ln2 + s * polynomial(artanh_series, s * s);
}

/// cos(2 pi u) of u in [0, 1), to 5e-14: the sine of an angle in [-pi / 2, pi / 2].
inline double cos_of_turns(double u) {
  const double angle = 2 * std::numbers::pi * (std::abs(u - 0.5) - 0.25);
  return angle * polynomial(sine_series, angle * angle);
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  return block(counter, key);
}

std::uint64_t stream_id(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const auto words = draw(seed, stream, index);
  return join(words[0], words[1]);
}

double random_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const auto words = draw(seed, stream, index);
  const double radius = std::sqrt(
      -2.0 * std::log(1.0 - unit(join(words[0], words[1]))));  // 1 - u lies in (0, 1]: the logarithm is finite
  return radius * std::cos(2.0 * std::numbers::pi * unit(join(words[2], words[3])));
}

void random_normals(std::uint64_t seed, std::uint64_t stream, std::uint64_t first, double deviation,
                    std::span<float> out) {
  constexpr std::size_t at_once = 256;
  // In deviations, for a radius of 1: ten times the errors above, and far more than libm's. A value whose neighbours at
  // this distance do not round to one float is computed as random_normal does.
  constexpr double distance = 0x1p-40;
  std::array<double, at_once> chance, turns;
  std::array<float, at_once> below, above;
  for (std::size_t begin = 0; begin < out.size(); begin += at_once) {
    for (std::size_t i = 0; i < at_once; ++i) {
      const auto words = draw(seed, stream, first + begin + i);
      chance[i] = unit_of_halves(words[0], words[1]);
      turns[i] = unit_of_halves(words[2], words[3]);
    }
    int doubtful = 0;
    for (std::size_t i = 0; i < at_once; ++i) {
      const double radius = deviation * std::sqrt(-2.0 * log_of_fraction(1.0 - chance[i]));
      const double value = radius * cos_of_turns(turns[i]);
      below[i] = static_cast<float>(value - distance * radius);
      above[i] = static_cast<float>(value + distance * radius);
    }
    for (std::size_t i = 0; i < at_once; ++i) doubtful |= (below[i] != above[i]) | (below[i] == 0);  // 0 has two signs
    const std::size_t count = std::min(at_once, out.size() - begin);
    std::copy_n(below.begin(), count, out.begin() + static_cast<std::ptrdiff_t>(begin));
    if (doubtful == 0) continue;
    for (std::size_t i = 0; i < count; ++i) {
      if (below[i] == above[i] && below[i] != 0) continue;
      out[begin + i] = static_cast<float>(deviation * random_normal(seed, stream, first + begin + i));
    }
  }
}

void random_normals(std::uint64_t seed, std::uint64_t stream, std::uint64_t first, double deviation,
                    std::span<double> out) {
  for (double& value : out) value = deviation * random_normal(seed, stream, first++);
}

}  // namespace lexring
