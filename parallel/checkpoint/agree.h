/// Work that only some ranks do, with errors that all of them see.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "parallel/comm/communicator.h"

namespace lexring {

/// Runs `work` here, then compares notes: when it threw on any rank, every rank throws Error with the first such rank's
/// message. Collective.
void agree(Communicator& world, const std::function<void()>& work);
/// The same for what a run outlives: the first rank's message, "rank 3: ...", on every rank; nothing where all went
/// well. Collective.
std::optional<std::string> common_problem(Communicator& world, const std::function<void()>& work);

/// Throws Error on every rank, "rank 3 has another {what}", unless all ranks give the same text. Collective.
void require_same(Communicator& world, const std::string& mine, const std::string& what);

}  // namespace lexring
