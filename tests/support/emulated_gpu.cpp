// A GPU for a whole program where there is none: --device cuda computes with the emulated kernels, in memory that the
// host cannot touch but through them and the runtime. Linked in place of the CUDA runtime (cuda_backend.h,
// cuda_link.h); ranks share the one GPU.
#include <cstdlib>

#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda_backend.h"
#include "parallel/comm/gpu/cuda_link.h"
#include "tests/emulated_cuda/backend.h"
#include "tests/support/fake_device.h"

namespace lexring {

bool cuda_is_built_in() { return true; }
void load_cuda_kernels_at_start() {}
CudaDevices cuda_devices() { return {.count = 1, .why_none = {}}; }
std::size_t free_cuda_memory(int /*device_index*/) { return std::size_t(1) << 30; }

std::unique_ptr<Backend> make_cuda_backend(int /*device_index*/, const CudaSettings& settings) {
  auto runtime = std::make_unique<testing::FakeRuntime>();
  cuda::emulated::memory_door() = {[runtime = runtime.get()] {
                                     runtime->synchronise();  // a kernel starts when all before it is done
                                     testing::show_device_memory(true);
                                   },
                                   [] { testing::show_device_memory(false); }};
  return make_emulated_cuda_backend(std::move(runtime), settings);
}

CUstream_st* stream_of(const Runtime&) { return nullptr; }
std::string bus_of(const Runtime&) { return "emulated"; }
std::unique_ptr<SideCopies> make_side_copies(Runtime& runtime) {
  return testing::make_fake_copies(dynamic_cast<testing::FakeRuntime&>(runtime));
}

}  // namespace lexring
