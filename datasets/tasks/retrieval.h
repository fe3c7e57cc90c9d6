/// Something is said once in a long text, and asked for at its end.
#pragma once

#include "datasets/tasks/task.h"

namespace lexring {

/// Mohtashami & Jaggi 2023: a number within filler, exactly `bytes` long with the answer. The filler before and after
/// the key are each cut from the start of the repeated text, as the authors do. The full stop after the key ends the
/// answer, so that a longer number is wrong.
ScoredText passkey(std::uint64_t seed, std::int64_t bytes, const TaskSettings& settings);
/// After RULER's single needle (Hsieh et al. 2024): a sentence with a number within `settings.haystack`, exactly
/// `bytes` long with the answer. The haystack is read from a drawn place on and again from its start; the needle
/// follows a space, the first from its depth on.
ScoredText needle(std::uint64_t seed, std::int64_t bytes, const TaskSettings& settings);
/// After LongEval (Li et al. 2023): so many lines of distinct names with a number each, of which one is asked for.
ScoredText line_retrieval(std::uint64_t seed, std::int64_t lines, const TaskSettings& settings);

}  // namespace lexring
