/// The CPU backend and the levels of vector instructions that its kernels are compiled for. A binary holds all levels
/// of its architecture, so it runs on every machine; which one computes is chosen when the backend is made.
#pragma once

#include <memory>
#include <vector>

#include "framework/backend/backend.h"
#include "framework/base/words.h"

namespace lexring {

/// Lowest first. A processor that has one has those below it.
enum class CpuLevel {
  baseline,    ///< x86-64-v2 (SSE 4.2), or what every processor of another architecture has (NEON on aarch64)
  avx2,        ///< x86-64-v3: AVX2 and FMA
  avx512,      ///< x86-64-v4
  avx512_bf16  ///< x86-64-v4 with dot products of bf16
};

constexpr auto words(CpuLevel) {
  return std::to_array<Word<CpuLevel>>({{CpuLevel::baseline, "baseline"},
                                        {CpuLevel::avx2, "avx2"},
                                        {CpuLevel::avx512, "avx512"},
                                        {CpuLevel::avx512_bf16, "avx512_bf16"}});
}

/// Those that this binary holds and this processor has, lowest first. Throws UsageError where there is none.
std::vector<CpuLevel> cpu_levels();

/// oneDNN's matrix products and our kernels at `level`. oneDNN is held to it too, which can be done once in a process,
/// before its first product. Throws UsageError where this machine has no such level, Error where oneDNN computes at
/// another already.
std::unique_ptr<Backend> make_cpu_backend(CpuLevel level);

}  // namespace lexring
