#include "framework/attention/parts.h"

#include "framework/base/error.h"

namespace lexring {

SharedRows make_queries(const TokenTable& tokens, std::vector<std::int64_t> position, RotaryTable rotary,
                        Visibility visible) {
  AttentionRows rows = *make_rows(tokens, std::move(rotary), std::move(visible));
  require(position.size() == tokens.position.size(), "{} rows ask from {} positions", tokens.position.size(),
          position.size());
  for (const TokenTable::Sequence& s : tokens.sequences) {
    for (auto n = static_cast<std::size_t>(s.first); n < static_cast<std::size_t>(s.first + s.count); ++n) {
      require(position[n] >= (n == static_cast<std::size_t>(s.first) ? 0 : position[n - 1]),
              "row {} asks from position {}; positions must not fall", n, position[n]);
    }
  }
  rows.tokens.position = std::move(position);
  return std::make_shared<const AttentionRows>(std::move(rows));
}

std::vector<PartPlan> both_sides(const AttentionForm& form, const TokenTable& tokens, const Visibility& visible) {
  Visibility after;
  for (const std::int64_t position : tokens.position) after.first.push_back(position + 1);
  after.end = visible.end;
  return {{form, {visible.first, visible.sink_begin, visible.sink_end, {}}, {}},
          {mirrored(form), std::move(after), {}, true}};
}

}  // namespace lexring
