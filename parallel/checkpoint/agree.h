/// Work that only some ranks do, with errors that all of them see.
#pragma once

#include <functional>

#include "parallel/comm/communicator.h"

namespace lexring {

/// Runs `work` here, then compares notes: when it threw on any rank, every rank throws Error with the first such rank's message.
/// Collective.
void agree(Communicator& world, const std::function<void()>& work);

}  // namespace lexring
