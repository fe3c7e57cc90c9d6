// Memory of the CPU's runtime: who holds it, and what is said about it.
#include "framework/device/runtime.h"

#include <cstring>
#include <map>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "framework/autograd/tape.h"
#include "framework/backend/backend.h"

namespace lexring {
namespace {

using Shares = std::map<std::string, std::size_t>;

Shares shares_of(const Runtime& runtime) {
  Shares shares;
  for (const MemoryShare& share : runtime.shares_at_peak()) {
    if (share.bytes > 0) shares[share.purpose] = share.bytes;
  }
  return shares;
}

TEST(Runtime, SaysWhatThePeakConsistedOf) {
  const auto runtime = make_cpu_runtime();
  const auto kept = runtime->allocate(6400);
  {
    const MemoryPurpose outer("outer");
    const auto first = runtime->allocate(640);
    {
      const MemoryPurpose inner("inner");
      const auto passing = runtime->allocate(64000);
    }
    const auto second = runtime->allocate(640);
  }
  const auto after_the_peak = runtime->allocate(128);
  EXPECT_EQ(shares_of(*runtime), (Shares{{"other", 6400}, {"outer", 640}, {"inner", 64000}}));
  EXPECT_EQ(runtime->memory().peak, 6400U + 640 + 64000);

  runtime->reset_peak();
  EXPECT_EQ(shares_of(*runtime), (Shares{{"other", 6400 + 128}}));
  EXPECT_EQ(runtime->memory().peak, runtime->memory().current);
}

TEST(Runtime, BlocksOfEverySizeComeBack) {
  const auto runtime = make_cpu_runtime();
  for (const std::size_t about : {0, 64, 4096, 128 << 10, 2 << 20}) {
    for (std::size_t bytes = about < 130 ? 0 : about - 130; bytes < about + 130; ++bytes) {
      const auto block = runtime->allocate(bytes);
      std::memset(block.get(), 1, bytes);
    }
  }
  EXPECT_EQ(runtime->memory().current, 0U);
}

TEST(Runtime, APurposeIsOfOneThreadAndOutlivesItsScope) {
  const auto runtime = make_cpu_runtime();
  std::shared_ptr<std::byte> held;
  const MemoryPurpose mine("mine");
  std::thread([&] {
    const MemoryPurpose theirs("theirs");
    held = runtime->allocate(64);
  }).join();
  const auto own = runtime->allocate(128);
  EXPECT_EQ(shares_of(*runtime), (Shares{{"mine", 128}, {"theirs", 64}}));
}

TEST(Runtime, BackwardAllocatesForWhatForwardDid) {
  const auto backend = make_cpu_backend();
  Tape tape(*backend, Recording::on);
  {
    const MemoryPurpose purpose("forward");
    tape.record([&runtime = backend->runtime()] { runtime.allocate(1 << 20); });
  }
  tape.backward();
  EXPECT_EQ(shares_of(backend->runtime()), (Shares{{"forward", 1 << 20}}));
}

}  // namespace
}  // namespace lexring
