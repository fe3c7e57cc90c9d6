/// A model's weights as logical tensors of a checkpoint, and whether they are those of the model that is wanted.
#pragma once

#include <functional>
#include <string>

#include "jobs/config/options.h"
#include "models/transformer.h"
#include "parallel/checkpoint/checkpoint.h"

namespace lexring {

/// Where tensors come from: fills `part.data`, or throws Error naming what is missing or of another shape.
using TensorSource = std::function<void(const LogicalTensor& part)>;

/// Fills parameters by their names, and their compute copies.
void load_parameters(const TensorSource& source, Transformer& model);
void load_parameters(const CheckpointReader& checkpoint, Transformer& model);

/// Throws UsageError, naming the key to blame, unless the weights of a checkpoint are those of the wanted model.
/// Positions and patterns without weights may differ, and how long sequences are.
void require_fitting_weights(const Options& wanted, const Options& stored, const CheckpointReader& checkpoint);
/// Throws UsageError naming the first key of the model in which the two differ.
void require_same_model(const Options& wanted, const Options& stored, const std::string& checkpoint);

}  // namespace lexring
