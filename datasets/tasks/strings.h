/// Short rules over long strings.
#pragma once

#include "datasets/tasks/task.h"

namespace lexring {

/// FFL(2 pairs, p) of Liu et al. 2023: instructions w, r, i, each with a bit; the first is w, the last r, the others i
/// with probability `ignore` and else w or r alike. Bits are uniform, a read repeats the last written one. Scored: the
/// bits of the reads. The authors train at 0.8 and test at 0.98 (sparse) and 0.1 (dense).
ScoredText flip_flop(std::uint64_t seed, std::int64_t pairs, const TaskSettings& settings);
/// FIRST (Chiang & Cholak 2022): the first bit. Their encoder reads the answer at a leading $; a causal model at the
/// end.
ScoredText first_bit(std::uint64_t seed, std::int64_t bits, const TaskSettings& settings);
/// PARITY (Chiang & Cholak 2022): the number of ones modulo 2, after =.
ScoredText parity(std::uint64_t seed, std::int64_t bits, const TaskSettings& settings);
ScoredText copy_text(std::uint64_t seed, std::int64_t letters, const TaskSettings& settings);
ScoredText reverse_text(std::uint64_t seed, std::int64_t letters, const TaskSettings& settings);
/// Two numbers of so many decimal digits, leading zeros allowed; the sum has one digit more.
ScoredText addition(std::uint64_t seed, std::int64_t digits, const TaskSettings& settings);

}  // namespace lexring
