#include "framework/backend/cuda/fused_plan.h"

#include <algorithm>
#include <span>
#include <tuple>

#include "framework/attention/tiling.h"

namespace lexring::cuda {
namespace {

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

/// Adjacent rows within one span of decay.
struct Run {
  std::int64_t first, last, span;
};

std::vector<Run> runs_of(const TokenTable& tokens, const TokenTable::Sequence& s, std::int64_t span) {
  std::vector<Run> runs;
  for (std::int64_t row = s.first, end = s.first + s.count; row < end;) {
    const std::int64_t index = span_of(tokens, row, span);
    std::int64_t next = end;
    if (span_of(tokens, end - 1, span) != index) {
      for (next = row + 1; span_of(tokens, next, span) == index;) ++next;
    }
    runs.push_back({row, next, index});
    row = next;
  }
  return runs;
}

/// Cuts queries that meet one run of keys into segments of one kind, from the first row on.
class Segments {
 public:
  Segments(std::span<const RowRange> rows, const Run& keys, std::optional<std::int64_t> base,
           std::vector<FusedCall>& calls)
      : rows_(rows), keys_(keys), base_(base), calls_(calls) {}

  void add(std::int64_t first, std::int64_t last) {
    while (first < last) first = seen(first).empty() ? first + 1 : add_segment(first, last);
  }

 private:
  struct Seen {
    std::int64_t first, last;
    bool empty() const { return first >= last; }
    bool operator==(const Seen&) const = default;
  };
  Seen seen(std::int64_t row) const {
    const RowRange& range = rows_[size(row)];
    return {std::max<std::int64_t>(range.first, keys_.first), std::min<std::int64_t>(range.last, keys_.last)};
  }

  /// Returns the first row after the segment.
  std::int64_t add_segment(std::int64_t first, std::int64_t last) {
    const Seen at = seen(first);
    std::int64_t end = first + 1;
    const auto while_seen = [&](auto expected) {
      while (end < last && seen(end) == expected(end - first)) ++end;
    };
    while_seen([&](std::int64_t) { return at; });
    if (end > first + 1) return rectangle(first, end, at), end;
    while_seen([&](std::int64_t i) { return Seen{at.first, at.last + i}; });
    const bool square = at.last == at.first + 1;
    if (square && end < last && seen(end) == Seen{at.first + 1, at.last + (end - first)}) {
      const std::int64_t window = end - first;
      while_seen([&](std::int64_t i) { return Seen{at.last + i - window, at.last + i}; });
      return causal(first, end, at.first, window), end;
    }
    if (end == first + 1) return rectangle(first, end, at), end;
    if (!square) rectangle(first, end, {at.first, at.last - 1});
    return causal(first, end, at.last - 1, 0), end;
  }

  void rectangle(std::int64_t first, std::int64_t end, const Seen& keys) {
    calls_.push_back({.query_first = first,
                      .queries = end - first,
                      .key_first = keys.first,
                      .keys = keys.last - keys.first,
                      .base = base_});
  }
  void causal(std::int64_t first, std::int64_t end, std::int64_t key_first, std::int64_t window) {
    calls_.push_back({.query_first = first,
                      .queries = end - first,
                      .key_first = key_first,
                      .keys = end - first,
                      .mask = FusedMask::causal,
                      .window = window,
                      .base = base_});
  }

  std::span<const RowRange> rows_;
  Run keys_;
  std::optional<std::int64_t> base_;
  std::vector<FusedCall>& calls_;
};

auto kind(const FusedCall& c) { return std::tuple(c.mask, c.window, c.queries, c.keys, c.base); }

/// Calls of one kind whose rows stand equally far apart become one.
std::vector<FusedCall> batched(std::vector<FusedCall> calls) {
  std::stable_sort(calls.begin(), calls.end(),
                   [](const FusedCall& a, const FusedCall& b) { return kind(a) < kind(b); });
  std::vector<FusedCall> result;
  for (const FusedCall& call : calls) {
    if (!result.empty() && kind(result.back()) == kind(call)) {
      FusedCall& last = result.back();
      const std::int64_t query_step = call.query_first - last.query_first - (last.batch - 1) * last.query_step,
                         key_step = call.key_first - last.key_first - (last.batch - 1) * last.key_step;
      const bool apart = query_step >= call.queries && key_step >= call.keys;
      if (apart && (last.batch == 1 || (query_step == last.query_step && key_step == last.key_step))) {
        last.query_step = query_step, last.key_step = key_step, ++last.batch;
        continue;
      }
    }
    result.push_back(call);
  }
  return result;
}

}  // namespace

std::optional<std::vector<FusedCall>> plan_fused(const AttentionForm& form, const TokenTable& queries,
                                                 const TokenTable& keys, const Visibility& visible) {
  if (!visible.sink_begin.empty() || (!visible.end.empty() && form.decays())) return std::nullopt;
  const Ranges ranges = make_ranges(queries, keys, visible, {});
  const std::int64_t span = decay_span(form);
  std::vector<FusedCall> calls;
  for (std::size_t s = 0; s < queries.sequences.size(); ++s) {
    if (ranges.key_sequence[s] < 0) continue;
    const std::vector<Run> query_runs = runs_of(queries, queries.sequences[s], span);
    for (const Run& run : runs_of(keys, keys.sequences[size(ranges.key_sequence[s])], span)) {
      const auto own =
          std::find_if(query_runs.begin(), query_runs.end(), [&](const Run& r) { return r.span >= run.span; });
      if (own == query_runs.end()) continue;
      auto later = own;
      if (own->span == run.span) {
        Segments(ranges.rows, run, std::nullopt, calls).add(own->first, own->last);
        ++later;
      }
      if (later == query_runs.end()) continue;
      Segments(ranges.rows, run, (run.span + 1) * span, calls).add(later->first, query_runs.back().last);
    }
  }
  calls = batched(std::move(calls));
  if (static_cast<std::int64_t>(calls.size()) > 16 + queries.rows() / 1024) return std::nullopt;
  return calls;
}

}  // namespace lexring::cuda
