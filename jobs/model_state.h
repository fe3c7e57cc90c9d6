/// A model and its optimizer as logical tensors of a checkpoint.
///
/// Names: the parameters' own; "optimizer.first_moment.<name>", "optimizer.second_moment.<name>".
#pragma once

#include <vector>

#include "framework/optim/adamw.h"
#include "jobs/options.h"
#include "models/transformer.h"
#include "parallel/checkpoint/checkpoint.h"

namespace lexring {

/// What rank `rank` of `ranks` writes of a model that every rank holds whole: each tensor has one writer, balanced by bytes.
std::vector<LogicalTensor> tensors_to_save(Transformer& model, AdamWOptimizer& optimizer, int rank, int ranks);

/// Fills parameters from a checkpoint and refreshes compute copies. Throws Error naming what is missing or of another shape.
void load_parameters(const CheckpointReader& checkpoint, Transformer& model);
/// Fills the moments and the step count (steps that were not skipped).
void load_optimizer(const CheckpointReader& checkpoint, Transformer& model, AdamWOptimizer& optimizer);

/// Throws UsageError naming the first key of the model in which the two differ.
void require_same_model(const Options& wanted, const Options& stored, const std::string& checkpoint);

}  // namespace lexring
