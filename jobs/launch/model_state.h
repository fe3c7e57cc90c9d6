/// A model and its optimizer as logical tensors of a checkpoint.
///
/// Names: the parameters' own; "optimizer.first_moment.<name>", "optimizer.second_moment.<name>".
#pragma once

#include <vector>

#include "jobs/config/options.h"
#include "models/transformer.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/data/data_parallel.h"

namespace lexring {

/// What this rank is to write: the rows it owns of every parameter, and their moments. No part twice over all ranks.
std::vector<LogicalTensor> tensors_to_save(DataParallel& data);

/// Fills parameters from a checkpoint, and their compute copies. Throws Error naming what is missing or of another
/// shape.
void load_parameters(const CheckpointReader& checkpoint, Transformer& model);
/// Fills master values that only the optimizer holds.
void load_masters(const CheckpointReader& checkpoint, DataParallel& data);
/// Fills master values, moments, and the step count (steps that were not skipped).
void load_optimizer(const CheckpointReader& checkpoint, DataParallel& data);

/// Throws UsageError, naming the key to blame, unless the weights of a checkpoint are those of the wanted model.
/// Positions and patterns without weights may differ, and how long sequences are.
void require_fitting_weights(const Options& wanted, const Options& stored, const CheckpointReader& checkpoint);
/// Throws UsageError naming the first key of the model in which the two differ.
void require_same_model(const Options& wanted, const Options& stored, const std::string& checkpoint);

}  // namespace lexring
