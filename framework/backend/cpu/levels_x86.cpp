#include "framework/backend/cpu/level.h"

namespace lexring::cpu {

std::unique_ptr<Backend> make_baseline_backend();
std::unique_ptr<Backend> make_avx2_backend();
std::unique_ptr<Backend> make_avx512_backend();
std::unique_ptr<Backend> make_avx512_bf16_backend();

namespace {

bool has_v2() {
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("popcnt");
}
bool has_v3() {
  return has_v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
}
bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_v4_bf16() { return has_v4() && __builtin_cpu_supports("avx512bf16"); }

constexpr Level levels[] = {{CpuLevel::baseline, has_v2, make_baseline_backend},
                            {CpuLevel::avx2, has_v3, make_avx2_backend},
                            {CpuLevel::avx512, has_v4, make_avx512_backend},
                            {CpuLevel::avx512_bf16, has_v4_bf16, make_avx512_bf16_backend}};

}  // namespace

std::span<const Level> built_levels() { return levels; }

}  // namespace lexring::cpu
