// What is said of a kernel that failed, and that it is said.
#include <gtest/gtest.h>

#include <cstdint>

#include "framework/backend/cuda/gpu.h"
#include "framework/base/error.h"

namespace lexring::cuda {
namespace {

struct Sizes {
  std::int64_t rows = 0x1234;
  const float* from = nullptr;
};
void fails_in_block_two(const float* /*from*/, std::int64_t /*rows*/, bool /*whole*/, float /*scale*/,
                        Sizes /*sizes*/) {
  if (blockIdx.x == 2) fail("a row that is not there");
}

std::string message_of(unsigned blocks) {
  try {
    launch(Stream{}, dim3(blocks), 64, 256, fails_in_block_two, nullptr, -7, true, 0.5F, Sizes());
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Launch, AnErrorHasTheKernelsGeometryAndArguments) {
  EXPECT_EQ(message_of(2), "");
  const std::string message = message_of(3);
  EXPECT_TRUE(message.starts_with("a row that is not there in kernel ")) << message;
  EXPECT_TRUE(
      message.ends_with(" on 3 x 1 x 1 blocks of 64 threads with 256 bytes of shared memory; arguments: float "
                        "const* {0x0}, -7, true, 0.5, Sizes {0x1234 0x0}"))
      << message;
}

TEST(Launch, KernelsAreNamedAsCxxWritesThem) {
  const auto name = [](const char* mangled) { return describe({mangled, {1, 1, 1}, 32, 0, {}}); };
  EXPECT_EQ(name("_ZN7lexring4cuda12_GLOBAL__N_113flash_forwardILi128ELb0EEEvNS1_16ForwardArgumentsE"),
            "kernel flash_forward<128, false> on 1 x 1 x 1 blocks of 32 threads with 0 bytes of shared memory; "
            "arguments: ");
  EXPECT_TRUE(name("of unknown name").starts_with("kernel of unknown name on "));
}

}  // namespace
}  // namespace lexring::cuda
