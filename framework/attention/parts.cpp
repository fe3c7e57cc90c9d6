#include "framework/attention/parts.h"

namespace lexring {

std::vector<PartPlan> both_sides(const AttentionForm& form, const TokenTable& tokens, const Visibility& visible) {
  Visibility after;
  for (const std::int64_t position : tokens.position) after.first.push_back(position + 1);
  after.end = visible.end;
  return {{form, {visible.first, visible.sink_begin, visible.sink_end, {}}, {}},
          {mirrored(form), std::move(after), {}, true}};
}

}  // namespace lexring
