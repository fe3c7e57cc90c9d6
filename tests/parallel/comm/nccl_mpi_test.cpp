// What only NCCL's groups show, on a fake one. Run under mpirun with 1 to 4 ranks.
#include <gtest/gtest.h>

#include "framework/tensor/tensor.h"
#include "parallel/comm/cuda_copies.h"
#include "parallel/comm/nccl.h"
#include "parallel/comm/staged_communicator.h"
#include "parallel/context.h"
#include "tests/support/fake_device.h"
#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

using testing::FakeRuntime;
using testing::world;

class Nccl : public ::testing::Test {
 protected:
  CUstream_st* stream() { return reinterpret_cast<CUstream_st*>(&runtime_.stream()); }
  Tensor full(std::int64_t count, float value) {
    return Tensor::from(runtime_, {count}, std::vector<float>(static_cast<std::size_t>(count), value));
  }
  static std::span<std::byte> bytes_of(const Tensor& t) { return {t.raw(), t.bytes()}; }
  static std::vector<float> all(std::int64_t count, float value) { return std::vector<float>(static_cast<std::size_t>(count), value); }

  /// A call between work of the runtime before and after it, neither of which the device has come to when it is made.
  void check_order(Communicator& group) {
    const std::int64_t count = 1 << 14;
    const float rank = static_cast<float>(group.rank()), size = static_cast<float>(group.size());
    for (int round = 0; round < 20; ++round) {
      const Tensor later = full(count, rank + 1), values = full(count, -1), result = full(count, -2);
      runtime_.copy(values.raw(), later.raw(), values.bytes());
      group.start_all_reduce(bytes_of(values), Dtype::f32).wait();
      runtime_.copy(result.raw(), values.raw(), values.bytes());
      ASSERT_EQ(result.to_host<float>(), all(count, size * (size + 1) / 2));
    }
  }

  FakeRuntime runtime_;
};

TEST_F(Nccl, WorkBeforeACallIsSentAndWorkAfterItSeesTheResult) {
  const auto group = make_nccl_communicator(world()->split("gpus", 0), runtime_, stream());
  check_order(*group);
}

TEST_F(Nccl, SplitGroupsAreNcclsToo) {
  const std::shared_ptr<Communicator> group = make_nccl_communicator(world()->split("gpus", 0), runtime_, stream());
  const int tp = world()->size() % 2 == 0 ? 2 : 1;
  const Context context(group, make_mesh(world()->size(), 0, 1, tp));
  for (const Axis axis : axes) {
    check_order(context.axis(axis));
    std::vector<double> numbers(300, 1);
    context.axis(axis).all_reduce(numbers, Reduce::sum);
    EXPECT_EQ(numbers[299], context.axis(axis).size());
  }
}

TEST_F(Nccl, TimeOnTheDeviceIsBusyAndWaitingOfTheRuntimeExposed) {
  const auto group = make_nccl_communicator(world()->split("gpus", 0), runtime_, stream());
  const Tensor values = full(1 << 20, 1);
  for (int i = 0; i < 3; ++i) group->start_all_reduce(bytes_of(values), Dtype::f32).wait();
  runtime_.synchronise();
  const auto records = group->records();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].calls, 3U);
  if (group->size() == 1) return;
  EXPECT_GT(group->busy(), 0);
  EXPECT_GT(records[0].exposed, 0);
  group->reset_records();
  EXPECT_EQ(group->busy(), 0);
}

TEST_F(Nccl, StagingThroughCudasCopies) {
  const auto group =
      make_staged_communicator(world()->split("staged", 0), std::make_shared<DeviceStaging>(runtime_, make_cuda_copies(stream(), 0)));
  check_order(*group);
}

TEST_F(Nccl, VersionIsThatOfTheLibrary) { EXPECT_EQ(nccl_version(), "2.28.9"); }

}  // namespace
}  // namespace lexring
