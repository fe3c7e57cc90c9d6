/// The figures of a report, and what they share with its tables.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "jobs/evaluation/figure.h"
#include "jobs/evaluation/results.h"
#include "jobs/evaluation/tables.h"

namespace lexring {

/// A point of the training curve.
struct TrainingPoint {
  std::int64_t step = 0;
  double loss = 0;  ///< nats per token
};

/// The training curve of one run.
struct TrainingCurve {
  std::string name;
  std::vector<TrainingPoint> points;
};

/// What a model says of a text's first words tells nothing about length, and would squeeze everything else: the figure
/// begins here.
inline constexpr std::int64_t first_shown_position = 16;

Figure loss_by_length_figure(const EvaluationResults& results);
/// Differences to the base length, with their own error bars; logarithmic on both sides of 0 where they differ in size.
Figure difference_figure(const EvaluationResults& results);
Figure loss_by_position_figure(const EvaluationResults& results);  ///< at each series' longest measured length
Figure training_figure(const std::vector<TrainingCurve>& curves);  ///< at least one point
Figure resolution_figure(const EvaluationResults& results);        ///< needs a resolution

/// The cell of the longest length that could be measured, or null.
const Cell* longest_measured(const Series& series);
/// "256 tokens", or what base lengths are where models differ.
std::string base_text(const EvaluationResults& results);
/// Where every series has a pattern of its own, colours belong to patterns: the same in every report. Else to places.
int colour_of(const EvaluationResults& results, std::size_t series);

}  // namespace lexring
