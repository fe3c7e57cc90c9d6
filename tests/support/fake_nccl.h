/// What tests ask of the fake NCCL.
#pragma once

#include <functional>

namespace lexring::testing {

/// The next message that is asked for is an error.
void refuse_next_message();
/// Groups of calls that this thread has begun and not ended.
int open_groups_of_calls();
/// `what` is done once, in the first group of processes that is aborted.
void while_aborting(std::function<void()> what);

}  // namespace lexring::testing
