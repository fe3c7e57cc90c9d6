/// Models whose layers differ (ModelConfig::override), asked and changed as a whole.
#pragma once

#include <cstdint>

#include "models/config.h"

namespace lexring {

/// First tokens of each document that stay visible in some layer: all layers with sinks have as many
/// (models/config_check.h); 0: in none.
std::int64_t sinks_of(const ModelConfig& config);
/// Of the layers that have landmarks, which all have the same (models/config_check.h): their id, -1 where none has; and
/// after how many tokens each stands, 0 where none has.
std::int64_t landmark_of(const ModelConfig& config);
std::int64_t landmark_every_of(const ModelConfig& config);
/// Gives landmarks the last id of the vocabulary, behind those of the data. Throws UsageError where they have another.
void use_last_id_for_landmarks(ModelConfig& config);
/// The attention of a layer that sees all, if there is one, else the model's.
AttentionConfig farthest_attention(const ModelConfig& config);

/// Another position method, or attention, for the model and the layers that have the model's.
void use_position(ModelConfig& config, const PositionConfig& position);
void use_attention(ModelConfig& config, const AttentionConfig& attention);

}  // namespace lexring
