/// A model's weights from a source of tensors, and whether they are those of the model that is wanted.
#pragma once

#include <string>

#include "jobs/config/options.h"
#include "models/transformer.h"
#include "parallel/checkpoint/tensor_source.h"

namespace lexring {

/// What weights may be without: adapters then keep their initial values.
enum class Missing { nothing, adapters };
bool may_be_missing(Missing what, const TensorSource& source, const Transformer& model, const Parameter& parameter);
/// Fills parameters by their names, and their compute copies. Throws Error naming what is missing or of another shape.
void load_parameters(const TensorSource& source, Transformer& model, Missing missing = Missing::nothing);

/// Throws UsageError, naming the key to blame, unless these weights are those of the wanted model.
/// Positions and patterns without weights may differ, and how long sequences are.
void require_fitting_weights(const Options& wanted, const Options& stored, const TensorSource& weights);
/// Throws UsageError naming the first key of the model, or of what is trained of it, in which the two differ.
void require_same_model(const Options& wanted, const Options& stored, const std::string& checkpoint);

}  // namespace lexring
