/// metrics.jsonl: one JSON object per training step.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

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
  bool skipped = false;                             ///< loss or gradient was not finite; nothing was changed
  std::optional<double> valid_loss = std::nullopt;  ///< where the step was followed by a validation
};

class MetricsWriter {
 public:
  /// Appends to `path`, after cutting it back to the lines of steps up to `last_step` (0: starts anew).
  MetricsWriter(std::filesystem::path path, std::int64_t last_step);
  /// Throws Error when the line cannot be written.
  void write(const StepMetrics& metrics);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace lexring
