#include <algorithm>
#include <array>

#include "models/positions/position.h"

namespace lexring {

std::span<const PositionMethod> PositionMethod::table() {
  using namespace position_methods;
  static const std::array methods = {none, sinusoidal, learned,    rope,         xpos, alibi,
                                     t5,   sandwich,   kerple_log, kerple_power, fire};
  return methods;
}

std::unique_ptr<PositionEncoding> make_position(const ModelConfig& model, const PositionConfig& position) {
  return position.kind->make(model, position);
}

PositionSettings::PositionSettings() {
  for (const PositionMethod& method : PositionMethod::table()) {
    for (const PositionSetting& setting : method.settings)
      values_.push_back({setting.name, setting.value, static_cast<std::int64_t>(setting.value)});
  }
}

std::size_t PositionSettings::index(std::string_view name) const {
  const auto at = std::find_if(values_.begin(), values_.end(), [&](const Value& v) { return v.name == name; });
  require(at != values_.end(), "no position method has a setting {}", name);
  return static_cast<std::size_t>(at - values_.begin());
}

}  // namespace lexring
