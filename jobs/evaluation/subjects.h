/// The checkpoints of an evaluation.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "jobs/config/mesh_keys.h"
#include "jobs/evaluation/series.h"
#include "parallel/checkpoint/checkpoint.h"

namespace lexring {

/// What the command line changes of a checkpoint's configuration.
struct Overrides {
  std::optional<PrecisionChoice> precision;
  std::optional<Documents> documents;
  std::optional<EndOfDocument> end_of_document;
  SequenceKeys sequence;
};

/// The checkpoints at these places, each once. Collective.
std::vector<CheckpointReader> open_checkpoints(const std::vector<std::string>& given, Communicator& world);

/// Their names and configurations. Throws where one cannot be measured on `dataset`, or not over the same tokens as the
/// others; without a dataset, where one reads other tokens than bytes.
std::vector<Subject> read_subjects(const std::vector<CheckpointReader>& readers, const Overrides& changes,
                                   const Dataset* dataset);

/// What a report says of a checkpoint, but for its number of parameters.
MeasuredModel describe(const CheckpointReader& reader, const Subject& subject);

}  // namespace lexring
