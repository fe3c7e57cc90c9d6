/// A step whose numbers are in doubt is computed once more from the same state. The same state and batch give the same
/// bits, so that other numbers the second time are a machine's error, and the same ones the model's or the data's.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "jobs/training/replica.h"

namespace lexring {

/// Replica::compute, and once more where `doubtful`, which must answer alike on every rank, says so; rank 0 says what
/// was found. Returns the numbers of the second time where there was one, and of the first what ranks had to tell.
/// Gradients are those of the numbers. Collective.
StepResult compute_with_second_look(Replica& replica, const Context& context, std::int64_t step,
                                    const std::vector<ModelBatch>& micro_batches, const Replica::Tell& tell,
                                    const std::function<bool(const StepResult&)>& doubtful);

}  // namespace lexring
