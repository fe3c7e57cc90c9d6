// The CUDA runtime on a device: its memory, its order, and copies that outlive what they were copied from.
#include "framework/device/cuda/runtime.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "framework/backend/cuda_backend.h"

namespace lexring {
namespace {

std::vector<std::byte> numbered(std::size_t bytes, unsigned seed) {
  std::vector<std::byte> values(bytes);
  for (std::size_t i = 0; i < bytes; ++i) values[i] = static_cast<std::byte>((i * 31 + i / 251 + seed) & 0xff);
  return values;
}

std::vector<std::byte> read(CudaRuntime& runtime, const std::byte* from, std::size_t bytes) {
  std::vector<std::byte> values(bytes);
  runtime.copy_to_host(values.data(), from, bytes);
  return values;
}

TEST(CudaRuntime, SmallFactsAboutTheDevice) {
  CudaRuntime runtime(0);
  EXPECT_EQ(runtime.device(), (Device{DeviceType::cuda, 0}));
  EXPECT_GE(runtime.multiprocessors(), 1);
  EXPECT_NE(runtime.stream(), nullptr);
  EXPECT_GE(visible_cuda_devices(), 1);
  EXPECT_GT(free_device_memory(0), 0U);
  EXPECT_THROW(CudaRuntime{visible_cuda_devices()}, UsageError);
}

TEST(CudaRuntime, SmallCopiesReturnWhenTheSourceMayChange) {
  CudaRuntime runtime(0);
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{1000}, std::size_t{1} << 20}) {
    const auto block = runtime.allocate(bytes), second = runtime.allocate(bytes);
    const std::vector<std::byte> expected = numbered(bytes, 1);
    std::vector<std::byte> source = expected;
    runtime.copy_from_host(block.get(), source.data(), bytes);
    std::fill(source.begin(), source.end(), std::byte{0});
    runtime.copy(second.get(), block.get(), bytes);
    EXPECT_EQ(read(runtime, second.get(), bytes), expected) << bytes;
  }
}

/// More than the ring holds, in one copy and in many: slots are used again, and only after their copies.
TEST(CudaRuntime, CopiesLargerThanTheStagingMemory) {
  CudaRuntime runtime(0);
  const std::size_t bytes = 3 * CudaRuntime::staging_bytes + 12345;
  const auto block = runtime.allocate(bytes);
  const std::vector<std::byte> first = numbered(bytes, 2), then = numbered(bytes, 3);
  runtime.copy_from_host(block.get(), first.data(), bytes);
  EXPECT_EQ(read(runtime, block.get(), bytes), first);
  for (std::size_t done = 0, piece = 1; done < bytes; done += piece, piece = piece * 2 % 1000003 + 1) {
    piece = std::min(piece, bytes - done);
    runtime.copy_from_host(block.get() + done, then.data() + done, piece);
  }
  EXPECT_EQ(read(runtime, block.get(), bytes), then);
}

TEST(CudaRuntime, SmallAFreedBlockIsReusedInOrder) {
  CudaRuntime runtime(0);
  const std::size_t bytes = 8 << 20;
  const std::vector<std::byte> a = numbered(bytes, 4), b = numbered(bytes, 5);
  const auto copy_of_a = runtime.allocate(bytes);
  std::byte* address = nullptr;
  {
    const auto block = runtime.allocate(bytes);
    address = block.get();
    runtime.copy_from_host(block.get(), a.data(), bytes);
    runtime.copy(copy_of_a.get(), block.get(), bytes);
  }
  const auto again = runtime.allocate(bytes);  // at once, with the copy still under way
  EXPECT_EQ(again.get(), address);
  runtime.copy_from_host(again.get(), b.data(), bytes);
  EXPECT_EQ(read(runtime, copy_of_a.get(), bytes), a);
  EXPECT_EQ(read(runtime, again.get(), bytes), b);
}

TEST(CudaRuntime, SmallMemoryIsCounted) {
  CudaRuntime runtime(0);
  const auto kept = runtime.allocate(1000);
  {
    const MemoryPurpose purpose("passing");
    const auto passing = runtime.allocate(5 << 20);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(passing.get()) % 512, 0U);
  }
  EXPECT_EQ(runtime.memory().current, 1024U);
  EXPECT_EQ(runtime.memory().peak, 1024U + (5 << 20));
  ASSERT_EQ(runtime.shares_at_peak().size(), 2U);
  EXPECT_STREQ(runtime.shares_at_peak()[0].purpose, "passing");
  runtime.reset_peak();
  EXPECT_EQ(runtime.memory().peak, 1024U);
  runtime.trim();
}

TEST(CudaRuntime, SaysWhoHoldsTheMemoryWhenThereIsNoMore) {
  CudaRuntime runtime(0);
  const MemoryPurpose purpose("the test");
  const auto held = runtime.allocate(64 << 20);
  try {
    const auto too_much = runtime.allocate(std::size_t{1} << 50);
    FAIL() << "a petabyte";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("the test 64 MiB"), std::string::npos) << error.what();
  }
  const auto more = runtime.allocate(1 << 20);  // and goes on
  runtime.synchronise();
}

/// What a phase kept goes back before there is no memory left for the next, also where its blocks were small.
TEST(CudaRuntime, UnusedMemoryGoesBackBeforeThereIsNone) {
  CudaRuntime runtime(0);
  std::vector<std::shared_ptr<std::byte>> small;
  try {
    while (true) small.push_back(runtime.allocate(900 << 10));
  } catch (const Error&) {
  }
  small.clear();
  EXPECT_NE(runtime.allocate(std::size_t{1} << 30), nullptr);
}

TEST(CudaRuntime, SmallThreadsAllocateAndCopy) {
  CudaRuntime runtime(0);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned repeat = 0; repeat < 50; ++repeat) {
        const std::size_t bytes = 1 + 7919 * (repeat + t);
        const std::vector<std::byte> values = numbered(bytes, t);
        const auto block = runtime.allocate(bytes);
        runtime.copy_from_host(block.get(), values.data(), bytes);
        wrong[t] += read(runtime, block.get(), bytes) != values;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(CudaBackend, SmallFillsWhatItIsTold) {
  const auto backend = make_cuda_backend(0);
  const Tensor x(backend->runtime(), {1000}, Dtype::f32);
  backend->fill(x, 0.25);
  EXPECT_EQ(x.to_host<float>(), std::vector<float>(1000, 0.25F));
}

}  // namespace
}  // namespace lexring
