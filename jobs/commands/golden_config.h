/// The configuration of a golden case, which the reference writes as JSON: its fields are the keys of sections model,
/// position and attention (jobs/config/model_keys.h).
#pragma once

#include <string>

#include "models/config.h"

namespace lexring {

/// `of`: the case, for errors. Throws UsageError that names the field where a value is not one of its key's, or where a
/// field without a key asks for something: computed without it, the case would fail on its numbers. Throws Error for
/// what is no such configuration.
ModelConfig golden_config(const std::string& json, const std::string& of);

}  // namespace lexring
