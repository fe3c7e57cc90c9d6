#include <algorithm>
#include <array>

#include <fmt/ranges.h>

#include "models/positions/position.h"

namespace lexring {

namespace {

struct Entry {
  const char* name;
  std::unique_ptr<PositionEncoding> (*make)(const ModelConfig&, const PositionConfig&);
  bool rotary = false;
};

constexpr std::array table = {
    Entry{"none", make_none},       Entry{"sinusoidal", make_sinusoidal}, Entry{"learned", make_learned},
    Entry{"rope", make_rope, true}, Entry{"xpos", make_xpos, true},       Entry{"alibi", make_alibi},
    Entry{"t5", make_t5},
};
constexpr std::array later = {"sandwich", "kerple_log", "kerple_power"};

}  // namespace

std::vector<std::string> position_kinds() {
  std::vector<std::string> names;
  for (const Entry& entry : table) names.emplace_back(entry.name);
  return names;
}

std::vector<std::string> rotary_position_kinds() {
  std::vector<std::string> names;
  for (const Entry& entry : table) {
    if (entry.rotary) names.emplace_back(entry.name);
  }
  return names;
}

bool is_rotary(const PositionConfig& position) {
  return std::any_of(table.begin(), table.end(),
                     [&](const Entry& entry) { return entry.rotary && position.kind == entry.name; });
}

std::unique_ptr<PositionEncoding> make_position(const ModelConfig& model, const PositionConfig& position) {
  const std::string& kind = position.kind;
  for (const Entry& entry : table) {
    if (kind == entry.name) return entry.make(model, position);
  }
  if (std::find(later.begin(), later.end(), kind) != later.end()) {
    throw UnsupportedError(
        fmt::format("position.kind = {} is not supported yet; choose {}", kind, fmt::join(position_kinds(), ", ")));
  }
  throw UsageError(fmt::format("position.kind = {} is not known; choose {}", kind, fmt::join(position_kinds(), ", ")));
}

}  // namespace lexring
