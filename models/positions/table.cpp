#include <array>

#include "models/positions/position.h"

namespace lexring {

namespace {

constexpr std::array methods = {
    PositionMethod{.name = "none", .make = make_none, .fractions = true},
    PositionMethod{.name = "sinusoidal", .make = make_sinusoidal, .fractions = true},
    PositionMethod{.name = "learned", .make = make_learned, .bounded = true},
    PositionMethod{.name = "rope", .make = make_rope, .rotary = true, .fractions = true},
    PositionMethod{.name = "xpos", .make = make_xpos, .rotary = true, .fractions = true},
    PositionMethod{.name = "alibi", .make = make_alibi, .fractions = true},
    PositionMethod{.name = "t5", .make = make_t5},
    PositionMethod{.name = "sandwich", .make = make_sandwich},
    PositionMethod{.name = "kerple_log", .make = make_kerple_log},
    PositionMethod{.name = "kerple_power", .make = make_kerple_power},
    PositionMethod{.name = "fire", .make = make_fire, .relative = true},
};

}  // namespace

std::span<const PositionMethod> PositionMethod::table() { return methods; }

std::unique_ptr<PositionEncoding> make_position(const ModelConfig& model, const PositionConfig& position) {
  return position.kind->make(model, position);
}

}  // namespace lexring
