// The same tests through a device: MPI with tensors that the host cannot touch.
#include "parallel/comm/gpu/staged_communicator.h"
#include "tests/support/fake_device.h"
#include "tests/support/host_facing.h"
#include "tests/support/mpi_world.h"

namespace lexring::testing {

std::shared_ptr<Communicator> make_world_under_test(std::shared_ptr<Communicator> all) {
  static FakeRuntime runtime;
  return HostFacing<StagedCommunicator, DeviceStaging>::make(
      all->split(all->name(), 0), std::make_shared<DeviceStaging>(runtime, make_fake_copies(runtime)));
}

}  // namespace lexring::testing
