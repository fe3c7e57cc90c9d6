#include "parallel/comm/gpu/device_fold.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "framework/base/error.h"
#include "framework/base/random.h"
#include "parallel/comm/fold.h"

namespace lexring {
namespace {

template <class T>
class DeviceFold : public ::testing::Test {};
using Types = ::testing::Types<float, double, bfloat16>;
TYPED_TEST_SUITE(DeviceFold, Types, );

/// The kernel gives the bits of the host's sum, whichever rank's part lies apart, wherever in memory and however long.
TYPED_TEST(DeviceFold, HasTheBitsOfTheHosts) {
  for (const int ranks : {2, 3, 5}) {
    for (int rank = 0; rank < ranks; ++rank) {
      for (const std::int64_t count : {0, 1, 7, 8, 64, 2049, 5000}) {
        for (const std::int64_t shift : {0, 1}) {  // not on a border of 16 bytes
          const std::int64_t stride = (count + 63) / 64 * 64 + shift;
          std::vector<TypeParam> own(static_cast<std::size_t>(count + shift)),
              others(static_cast<std::size_t>(stride * (ranks - 1)));
          std::uint64_t drawn = 0;
          for (auto* values : {&own, &others}) {
            for (TypeParam& v : *values)
              v = static_cast<TypeParam>(
                  static_cast<float>(random_normal(1, static_cast<std::uint64_t>(ranks), drawn++) * 100));
          }
          std::vector<TypeParam> should(static_cast<std::size_t>(count));
          std::vector<const std::byte*> parts;
          for (int r = 0; r < ranks; ++r) {
            const TypeParam* part = r == rank ? own.data() + shift : others.data() + (r < rank ? r : r - 1) * stride;
            parts.push_back(reinterpret_cast<const std::byte*>(part));
          }
          sum_of(dtype_of<TypeParam>)(std::as_writable_bytes(std::span(should)), parts);
          const auto first = own.size() > 0 ? own[0] : TypeParam{};
          fold_on_device(nullptr, dtype_of<TypeParam>, reinterpret_cast<std::byte*>(own.data() + shift),
                         reinterpret_cast<const std::byte*>(others.data()), stride, count, rank, ranks);
          const std::size_t bytes = should.size() * sizeof(TypeParam);
          ASSERT_TRUE(bytes == 0 || std::memcmp(own.data() + shift, should.data(), bytes) == 0)
              << count << " elements of rank " << rank << " of " << ranks << ", shifted by " << shift;
          if (shift > 0) {
            ASSERT_EQ(static_cast<float>(own[0]), static_cast<float>(first)) << "written before the beginning";
          }
        }
      }
    }
  }
}

TEST(DeviceFoldDtype, IntegersAreRefused) {
  EXPECT_THROW(fold_on_device(nullptr, Dtype::i32, nullptr, nullptr, 0, 0, 0, 2), Error);
}

}  // namespace
}  // namespace lexring
