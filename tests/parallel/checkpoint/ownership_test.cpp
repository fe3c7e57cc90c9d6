#include "parallel/checkpoint/ownership.h"

#include <algorithm>

#include "tests/parallel/checkpoint/checkpoint_fixture.h"

namespace lexring {
namespace {

TEST(Ownership, IsBalancedAndDeterministic) {
  const std::vector<OwnedItem> items = {{"a", 10}, {"b", 70}, {"c", 40}, {"d", 30}, {"e", 40}, {"f", 10}};
  const auto owners = assign_owners(items, 2);
  EXPECT_EQ(owners, (std::vector<int>{1, 0, 1, 0, 1, 1}));
  EXPECT_EQ(assign_owners(items, 1), std::vector<int>(6, 0));
  EXPECT_TRUE(assign_owners({}, 3).empty());
}

TEST(Ownership, EveryTensorHasOneOwner) {
  const auto runtime = make_cpu_runtime();
  std::vector<LogicalTensor> all;
  for (int i = 0; i < 7; ++i) all.push_back(matrix_part<float>(*runtime, std::to_string(i), {i + 1, 2}, {0, 0}, {i + 1, 2}));
  std::vector<std::string> names;
  for (int replica = 0; replica < 3; ++replica) {
    for (const LogicalTensor& tensor : owned_tensors(all, replica, 3)) names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"0", "1", "2", "3", "4", "5", "6"}));
}

}  // namespace
}  // namespace lexring
