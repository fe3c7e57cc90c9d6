/// What a study found: every method under every pattern at every length, over its seeds, and against the baseline.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "jobs/evaluation/report_figures.h"
#include "jobs/evaluation/statistics.h"
#include "jobs/study/study_file.h"
#include "jobs/study/study_plan.h"

namespace lexring {

/// What a study measures: the loss, or the share of right answers to a task.
struct StudyMeasure {
  std::string name = "loss";
  std::string unit = "nats per token";
  std::string size = "length of the window, tokens";  ///< what a cell's length is
  int digits = 4;                                     ///< behind the point
  bool more_is_better = false;
};

/// One method under one pattern at one length, or at one size of a task's texts.
struct StudyCell {
  std::int64_t length = 0;
  std::string not_measured;    ///< why there is nothing here; empty: measured
  std::vector<double> values;  ///< of each seed that was measured
  Estimate value;              ///< mean over the seeds; its error and `clusters` are of seeds, NaN for one alone
  double bits_per_byte = 0;    ///< mean over the seeds; of a task NaN, as is the speed
  std::optional<Estimate> difference;  ///< to the baseline under the same pattern at this length; none for itself
  double tokens_per_second = 0;        ///< of the evaluation, mean over the seeds
  double peak_mib = 0;                 ///< most bytes in tensors in an evaluation
  double least() const;
  double most() const;
  bool measured() const { return not_measured.empty(); }
};

struct StudySeries {
  std::size_t method = 0;        ///< of Study::methods
  std::string pattern;           ///< "blockwise", with its size where one method has several, and a task's variant
  std::vector<StudyCell> cells;  ///< by length
};

/// What a method costs.
struct StudyCost {
  std::int64_t parameters = 0;
  double tokens_per_second = 0;  ///< median over the steps of all seeds, of a training; 0: not trained
  double memory_mib = 0;         ///< most resident memory of a training
  double seconds = 0;            ///< of training, mean over the seeds
};

struct StudyResults {
  std::vector<std::int64_t> lengths;  ///< ascending
  std::vector<std::string> patterns;
  std::vector<StudySeries> series;                 ///< by pattern, then by method
  std::vector<StudyCost> costs;                    ///< by method
  std::vector<std::vector<TrainingCurve>> curves;  ///< by method, then by seed
  StudyMeasure measure;
  std::int64_t train_length = 0;  ///< 0: methods differ, or sizes are of a task
  std::string data, scored;       ///< what was read, and how much of it: "262,144 tokens"
  bool landmarks = false;         ///< some method reads landmarks among its tokens
  std::string machine, device, version;
  std::int64_t evaluations = 0;  ///< that were found

  /// Whether `a` is the better one.
  bool better(double a, double b) const { return measure.more_is_better ? a > b : a < b; }
};

/// Reads what evaluations and trainings wrote; what is not there yet is left out.
StudyResults read_results(const Study& study, const StudyDirectory& directory);

/// The difference of two methods over the same seeds and texts, per token. Both sums are by seed, then by cluster.
/// Seeds and texts are drawn independently of each other, so the variance of the mean is that of the seeds' differences
/// over their number, plus that over the texts of the difference averaged over the seeds (which counts what remains of
/// both once too often: the error is rather too large). `clusters` - 1 are its degrees of freedom by Welch and
/// Satterthwaite. One seed alone: the error of the texts.
Estimate difference_over_seeds(const std::vector<SegmentSums>& method, const std::vector<SegmentSums>& baseline);

/// Mean and standard error of values that were drawn independently.
Estimate mean_of(const std::vector<double>& values);

}  // namespace lexring
