/// All parameters of a model, or of a range of its layers: one table, which initialisation, FLOPs, sections of
/// gradients, cuts over tp, checkpoints and AdamW read.
#pragma once

#include <vector>

#include "models/layer_range.h"
#include "models/parameter_row.h"

namespace lexring {

/// In the reference's order (lex_reference.py: parameter_shapes). Sections: 0 is what follows the range's layers, then
/// the last layer, ..., the first, then what precedes them, with all parameters of position methods; a tied embedding
/// is there, for it is in use to the end. Position methods add their rows (PositionEncoding::parameters). Throws
/// UsageError where layers disagree about one. With adapters only they and AdapterConfig::trainable are trainable.
///
/// Several ranges have a tied embedding (those with the embedding and with the head) and the parameters of a position
/// method (those whose layers use it): each computes a part of the gradient, and the sum is the whole model's.
std::vector<ParameterRow> parameter_plan(const ModelConfig& config, const LayerRange& range);
/// Of all layers.
std::vector<ParameterRow> parameter_plan(const ModelConfig& config);

/// Whether a linear layer, by its name ("layers.0.attention.query"), has a low-rank addition.
bool has_adapter(const AdapterConfig& adapter, const std::string& layer);
/// "embedding, norm" -> {"embedding", "norm"}.
std::vector<std::string> parts_of_names(const std::string& text);

/// Marks as not trainable what `frozen` names: whole parts of names between dots, one after another, anywhere ("norm"
/// is all norms but sub_norm, "layers.0" the first layer, "attention.query" the queries of all layers).
void freeze(std::vector<ParameterRow>& plan, const std::vector<std::string>& frozen);
/// Throws UsageError where one of `frozen` names nothing in the whole model, or nothing is left to train.
void check_frozen(const ModelConfig& config, const std::vector<std::string>& frozen);

}  // namespace lexring
