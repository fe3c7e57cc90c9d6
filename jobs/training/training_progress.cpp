#include "jobs/training/training_progress.h"

#include <cmath>

#include <fmt/format.h>

#include "framework/base/console.h"

namespace lexring {
namespace {

std::string describe(const StepMetrics& metrics) {
  const auto loss = [&](double value) {
    return std::isnan(value) && !metrics.skipped ? "of no targets" : fmt::format("{:.4f}", value);
  };
  std::string text = fmt::format("loss {}  epoch {:.2f}  {} tokens/s", loss(metrics.loss), metrics.epochs,
                                 format_count(metrics.tokens_per_second));
  if (metrics.valid_loss) text += fmt::format("  validation loss {}", loss(*metrics.valid_loss));
  return text;
}

}  // namespace

void TrainingProgress::begin(std::int64_t done, std::int64_t steps) {
  bar_.emplace("training", "step", static_cast<std::uint64_t>(steps), static_cast<std::uint64_t>(done));
}

void TrainingProgress::write(const StepMetrics& metrics) {
  if (metrics.skipped) {
    say("step {} skipped on all ranks: loss {}, gradient norm {}\n", metrics.step, metrics.loss, metrics.gradient_norm);
  }
  for (const std::string& incident : metrics.incidents) say("{}\n", incident);
  note_ = describe(metrics);
  bar_->update(static_cast<std::uint64_t>(metrics.step), note_);
}

void TrainingProgress::finish() {
  if (!note_.empty()) bar_->finish(note_);
}

}  // namespace lexring
