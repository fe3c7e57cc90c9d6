#include "jobs/training/metrics.h"

#include <fstream>
#include <limits>
#include <sstream>

#include <gtest/gtest.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.h"
#include "jobs/launch/progress_bar.h"
#include "jobs/training/training_batches.h"

namespace lexring {
namespace {

std::string text_of_file(const std::filesystem::path& path) {
  std::ifstream stream(path);
  std::stringstream text;
  text << stream.rdbuf();
  return text.str();
}

TEST(ProgressBar, DurationsAndCountsAsPeopleReadThem) {
  EXPECT_EQ(format_duration(0.4), "0 s");
  EXPECT_EQ(format_duration(59.6), "1 min 0 s");
  EXPECT_EQ(format_duration(245), "4 min 5 s");
  EXPECT_EQ(format_duration(3599.7), "1 h 0 min");
  EXPECT_EQ(format_duration(3723), "1 h 2 min");
  EXPECT_EQ(format_count(789), "789");
  EXPECT_EQ(format_count(45600), "45.6k");
}

TEST(Metrics, AResumeCutsTheFileBackToItsStep) {
  const auto path = std::filesystem::temp_directory_path() / ("lexring_metrics_" + std::to_string(getpid()) + ".jsonl");
  {
    MetricsFile writer(path, 0);
    for (int step = 1; step <= 5; ++step) writer.write({.step = step, .loss = 5.0 - step});
  }
  std::ofstream(path, std::ios::app) << "{\"step\": 6, \"lo";  // killed while writing
  {
    MetricsFile writer(path, 3);
    writer.write({.step = 4, .loss = std::numeric_limits<double>::quiet_NaN(), .skipped = true});
  }
  std::stringstream lines(text_of_file(path));
  std::vector<nlohmann::json> steps;
  for (std::string line; std::getline(lines, line);) steps.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(steps.size(), 4U);
  EXPECT_EQ(steps[2]["step"], 3);
  EXPECT_EQ(steps[3]["step"], 4);
  EXPECT_TRUE(steps[3]["loss"].is_null());
  EXPECT_EQ(steps[3]["skipped"], true);
  for (const char* key : {"gradient_norm", "lr", "epochs", "tokens_per_second", "flops", "memory", "seconds"})
    EXPECT_TRUE(steps[0].contains(key)) << key;
  MetricsFile(path, 0);
  EXPECT_EQ(text_of_file(path), "");
  std::filesystem::remove(path);
}

TEST(Metrics, ARunThatGoesBackTakesLaterLinesWithIt) {
  const auto path = std::filesystem::temp_directory_path() / ("lexring_back_" + std::to_string(getpid()) + ".jsonl");
  MetricsFile writer(path, 0);
  for (int step = 1; step <= 5; ++step) writer.write({.step = step});
  writer.begin(3, 9);
  writer.write({.step = 4, .computed_twice = "transient", .spike_score = 2.5});
  std::stringstream lines(text_of_file(path));
  std::vector<nlohmann::json> steps;
  for (std::string line; std::getline(lines, line);) steps.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(steps.size(), 4U);
  EXPECT_EQ(steps[3]["step"], 4);
  EXPECT_EQ(steps[3]["spike_score"], 2.5);
  EXPECT_EQ(steps[3]["computed_twice"], "transient");
  EXPECT_FALSE(steps[0].contains("spike_score") || steps[0].contains("computed_twice"));
  writer.begin(0, 9);
  EXPECT_EQ(text_of_file(path), "");
  std::filesystem::remove(path);
}

TEST(TrainingBatches, ReplicasHoldContiguousSlicesInMicroBatches) {
  using Ranges = std::vector<SampleRange>;
  EXPECT_EQ(micro_batches(100, 12, 0, 2, 4), (Ranges{{100, 4}, {104, 2}}));
  EXPECT_EQ(micro_batches(100, 12, 1, 2, 4), (Ranges{{106, 4}, {110, 2}}));
  EXPECT_EQ(micro_batches(0, 6, 2, 3, 0), (Ranges{{4, 2}}));
  EXPECT_EQ(micro_batches(0, 2, 0, 1, 8), (Ranges{{0, 2}}));
  try {
    micro_batches(0, 8, 0, 3, 0);
    FAIL() << "8 sequences do not divide over 3 replicas";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("multiple of 3, e.g. 9"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace lexring
