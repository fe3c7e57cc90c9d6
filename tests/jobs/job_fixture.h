/// A temporary directory with a small data set, and the built binary to use on it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "tests/support/process.h"

namespace lexring {

class JobTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared() = std::filesystem::temp_directory_path() / ("lexring_jobs_" + std::to_string(getpid()));
    std::filesystem::create_directories(shared());
    write_text(shared() / "text.txt", 40000);
    const auto made =
        run_process(binary() + " prepare --input " + (shared() / "text.txt").string() + " --output " + data());
    ASSERT_EQ(made.exit_code, 0) << made.output;
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(shared()); }

  static std::string binary() { return LEXRING_BINARY; }
  static std::filesystem::path& shared() {
    static std::filesystem::path path;
    return path;
  }
  static std::string data() { return (shared() / "text.h5").string(); }
  /// A run's directory of this test.
  static std::string run(const std::string& name) {
    return (shared() / (std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) + "_" + name))
        .string();
  }
  /// `lexring train` of a tiny model into a run's directory.
  static std::string train(const std::string& name, const std::string& keys) {
    return binary() +
           " train --model.layers 2 --model.width 32 --model.heads 2 --train.length 32 --train.batch 6 "
           "--optimizer.warmup 3 --optimizer.lr 0.01 --checkpoint.every 0 --data.train " +
           data() + " --checkpoint.directory " + run(name) + " " + keys;
  }

  /// A command that ends with `exit_code` and one message, in which `words` are; returns what it printed.
  static std::string expect_refused(const std::string& command, const std::string& words, int exit_code = 2) {
    const ProcessResult result = run_process(command, 60);
    EXPECT_EQ(result.exit_code, exit_code) << command << "\n" << result.output;
    EXPECT_EQ(occurrences(result.output, "lexring: "), 1) << command << "\n" << result.output;
    EXPECT_GE(occurrences(result.output, words), 1) << command << "\n" << result.output;
    EXPECT_LT(result.seconds, 60) << command;
    return result.output;
  }

  static void write_text(const std::filesystem::path& path, int bytes) {
    const std::vector<std::string> words = {"ring", "attention", "chunk",  "halo", "rank", "the",
                                            "of",   "a",         "passes", "keys", "\n"};
    std::mt19937 random(7);
    std::ofstream stream(path);
    for (int written = 0; written < bytes;) {
      const std::string& word = words[random() % words.size()];
      stream << word << ' ';
      written += static_cast<int>(word.size()) + 1;
    }
    stream << '\n';
  }

  /// Lines of metrics.jsonl.
  static std::vector<nlohmann::json> metrics(const std::string& name) {
    std::ifstream stream(run(name) + "/metrics.jsonl");
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(stream, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }
  /// Step, loss, gradient norm and learning rate, every bit of them.
  static std::string trajectory(const std::string& name) {
    std::string text;
    for (const auto& line : metrics(name)) {
      text += line["step"].dump() + " " + line["loss"].dump() + " " + line["gradient_norm"].dump() + " " +
              line["lr"].dump() + "\n";
    }
    return text;
  }
};

}  // namespace lexring
