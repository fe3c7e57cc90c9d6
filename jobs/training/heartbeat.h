/// Keeps status.json and history.jsonl (jobs/training/run_status.h): the sink that `lexring status` reads.
#pragma once

#include <deque>
#include <filesystem>

#include "jobs/training/metrics.h"
#include "jobs/training/run_status.h"

namespace lexring {

class Heartbeat : public MetricSink {
 public:
  /// Of the run that goes on in `run_directory` now. What the turn before left unsaid, because it was killed, is added
  /// to the history: before MetricsFile, which changes the file that says when it was. `started`: when this turn began.
  Heartbeat(std::filesystem::path run_directory, RunPlace place, double started);
  /// Without finish(), the run has failed.
  ~Heartbeat() override;
  void begin(std::int64_t done, std::int64_t steps) override;
  void write(const StepMetrics& metrics) override;
  void finish() override;

 private:
  void beat();
  void tell(const char* kind, const std::string& text);

  std::filesystem::path directory_;
  RunStatus status_;
  std::deque<double> seconds_, rates_;  ///< of the last steps
  bool useful_is_known_ = true;         ///< not between going back and the next step
  bool complained_ = false;
};

}  // namespace lexring
