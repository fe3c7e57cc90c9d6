/// NCCL behind the communicator, in a program that may have been built without it (no_nccl.cpp). Shows no type of NCCL
/// or CUDA.
#pragma once

#include <memory>
#include <string>

#include "framework/device/runtime.h"
#include "parallel/comm/communicator.h"

struct CUstream_st;

namespace lexring {

/// "2.28.9", of the library at run time; empty in a program built without it.
std::string nccl_version();

/// Takes `host` over, a group of MPI or of one, for tensors of `runtime`, whose work goes through `stream`; both
/// outlive it. What blocks still goes through MPI. No two ranks may have the same GPU. NCCL's own group is made with
/// the first asynchronous call, those of groups split from this one at once. Ranks that disagree about the bytes of a
/// message are not told so (nccl_communicator.h). Collective.
std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host, Runtime& runtime,
                                                     CUstream_st* stream);

}  // namespace lexring
