/// The numbers of training steps, and where they go.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lexring {

struct StepMetrics {
  std::int64_t step = 0;     ///< counts from 1
  double loss = 0;           ///< nats per counted target, of the whole batch; NaN where there is none
  double gradient_norm = 0;  ///< before clipping
  double lr = 0;
  double epochs = 0;                                ///< passes over the training data so far, this step included
  double tokens_per_second = 0;                     ///< of all ranks
  double flops = 0;                                 ///< GFLOP/s of all ranks; convention: Transformer::step_flops
  double memory = 0;                                ///< MiB, most memory so far: resident, or of a GPU held by tensors
  double seconds = 0;                               ///< of this step
  bool skipped = false;                             ///< not finite, or a spike; nothing was changed
  std::optional<double> valid_loss = std::nullopt;  ///< where the step was followed by a validation
  double valid_seconds = 0;                         ///< of that validation
  std::vector<std::string> incidents = {};          ///< what people should know of this step
  std::optional<std::string> computed_twice = std::nullopt;  ///< transient or persistent; where it was
  std::optional<double> spike_score = std::nullopt;          ///< jobs/training/spike.h; where spikes are looked for
};

/// One place that the numbers go to. A run has a list of them, on rank 0 only.
class MetricSink {
 public:
  virtual ~MetricSink() = default;
  /// `done` of `steps` (0: not known yet) are done. Before the first step, again when train.minutes has chosen how many
  /// there are, and when the run went back to a checkpoint: what was written of later steps holds no more.
  virtual void begin(std::int64_t done, std::int64_t steps) = 0;
  virtual void write(const StepMetrics& metrics) = 0;
  /// The run has ended, and its last checkpoint is whole.
  virtual void finish() = 0;
};
using MetricSinks = std::vector<std::unique_ptr<MetricSink>>;

/// metrics.jsonl: one JSON object per training step.
class MetricsFile : public MetricSink {
 public:
  /// Appends to `path`, after cutting it back to the lines of steps up to `last_step` (0: starts anew).
  MetricsFile(std::filesystem::path path, std::int64_t last_step);
  void begin(std::int64_t done, std::int64_t steps) override;
  /// Lines that a full disk does not take are kept, which is said once, and go first when it takes some again.
  void write(const StepMetrics& metrics) override;
  /// Throws Error when lines are left.
  void finish() override;

 private:
  bool write_held();  ///< false: some are left, for errno's reason

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
  std::string held_;
  bool failing_ = false;
};

}  // namespace lexring
