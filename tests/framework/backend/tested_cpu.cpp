// The CPU backend at its highest level here, or at the one that --cpu.isa names: cpu_levels_test runs this program at
// each.
#include <iostream>
#include <optional>
#include <string_view>

#include <gtest/gtest.h>

#include "framework/backend/cpu_backend.h"
#include "tests/framework/backend/tested_backend.h"

namespace lexring::testing {
namespace {

std::optional<CpuLevel> level;

std::unique_ptr<Backend> make() { return make_cpu_backend(level.value_or(cpu_levels().back())); }

}  // namespace

TestedBackend tested_backend() { return {.name = "cpu", .make = make}; }

}  // namespace lexring::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  constexpr std::string_view key = "--cpu.isa=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with(key))
      lexring::testing::level = lexring::named<lexring::CpuLevel>(argument.substr(key.size())).value();
  }
  std::cout << lexring::testing::tested_backend().make()->describe() << "\n";
  return RUN_ALL_TESTS();
}
