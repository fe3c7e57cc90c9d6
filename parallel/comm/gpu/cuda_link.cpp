#include "parallel/comm/gpu/cuda_link.h"

#include <array>

#include "framework/device/cuda/call.h"
#include "framework/device/cuda/runtime.h"
#include "parallel/comm/gpu/cuda_copies.h"

namespace lexring {

CUstream_st* stream_of(const Runtime& runtime) { return dynamic_cast<const CudaRuntime&>(runtime).stream(); }

std::string bus_of(const Runtime& runtime) {
  std::array<char, 64> bus{};
  LEXRING_CUDA_CALL(cudaDeviceGetPCIBusId(bus.data(), bus.size(), runtime.device().index));
  return bus.data();
}

std::unique_ptr<SideCopies> make_side_copies(Runtime& runtime) {
  return make_cuda_copies(stream_of(runtime), runtime.device().index);
}

}  // namespace lexring
