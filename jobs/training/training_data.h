/// The data that a training reads, and whether they go with its configuration.
#pragma once

#include <optional>

#include "datasets/dataset.h"
#include "jobs/config/options.h"
#include "parallel/comm/communicator.h"
#include "parallel/mesh.h"

namespace lexring {

struct TrainingData {
  Dataset train;
  std::optional<Dataset> valid;
};

/// Opens data.train and data.valid, takes the vocabulary from them into `options`, and checks all of it, the batch
/// against the mesh too. Throws UsageError; Error where ranks see other data or keys. Collective.
TrainingData open_training_data(Options& options, const Mesh& mesh, Communicator& world);

}  // namespace lexring
