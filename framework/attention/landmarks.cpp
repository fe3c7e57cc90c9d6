#include "framework/attention/landmarks.h"

#include <algorithm>

#include "framework/base/error.h"

namespace lexring {

namespace {

/// Queries that see keys at positions [first, last) of `seen`(row).
template <class Seen>
SharedRows rows_that_see(const AttentionRows& own, std::size_t rows, const Seen& seen) {
  Visibility visible;
  for (std::size_t n = 0; n < rows; ++n) {
    const auto [first, end] = seen(n);
    visible.first.push_back(first);
    visible.end.push_back(end);
  }
  return make_rows(own.tokens, own.rotary, std::move(visible));
}

using Interval = std::pair<std::int64_t, std::int64_t>;

}  // namespace

std::int64_t LandmarkRows::rounds() const {
  std::int64_t most = 0;
  for (const Before& of_row : before) most = std::max(most, of_row.count);
  return most;
}

SharedRows LandmarkRows::block(std::int64_t round) const {
  return rows_that_see(*own, before.size(), [&](std::size_t n) {
    const Before& b = before[n];
    if (round >= b.count) return Interval{0, 0};
    return Interval{round == 0 ? b.start : b.landmarks[round - 1] + 1, b.landmarks[round]};
  });
}

SharedRows LandmarkRows::landmark(std::int64_t round) const {
  return rows_that_see(*own, before.size(), [&](std::size_t n) {
    const Before& b = before[n];
    return round < b.count ? Interval{b.landmarks[round], b.landmarks[round] + 1} : Interval{0, 0};
  });
}

LandmarkRows make_landmark_rows(const TokenTable& queries, const RotaryTable& rotary,
                                const std::vector<std::int64_t>& document_start,
                                std::shared_ptr<const LandmarkPositions> positions) {
  require(document_start.size() == queries.position.size(), "{} documents' beginnings are given for {} tokens",
          document_start.size(), queries.position.size());
  static const std::vector<std::int64_t> none;
  LandmarkRows rows;
  rows.positions = std::move(positions);
  Visibility own;
  for (const TokenTable::Sequence& sequence : queries.sequences) {
    const auto found = rows.positions->find(sequence.id);
    const std::vector<std::int64_t>& landmarks = found == rows.positions->end() ? none : found->second;
    for (auto n = static_cast<std::size_t>(sequence.first);
         n < static_cast<std::size_t>(sequence.first + sequence.count); ++n) {
      const std::int64_t position = queries.position[n], start = document_start[n];
      const auto first = std::lower_bound(landmarks.begin(), landmarks.end(), start),
                 next = std::lower_bound(first, landmarks.end(), position);
      rows.before.push_back({start, landmarks.data() + (first - landmarks.begin()), next - first});
      own.first.push_back(next == first ? start : next[-1] + 1);
      own.end.push_back(next != landmarks.end() && *next == position ? position : position + 1);
    }
  }
  rows.own = make_rows(queries, rotary, std::move(own));
  return rows;
}

}  // namespace lexring
