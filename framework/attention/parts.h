/// Attention in parts: queries meet some of their keys by one call and the others by another, with another decay, a
/// bias of another table or from other positions. Calls go on from one state (call.h), so the parts are merged by their
/// log-sum-exp; in backward each has the whole's log-sum-exp, output and delta, and gradients add up. No query meets a
/// key in two parts. Most attention has one part.
#pragma once

#include <vector>

#include "framework/attention/form.h"
#include "framework/attention/rows.h"

namespace lexring {

struct AttentionPart {
  AttentionForm form;
  SharedRows queries;
  bool later = false;  ///< keys after their queries, to which a bias may have a table of its own
};
using AttentionParts = std::vector<AttentionPart>;

/// A part of a whole batch, before anybody knows which rank has which rows.
struct PartPlan {
  AttentionForm form;
  Visibility visible;                  ///< of the whole table's rows
  std::vector<std::int64_t> position;  ///< [N] where the rows stand as queries; empty: where the table says
  bool later = false;
};

/// Rows of a table that only ask, from other positions than they have as keys; several may stand at one.
SharedRows make_queries(const TokenTable& tokens, std::vector<std::int64_t> position, RotaryTable rotary,
                        Visibility visible);

/// Keys up to the query, and keys after it, of a visibility with ends.
std::vector<PartPlan> both_sides(const AttentionForm& form, const TokenTable& tokens, const Visibility& visible);

}  // namespace lexring
