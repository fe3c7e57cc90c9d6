/// Which calls of a fused attention kernel (fused_attention.h) make one attention call: rectangles of rows, plain,
/// causal or with a window, over whole batches, in place. Plain C++, for tests on the host.
///
/// It goes by the rows that each query sees (make_ranges), not by the name of a pattern: causal, window, blockwise and
/// documents come apart into such rectangles by themselves, whatever the positions. What several rectangles say of one
/// query is merged by its log-sum-exp.
///
/// Decay (call.h): queries meet the keys of their own span in the rows' own base, by which both sides are scaled
/// already. Queries of later spans meet them all counted from where that span of keys ends: both factors are at most 1,
/// and where one underflows, the pair's decay does.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "framework/attention/call.h"

namespace lexring::cuda {

/// causal: query i of a call sees its keys up to the i-th, of which there are as many as queries.
enum class FusedMask { none, causal };

/// Entry i of the batch: query rows [query_first + i query_step, ... + queries) and key rows likewise. Steps are at
/// least as long as the entries: no row is twice in a call.
struct FusedCall {
  std::int64_t batch = 1;
  std::int64_t query_first = 0, queries = 0, query_step = 0;
  std::int64_t key_first = 0, keys = 0, key_step = 0;
  FusedMask mask = FusedMask::none;
  std::int64_t window = 0;  ///< of a causal call: keys that a query sees at most, its own included; 0: all
  std::optional<std::int64_t> base = {};  ///< position that decay is counted from; none: the rows' own base

  bool operator==(const FusedCall&) const = default;
};

/// Every pair of a query and a key that it sees is in one of the calls, and nothing else is. None where that would take
/// second intervals (sinks) or more calls than it is worth: 16, and one per 1,024 queries.
std::optional<std::vector<FusedCall>> plan_fused(const AttentionForm& form, const TokenTable& queries,
                                                 const TokenTable& keys, const Visibility& visible);

}  // namespace lexring::cuda
