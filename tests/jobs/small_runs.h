/// A directory of a test's own with a small text and its data set, and training runs of seconds.
#pragma once

#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include <fmt/format.h>

#include "tests/support/process.h"

namespace lexring {

class SmallRuns : public testing::Test {
 protected:
  SmallRuns() : directory_(std::filesystem::temp_directory_path() / fmt::format("lexring_runs_{}", getpid())) {
    std::filesystem::create_directories(directory_);
    std::ofstream text_file(text());
    std::mt19937 random(7);
    for (int i = 0; i < 300000; ++i) text_file << static_cast<char>('a' + random() % 26);
    text_file.close();
    const auto made = run_process(binary() + " prepare --input " + text() + " --output " + data());
    EXPECT_EQ(made.exit_code, 0) << made.output;
  }
  ~SmallRuns() override { std::filesystem::remove_all(directory_); }

  static std::string binary() { return LEXRING_BINARY; }
  std::filesystem::path run(const std::string& name) const { return directory_ / name; }
  std::string text() const { return run("text.txt").string(); }
  std::string data() const { return run("text.h5").string(); }
  std::string train(const std::string& name, const std::string& keys) const {
    return fmt::format(
        "{} train --device cpu --train.precision fp32 --model.layers 1 --model.width 32 --model.heads 2 --train.length "
        "16 --train.batch 2 --optimizer.warmup 1 --checkpoint.every 0 --data.train {} --checkpoint.directory {} {} ",
        binary(), data(), run(name).string(), keys);
  }
  static std::string content(const std::filesystem::path& path) {
    std::ifstream stream(path);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

 private:
  std::filesystem::path directory_;
};

}  // namespace lexring
