/// `lexring status`: how runs stand, from what they write into their directories; on any node, any time.
#pragma once

#include <string>
#include <vector>

namespace lexring {

/// 0 when all are finished, 75 while some are training or can be continued, 1 when one has failed, was killed or is
/// silent.
int status_command(const std::vector<std::string>& args);

}  // namespace lexring
