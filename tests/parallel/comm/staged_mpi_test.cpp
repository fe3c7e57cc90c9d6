// What only tensors on a device show. Run under mpirun with 1 to 4 ranks.
#include <gtest/gtest.h>

#include "parallel/collectives.h"
#include "parallel/comm/gpu/device.h"
#include "parallel/comm/gpu/staged_communicator.h"
#include "parallel/context.h"
#include "tests/support/fake_device.h"
#include "tests/support/mpi_world.h"
#include "tests/support/ring_shift.h"

namespace lexring {
namespace {

using testing::FakeRuntime;
using testing::make_fake_copies;
using testing::world;

class OnADevice : public ::testing::Test {
 protected:
  Tensor full(std::int64_t count, float value) {
    return Tensor::from(runtime_, {count}, std::vector<float>(static_cast<std::size_t>(count), value));
  }
  static std::span<std::byte> bytes_of(const Tensor& t) { return {t.raw(), t.bytes()}; }
  static std::vector<float> all(std::int64_t count, float value) {
    return std::vector<float>(static_cast<std::size_t>(count), value);
  }

  FakeRuntime runtime_;
  std::shared_ptr<Communicator> group_ = make_staged_communicator(
      world()->split("device", 0), std::make_shared<DeviceStaging>(runtime_, make_fake_copies(runtime_)));
  const float rank_ = static_cast<float>(world()->rank()), size_ = static_cast<float>(world()->size());
};

TEST_F(OnADevice, WorkBeforeACallIsSentAndWorkAfterItSeesTheResult) {
  for (int round = 0; round < 20; ++round) {
    const std::int64_t count = 1 << 14;
    const Tensor later = full(count, rank_ + 1);
    const Tensor values = full(count, -1), result = full(count, -2);
    runtime_.copy(values.raw(), later.raw(), values.bytes());  // the device has not come to it when the call is made
    group_->start_all_reduce(bytes_of(values), Dtype::f32).wait();
    runtime_.copy(result.raw(), values.raw(), values.bytes());
    ASSERT_EQ(result.to_host<float>(), all(count, size_ * (size_ + 1) / 2));
  }
}

TEST_F(OnADevice, WhatWasSentMayBeWrittenToWhenItWasWaitedFor) {
  for (int round = 0; round < 20; ++round) {
    const std::int64_t count = 1 << 14;
    const Tensor mine = full(count, rank_), got = full(count, -1);
    testing::start_ring_shift(*group_, bytes_of(mine), bytes_of(got)).wait();
    const Tensor other = full(count, 77);
    runtime_.copy(mine.raw(), other.raw(), mine.bytes());
    const float before = static_cast<float>((world()->rank() + world()->size() - 1) % world()->size());
    ASSERT_EQ(got.to_host<float>(), all(count, before));
  }
}

/// Counts what is taken of pinned memory.
class CountedCopies final : public SideCopies {
 public:
  explicit CountedCopies(FakeRuntime& runtime) : copies_(make_fake_copies(runtime)) {}
  std::shared_ptr<std::byte> pinned(std::size_t bytes) override {
    ++taken;
    return copies_->pinned(bytes);
  }
  std::unique_ptr<Event> out(std::span<const Part> parts) override { return copies_->out(parts); }
  std::unique_ptr<Event> in(std::span<const Part> parts, const Event& before) override {
    return copies_->in(parts, before);
  }
  void let_runtime_wait(const Event& event) override { copies_->let_runtime_wait(event); }

  int taken = 0;

 private:
  std::unique_ptr<SideCopies> copies_;
};

TEST_F(OnADevice, NothingToMoveTakesNoPinnedMemory) {
  auto copies = std::make_unique<CountedCopies>(runtime_);
  const CountedCopies& counted = *copies;
  const auto group = make_staged_communicator(world()->split("device", 0),
                                              std::make_shared<DeviceStaging>(runtime_, std::move(copies)));
  if (group->size() == 1) return;
  group->start_exchange({}, {}).wait();
  group->start_all_reduce({}, Dtype::f32).wait();
  EXPECT_EQ(counted.taken, 0);
  const Tensor values = full(100, 1);
  group->start_all_reduce(bytes_of(values), Dtype::f32).wait();
  EXPECT_EQ(counted.taken, 1);
}

TEST_F(OnADevice, OneselfAndAGroupOfOne) {
  const Tensor mine = full(1000, 3), got = full(1000, -1);
  const int rank = group_->rank();
  group_->start_exchange({{rank, bytes_of(mine)}}, {{rank, bytes_of(got)}}).wait();
  EXPECT_EQ(got.to_host<float>(), all(1000, 3));
  const Tensor again = full(1000, -1);
  for (const auto& one : {group_->alone("one"), group_->split("ones", rank), group_->alone("one")->split("one", 0)}) {
    ASSERT_EQ(one->size(), 1);
    one->start_exchange({{0, bytes_of(mine)}}, {{0, bytes_of(again)}}).wait();
    EXPECT_EQ(again.to_host<float>(), all(1000, 3));
  }
}

TEST_F(OnADevice, GroupsOfAContextAreForTheDeviceToo) {
  const int tp = world()->size() % 2 == 0 ? 2 : 1;
  const Context context(group_, make_mesh(world()->size(), 0, 1, tp));
  for (const Axis axis : axes) {
    Communicator& group = context.axis(axis);
    const Tensor values = full(5000, 1);
    group.start_all_reduce(bytes_of(values), Dtype::f32).wait();
    EXPECT_EQ(values.to_host<float>(), all(5000, static_cast<float>(group.size())));
    std::vector<double> numbers(300, 1);  // blocking calls are about numbers of the host
    group.all_reduce(numbers, Reduce::sum);
    EXPECT_EQ(numbers[299], group.size());
  }
}

TEST_F(OnADevice, RowsAreGatheredAndScattered) {
  for (const std::int64_t rows : {0, 1, 3, 301}) {
    const RowShards shards(*group_, rows);
    const Tensor whole = Tensor::from(runtime_, {rows, 5}, all(rows * 5, 1));
    const Tensor own = start_reduce_scatter_rows(whole, shards).wait();
    EXPECT_EQ(own.to_host<float>(), all(shards.count() * 5, size_));
    EXPECT_EQ(start_gather_rows(own, shards).wait().to_host<float>(), all(rows * 5, size_));
  }
}

TEST(DeviceWorld, IsTheSameForTheHost) {
  const auto runtime = make_cpu_runtime();
  const auto made = make_device_world(world(), *runtime);
  EXPECT_EQ(made.world, world());
  EXPECT_EQ(made.description, "");
}

TEST(DeviceWorld, RanksThatShareAGpuAreNamed) {
  EXPECT_EQ(shared_gpus({"a 1", "a 2", "b 1", "b 2"}), "");
  EXPECT_EQ(shared_gpus({"a 1", "a 2", "b 2", "b 2"}), "ranks 2 and 3 share a GPU");
  EXPECT_EQ(shared_gpus({"b 1", "a 2", "b 1", "a 2", "b 1"}), "ranks 0, 2 and 4 share a GPU");
}

}  // namespace
}  // namespace lexring
