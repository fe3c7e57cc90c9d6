/// `lexring verify`: runs golden cases of the reference on this machine; the self-test of a build, a device, a cluster.
///
/// A golden file (written by golden.py beside lex_reference.py) holds cases: configuration, weights, a batch, and in
/// f64 its logits, loss, every gradient, and the parameters and losses of three AdamW steps. Per tensor, error = |ours
/// - reference| / |reference| (norms).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace lexring {

/// One line a case (passed, failed with the worst tensor, not supported with the reason), the three counts; 1 on any
/// failure, and with --strict on any case that is not supported. All ranks compute every case together on a mesh of cp
/// x tp, with the tolerances of one rank; rank 0 prints, the exit code is the same everywhere.
int verify_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world);

}  // namespace lexring
