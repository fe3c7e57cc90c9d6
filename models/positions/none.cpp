/// No positions at all (NoPE; Haviv et al. 2022): a causal mask alone lets a model count.
#include "models/positions/position.h"

namespace lexring {

std::unique_ptr<PositionEncoding> make_none(const ModelConfig&, const PositionConfig&) {
  return std::make_unique<PositionEncoding>();
}

}  // namespace lexring
