/// What people watch while a model trains: a progress bar with the loss, and a line for each step that was skipped.
#pragma once

#include <optional>

#include "jobs/launch/progress_bar.h"
#include "jobs/training/metrics.h"

namespace lexring {

class TrainingProgress : public MetricSink {
 public:
  void begin(std::int64_t done, std::int64_t steps) override;
  void write(const StepMetrics& metrics) override;
  void finish() override;

 private:
  std::optional<ProgressBar> bar_;
  std::string note_;  ///< of the last step; empty: there was none
};

}  // namespace lexring
