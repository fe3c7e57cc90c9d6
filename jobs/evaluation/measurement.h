/// The measurement of one checkpoint: its model on its mesh, all its series at all lengths, and its attention
/// resolution.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "jobs/config/mesh_keys.h"
#include "jobs/evaluation/kept_parts.h"
#include "jobs/evaluation/series.h"
#include "jobs/launch/devices.h"
#include "jobs/launch/mesh_setup.h"
#include "jobs/launch/progress_bar.h"
#include "parallel/checkpoint/checkpoint.h"

namespace lexring {

struct MeasurementKeys {
  MeshKeys mesh;
  SequenceKeys sequence;
  std::int64_t chunk = 4096;             ///< tokens of one forward pass
  std::vector<std::int64_t> resolution;  ///< lengths at which attention resolution is measured
};

/// The cell's name among the kept parts of its evaluation.
std::string part_name(std::size_t series, std::int64_t length);

/// One bar over all cells of all series.
class EvaluationProgress {
 public:
  /// What was there already it says, and does not count for the rate.
  EvaluationProgress(const EvaluationResults& results, const KeptParts& parts, bool shown);
  void cell_done() { ++cells_; }
  /// So many tokens of the present cell are done.
  void update(std::int64_t tokens, const std::string& note) {
    bar_.update(static_cast<std::uint64_t>(cells_ * tokens_ + tokens), note);
  }
  void finish() { bar_.finish(); }

 private:
  std::int64_t tokens_, cells_ = 0;
  ProgressBar bar_;
};

/// Why a model cannot read windows of `length`; empty: it can.
std::string why_not_measured(const ModelConfig& model, std::int64_t length);

/// Fills the cells of the series of model `index`, its resolutions and its number of parameters. Collective; throws
/// EvaluationStopped.
void measure(EvaluationResults& results, std::size_t index, const Subject& subject, const CheckpointReader& reader,
             const Dataset& dataset, const MeasurementKeys& keys, const RunDevice& device, KeptParts& parts,
             EvaluationProgress& progress);

}  // namespace lexring
