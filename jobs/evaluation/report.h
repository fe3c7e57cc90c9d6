/// One self-contained HTML page of an evaluation: headline, table, figures. No network, no fonts, no scripts; light and
/// dark; prints.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "jobs/evaluation/report_figures.h"
#include "jobs/evaluation/results.h"

namespace lexring {

/// Losses from a run's metrics.jsonl up to a step, without skipped steps; empty where there is no such file. Lines that
/// cannot be read are passed over: an evaluation does not fail for a log.
std::vector<TrainingPoint> read_training_curve(const std::filesystem::path& metrics, std::int64_t last_step);

std::string to_html(const EvaluationResults& results, const std::vector<TrainingCurve>& training);

/// The main figure alone, with its own background, so that it reads on light and dark pages.
std::string loss_by_length_svg(const EvaluationResults& results);

/// What the numbers say, at most one sentence per kind of outcome: "Worse at 16x than at 1x: causal, by 0.9001 ± 0.0002
/// nats." What counts as a difference is decided by its error alone (verdict), however small it is.
struct Headline {
  std::string outcome;  ///< "worse", "better", "unclear", "absent"
  std::string text;
};
std::vector<Headline> headlines(const EvaluationResults& results);

}  // namespace lexring
