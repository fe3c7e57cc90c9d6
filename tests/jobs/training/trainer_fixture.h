/// A small model's training on all ranks of a test, in a directory that they share.
#pragma once

#include <array>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "datasets/prepare.h"
#include "jobs/launch/devices.h"
#include "jobs/training/trainer.h"
#include "tests/support/mpi_world.h"

namespace lexring {

inline std::vector<float> all_values(Transformer& model) {
  std::vector<float> values;
  for (const Parameter& parameter : model.parameters()) {
    const auto part = parameter.value.to_host<float>();
    values.insert(values.end(), part.begin(), part.end());
  }
  return values;
}

class TrainerFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    Communicator& world = *lexring::testing::world();
    // The directory is of this launch of all ranks: rank 0 names it.
    std::array<std::int64_t, 1> id = {static_cast<std::int64_t>(std::random_device{}())};
    world.broadcast(std::as_writable_bytes(std::span(id)), 0);
    directory_ = std::filesystem::temp_directory_path() / ("lexring_trainer_" + std::to_string(id[0]));
    if (world.rank() == 0) {
      std::filesystem::create_directories(directory_);
      std::ofstream text(directory_ / "text.txt");
      for (int i = 0; i < 2000; ++i) text << "chunk " << i * 7919 % 1000 << " of the ring\n";
      text.close();
      PrepareOptions text_to_tokens;
      text_to_tokens.inputs = {(directory_ / "text.txt").string()};
      text_to_tokens.output = directory_ / "text.h5";
      prepare(text_to_tokens);
    }
    world.barrier();
    options_.train.length = 16;
    options_.train.batch = 6;
    options_.optimizer.warmup = 0;
    options_.model.vocab = 257;
    options_.checkpoint.directory = (directory_ / "run").string();
  }
  void TearDown() override {
    lexring::testing::world()->barrier();
    if (lexring::testing::world()->rank() == 0) std::filesystem::remove_all(directory_);
  }

  std::filesystem::path directory_;
  Options options_;
};

}  // namespace lexring
