/// Loss spikes (train.spike): which steps are one.
///
/// A step's score says how many standard deviations its loss, or its gradient norm, lies above those of the accepted
/// steps before it, whichever is more. OLMo-core's SkipStepOptimizer does so with mean and standard deviation, of 128
/// steps, and skips above 6; PaLM (Chowdhery et al. 2022, section 5.1) went back to a checkpoint and past the batches,
/// by hand; ZClip (Kumar et al. 2025) scores the gradient norm, by averages that decay. Here median and median absolute
/// deviation stand for mean and standard deviation, so that a large step in the window does not hide the next one.
///
/// Losses and norms are the same numbers on every rank, and the window is in every checkpoint, so that all ranks, and a
/// run that was resumed, decide alike.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "parallel/checkpoint/checkpoint.h"

namespace lexring {

/// (value - median) / (1.4826 x median of |window - median|): the factor makes it the standard deviation of normal
/// numbers. That counts as a thousandth of the median at least, for a window that hardly varies. `window` is not empty.
double robust_score(std::span<const double> window, double value);

struct SpikeScore {
  double loss = 0, gradient_norm = 0;
  double highest() const { return loss > gradient_norm ? loss : gradient_norm; }
};
/// Nothing until `window` steps were accepted, or where the step has no loss.
std::optional<SpikeScore> spike_score(const SpikeState& state, std::int64_t window, double loss, double gradient_norm);
/// "loss 9.1 is 34.2 standard deviations above the median of the 128 accepted steps before".
std::string describe(const SpikeScore& score, std::int64_t window, double loss, double gradient_norm);

/// A step was accepted: it is the newest of the window. One without a loss is left out.
void accept(SpikeState& state, std::int64_t window, double loss, double gradient_norm);

/// So many spikes in a row end a run that skips them: had they been accepted, their level would be the median now.
constexpr std::int64_t most_spikes_in_a_row(std::int64_t window) { return window / 2; }
/// So many times a run goes back to one checkpoint: each time it meets other data behind it.
inline constexpr std::int64_t most_rollbacks = 3;

}  // namespace lexring
