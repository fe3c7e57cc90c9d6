// What only NCCL's groups show, on a fake one. Run under mpirun with 1 to 4 ranks.
#include <future>
#include <thread>

#include <gtest/gtest.h>

#include "framework/base/error.h"
#include "framework/tensor/tensor.h"
#include "parallel/comm/gpu/cuda_copies.h"
#include "parallel/comm/gpu/nccl.h"
#include "parallel/comm/gpu/nccl_communicator.h"
#include "parallel/comm/gpu/staged_communicator.h"
#include "parallel/context.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_nccl.h"
#include "tests/support/mpi_world.h"
#include "tests/support/ring_shift.h"

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
  static std::vector<float> all(std::int64_t count, float value) {
    return std::vector<float>(static_cast<std::size_t>(count), value);
  }

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

  /// What the watchdog does ten times a second, in a thread of its own.
  static std::string failure_seen_by_a_watchdog(Communicator& group) {
    Progress& progress = *dynamic_cast<NcclCommunicator&>(group).progress();
    std::string failure;
    std::thread([&] {
      progress.alone([&] {
        static_cast<void>(progress.held_up());
        failure = progress.failure();
      });
    }).join();
    return failure;
  }

  FakeRuntime runtime_{testing::fake_gpu};
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

TEST_F(Nccl, ASplitGroupIsConnectedInTheCallThatSplits) {
  const auto group = make_nccl_communicator(world()->split("gpus", 0), runtime_, stream());
  if (group->size() == 1) return;
  const auto part = group->split("part", 0);
  EXPECT_EQ(failure_seen_by_a_watchdog(*group), "");  // which also sees that other groups' calls are over
  const Progress& progress = *dynamic_cast<NcclCommunicator&>(*group).progress();
  EXPECT_EQ(progress.last_call().operation, "connect");
  EXPECT_EQ(progress.last_call().number, group->sequence());
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
  const auto group = make_staged_communicator(
      world()->split("staged", 0),
      std::make_shared<DeviceStaging>(runtime_, make_cuda_copies(stream(), testing::fake_gpu)));
  check_order(*group);
}

TEST_F(Nccl, HelperThreadsAreOnTheDeviceToo) {
  const auto group = make_nccl_communicator(world()->split("gpus", 0), runtime_, stream());
  if (group->size() == 1) return;
  const Tensor values = full(1000, 1);
  for (int i = 0; i < 3; ++i) {
    group->start_all_reduce(bytes_of(values), Dtype::f32).wait();
    runtime_.synchronise();
    EXPECT_EQ(failure_seen_by_a_watchdog(*group), "");  // looks at the call's events, and ends them
  }
  EXPECT_EQ(testing::calls_on_another_device(), 0);
}

TEST_F(Nccl, AnErrorOfTheDeviceThatAWatchdogMeetsIsAFailure) {
  const auto group = make_nccl_communicator(world()->split("gpus", 0), runtime_, stream());
  if (group->size() == 1) return;
  const Tensor values = full(1000, 1);
  group->start_all_reduce(bytes_of(values), Dtype::f32).wait();
  testing::break_events(true);
  const std::string failure = failure_seen_by_a_watchdog(*group);
  testing::break_events(false);
  EXPECT_NE(failure.find("met an error of its GPU in group gpus: CUDA: "), std::string::npos) << failure;
}

TEST_F(Nccl, AnErrorLeavesNoGroupOfCallsOpenAndTheWatchdogLooksOnWhileAllAreBrokenOff) {
  const auto group = make_nccl_communicator(world()->split("gpus", 0), runtime_, stream());
  if (group->size() == 1) return;
  const auto part = group->split("part", 0);
  const Tensor values = full(1000, 1), other = full(1000, 1);
  testing::start_ring_shift(*group, bytes_of(values), bytes_of(other)).wait();
  testing::refuse_next_message();
  std::future<std::string> look;
  bool looked = false;
  testing::while_aborting([&] {
    look = std::async(std::launch::async, [&] { return failure_seen_by_a_watchdog(*group); });
    looked = look.wait_for(std::chrono::seconds(100)) == std::future_status::ready;
  });
  EXPECT_THROW(static_cast<void>(testing::start_ring_shift(*group, bytes_of(values), bytes_of(other))), Error);
  EXPECT_TRUE(looked);
  EXPECT_EQ(testing::open_groups_of_calls(), 0);
  EXPECT_THROW(static_cast<void>(testing::start_ring_shift(*part, bytes_of(values), bytes_of(other))), Error);
}

/// Rank 0 fails where the others wait for it, and their later work waits for that. All can end, in any order.
TEST_F(Nccl, GroupsAreBrokenOffAllAtOnce) {
  if (world()->size() == 1) return;
  const auto step = [&] {
    const auto group = make_nccl_communicator(world()->split("gpus", 0), runtime_, stream());
    const auto first = group->split("first", 0), second = group->split("second", 0);
    const Tensor values = full(1000, 1);
    for (Communicator* part : {first.get(), second.get()}) {
      if (world()->rank() > 0) part->start_exchange({}, {{0, bytes_of(values)}}).wait();
    }
    fail("rank {} has met an error", world()->rank());
  };
  EXPECT_THROW(step(), Error);
  world()->barrier();
}

TEST_F(Nccl, VersionIsThatOfTheLibrary) { EXPECT_EQ(nccl_version(), "2.28.9"); }

}  // namespace
}  // namespace lexring
