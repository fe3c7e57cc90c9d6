#include "framework/base/error.h"
#include "parallel/comm/gpu/cuda_link.h"

namespace lexring {
namespace {

[[noreturn]] void no_cuda() { fail("this lexring was built without CUDA, so there is no device to communicate for"); }

}  // namespace

CUstream_st* stream_of(const Runtime&) { no_cuda(); }
std::string bus_of(const Runtime&) { no_cuda(); }
std::unique_ptr<SideCopies> make_side_copies(Runtime&) { no_cuda(); }

}  // namespace lexring
