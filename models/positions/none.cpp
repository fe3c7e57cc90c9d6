/// No positions at all (NoPE; Haviv et al. 2022): a causal mask alone lets a model count.
#include "models/positions/position.h"

namespace lexring {

namespace {

std::unique_ptr<PositionEncoding> make(const ModelConfig&, const PositionConfig&) {
  return std::make_unique<PositionEncoding>();
}

}  // namespace

constinit const PositionMethod position_methods::none = {
    .name = "none",
    .make = make,
    .formula = "nothing: the causal mask alone lets a model count",
    .source =
        "Haviv et al. 2022, Transformer Language Models without Positional Encodings Still Learn Positional "
        "Information",
    .fractions = true,
};

}  // namespace lexring
