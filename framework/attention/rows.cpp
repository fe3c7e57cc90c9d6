#include "framework/attention/rows.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "framework/base/error.h"

namespace lexring {

TokenTable dense_tokens(std::int64_t count, std::int64_t length) {
  require(count >= 0 && length >= 0, "there cannot be {} sequences of {} tokens", count, length);
  TokenTable tokens;
  tokens.position.resize(static_cast<std::size_t>(count * length));
  for (std::int64_t s = 0; s < count; ++s) {
    tokens.sequences.push_back({s, s * length, length});
    std::iota(tokens.position.begin() + s * length, tokens.position.begin() + (s + 1) * length, std::int64_t{0});
  }
  return tokens;
}

void check(const TokenTable& tokens) {
  require(tokens.coordinate.empty() || tokens.coordinate.size() == tokens.position.size(),
          "{} coordinates are given for {} tokens; give one each, or none", tokens.coordinate.size(),
          tokens.position.size());
  std::int64_t covered = 0, last_id = 0;
  for (const auto& s : tokens.sequences) {
    require(s.first == covered && s.count >= 0, "the sequence of id {} has rows [{}, {}) where row {} comes next", s.id,
            s.first, s.first + s.count, covered);
    require(&s == tokens.sequences.data() || s.id > last_id,
            "the sequence of id {} comes after that of id {}; ids must ascend", s.id, last_id);
    require(s.first + s.count <= tokens.rows(), "the sequence of id {} ends at row {} of {}", s.id, s.first + s.count,
            tokens.rows());
    for (std::int64_t row = s.first; row < s.first + s.count; ++row) {
      const auto n = static_cast<std::size_t>(row);
      require(tokens.position[n] >= 0, "row {} has position {}; positions count from 0", row, tokens.position[n]);
      require(row == s.first || tokens.position[n] > tokens.position[n - 1],
              "row {} of the sequence of id {} has position {} after position {}; positions must increase", row, s.id,
              tokens.position[n], row == s.first ? 0 : tokens.position[n - 1]);
      if (tokens.coordinate.empty()) continue;
      require(
          std::isfinite(tokens.coordinate[n]) && (row == s.first || tokens.coordinate[n] >= tokens.coordinate[n - 1]),
          "row {} of the sequence of id {} has coordinate {}; coordinates are finite and must not fall", row, s.id,
          tokens.coordinate[n]);
    }
    covered += s.count;
    last_id = s.id;
  }
  require(covered == tokens.rows(), "sequences cover {} of {} rows", covered, tokens.rows());
}

SharedRows make_rows(TokenTable tokens, RotaryTable rotary, Visibility visible) {
  check(tokens);
  const auto rows = tokens.position.size();
  require(rotary.cosine.defined() == rotary.sine.defined() &&
              (!rotary.cosine.defined() ||
               (rotary.cosine.rows() == tokens.rows() && rotary.sine.shape() == rotary.cosine.shape() &&
                rotary.sine.dtype() == rotary.cosine.dtype())),
          "the rotary tables of {} rows are {} and {}", rows,
          rotary.cosine.defined() ? to_string(rotary.cosine.shape()) : "undefined",
          rotary.sine.defined() ? to_string(rotary.sine.shape()) : "undefined");
  require(visible.first.empty() || visible.first.size() == rows, "the visibility has {} rows for {} queries",
          visible.first.size(), rows);
  require(visible.sink_begin.size() == visible.sink_end.size() &&
              (visible.sink_begin.empty() || visible.sink_begin.size() == visible.first.size()),
          "the visibility has {} and {} ends of second intervals for {} queries; give one each, or none",
          visible.sink_begin.size(), visible.sink_end.size(), visible.first.size());
  require(visible.end.empty() || visible.end.size() == visible.first.size(),
          "the visibility has {} ends for {} queries; give one each, or none", visible.end.size(),
          visible.first.size());
  return std::make_shared<const AttentionRows>(AttentionRows{std::move(tokens), std::move(rotary), std::move(visible)});
}

}  // namespace lexring
