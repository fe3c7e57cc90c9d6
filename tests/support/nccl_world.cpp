// The same tests through NCCL: a fake one, on the fake device.
#include "framework/device/cuda/call.h"
#include "parallel/comm/gpu/nccl_communicator.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/fake_device.h"
#include "tests/support/host_facing.h"
#include "tests/support/mpi_world.h"

namespace lexring::testing {

std::shared_ptr<Communicator> make_world_under_test(std::shared_ptr<Communicator> all) {
  LEXRING_CUDA_CALL(cudaSetDevice(fake_gpu));
  static FakeRuntime runtime(fake_gpu);
  return HostFacing<NcclCommunicator, NcclDevice>::make(
      all->split(all->name(), 0),
      std::make_shared<NcclDevice>(NcclDevice{runtime, reinterpret_cast<cudaStream_t>(&runtime.stream())}));
}

}  // namespace lexring::testing
