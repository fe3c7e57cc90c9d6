#include "framework/attention/landmarks.h"

#include <algorithm>

#include "framework/base/error.h"

namespace lexring {

namespace {

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

/// Rows [first, first + count), in the storage of all.
SharedRows cut(const AttentionRows& rows, const LandmarkRound::Range& range, Visibility visible) {
  TokenTable tokens;
  for (const TokenTable::Sequence& s : rows.tokens.sequences) {
    const std::int64_t first = std::max(s.first, range.first),
                       end = std::min(s.first + s.count, range.first + range.count);
    if (first < end) tokens.sequences.push_back({s.id, first - range.first, end - first});
  }
  const auto part = [&](const auto& values) {
    return values.empty() ? values
                          : std::decay_t<decltype(values)>(values.begin() + range.first,
                                                           values.begin() + range.first + range.count);
  };
  tokens.position = part(rows.tokens.position);
  tokens.coordinate = part(rows.tokens.coordinate);
  RotaryTable rotary;
  if (rows.rotary.cosine.defined())
    rotary = {rows.rotary.cosine.slice(range.first, range.count), rows.rotary.sine.slice(range.first, range.count)};
  return make_rows(std::move(tokens), std::move(rotary), std::move(visible));
}

/// The rows of a key table between positions of one of its sequences.
void widen(LandmarkRound::Range& hull, const TokenTable& keys, std::int64_t sequence, std::int64_t first,
           std::int64_t end) {
  const auto found = std::lower_bound(keys.sequences.begin(), keys.sequences.end(), sequence,
                                      [](const auto& s, std::int64_t id) { return s.id < id; });
  if (found == keys.sequences.end() || found->id != sequence) return;
  const auto begin = keys.position.begin() + found->first, last = begin + found->count;
  const std::int64_t from = std::lower_bound(begin, last, first) - keys.position.begin(),
                     to = std::lower_bound(begin, last, end) - keys.position.begin();
  if (from >= to) return;
  const std::int64_t stop = hull.count == 0 ? to : std::max(to, hull.first + hull.count);
  hull.first = hull.count == 0 ? from : std::min(from, hull.first);
  hull.count = stop - hull.first;
}

}  // namespace

std::int64_t LandmarkRows::rounds() const {
  std::int64_t most = 0;
  for (const Before& of_row : before) most = std::max(most, of_row.count);
  return most;
}

LandmarkRound LandmarkRows::round(std::int64_t number, const AttentionRows& all) const {
  const auto meets = [&](const Before& b) { return number < b.count; };
  LandmarkRound round;
  round.query_range.first = std::find_if(before.begin(), before.end(), meets) - before.begin();
  round.query_range.count =
      before.rend() - std::find_if(before.rbegin(), before.rend(), meets) - round.query_range.first;
  Visibility block, landmark;
  for (const TokenTable::Sequence& s : own->tokens.sequences) {
    const std::int64_t first = std::max(s.first, round.query_range.first),
                       end = std::min(s.first + s.count, round.query_range.first + round.query_range.count);
    std::int64_t key_first = 0, key_end = 0;  // positions of what its queries meet
    for (std::int64_t n = first; n < end; ++n) {
      const Before& b = before[size(n)];
      const std::int64_t mark = meets(b) ? b.landmarks[number] : 0;
      const std::int64_t begin = !meets(b) ? 0 : number == 0 ? b.start : b.landmarks[number - 1] + 1;
      block.first.push_back(begin), block.end.push_back(mark);
      landmark.first.push_back(mark), landmark.end.push_back(meets(b) ? mark + 1 : mark);
      if (!meets(b)) continue;
      key_first = key_end == 0 ? begin : std::min(key_first, begin);
      key_end = std::max(key_end, mark + 1);
    }
    if (key_end > 0) widen(round.key_range, all.tokens, s.id, key_first, key_end);
  }
  round.keys = cut(all, round.key_range, {});
  round.block = cut(*own, round.query_range, std::move(block));
  round.landmark = cut(*own, round.query_range, std::move(landmark));
  return round;
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
    for (std::int64_t row = sequence.first; row < sequence.first + sequence.count; ++row) {
      const std::int64_t position = queries.position[size(row)], start = document_start[size(row)];
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
