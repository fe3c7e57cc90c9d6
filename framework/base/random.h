/// Random numbers without state: functions of (seed, stream, index), so that no draw depends on the mesh, on threads or
/// on what was drawn before.
///
/// Philox-4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"): the key is the
/// seed, the counter is (index, stream). `index` is the *global* index of an element or sample, `stream` says what is
/// drawn ("layers.0.ffn.up.weight", "batches"). Thread safe. Bits are the same on every machine; normals may differ in
/// the last place where libm does.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace lexring {

/// One Philox-4x32-10 block: 128 bits for a counter and a key.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

/// The number of a stream's name; stable over versions and machines (FNV-1a, 64 bits).
std::uint64_t stream_id(std::string_view name);

/// 64 uniform bits.
std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);
/// Standard normal (Box and Muller 1958, the cosine branch, in f64). Finite, at most 8.6 in size.
double random_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);
/// out[i] = deviation * random_normal(seed, stream, first + i), in f32 rounded once: the same bits in a third of the
/// time.
void random_normals(std::uint64_t seed, std::uint64_t stream, std::uint64_t first, double deviation,
                    std::span<float> out);
void random_normals(std::uint64_t seed, std::uint64_t stream, std::uint64_t first, double deviation,
                    std::span<double> out);

}  // namespace lexring
