/// `lexring bench`: training steps on random tokens; one JSON line with speed and memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace lexring {

int bench_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world);

}  // namespace lexring
