/// All parameters of a model: one table, which initialisation, FLOPs, sections of gradients, cuts over tp, checkpoints
/// and AdamW read.
#pragma once

#include <vector>

#include "models/config.h"
#include "models/parameter_row.h"

namespace lexring {

/// In the reference's order (lex_reference.py: parameter_shapes). Sections: 0 is what follows the layers, then the last
/// layer, ..., the first, then what precedes them, with all parameters of position methods; a tied embedding is there,
/// for it is in use to the end. Position methods add their rows (PositionEncoding::parameters). Throws UsageError where
/// layers disagree about one.
std::vector<ParameterRow> parameter_plan(const ModelConfig& config);

}  // namespace lexring
