#include "datasets/tasks/task.h"

#include <gtest/gtest.h>

#include <fstream>

#include "datasets/batches.h"
#include "datasets/inspect.h"
#include "datasets/prepare_task.h"
#include "framework/base/error.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

std::uint64_t fnv(const std::string& data) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : data) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return hash;
}

std::string answers_of(const ScoredText& text) {
  std::string all;
  for (const Answer& answer : text.answers)
    all += (all.empty() ? "" : " ") + text.text.substr(static_cast<std::size_t>(answer.begin),
                                                       static_cast<std::size_t>(answer.end - answer.begin));
  return all;
}

TEST(Tasks, EqualTheReferencesByteForByte) {
  std::ifstream golden(LEXRING_SOURCE "/tests/datasets/tasks_golden.txt");
  std::string name;
  std::uint64_t seed = 0;
  std::int64_t size = 0, bytes = 0, answers = 0;
  TaskSettings settings;
  std::string hash;
  int read = 0;
  while (golden >> name >> seed >> size >> settings.depth >> settings.ignore >> settings.reversed_sum >> bytes >>
         answers >> hash) {
    SCOPED_TRACE(fmt::format("{} {} {}", name, seed, size));
    const ScoredText text = make_text(find_task(name), seed, size, settings);
    std::string all = text.text;
    for (const Answer& answer : text.answers) all += fmt::format(" {} {}", answer.begin, answer.end);
    EXPECT_EQ(static_cast<std::int64_t>(text.text.size()), bytes);
    EXPECT_EQ(static_cast<std::int64_t>(text.answers.size()), answers);
    EXPECT_EQ(fmt::format("{:016x}", fnv(all)), hash) << text.text.substr(0, 400);
    ++read;
  }
  EXPECT_EQ(read, 990);
}

TEST(Tasks, HaveTheAnswersThatPeopleWouldGive) {
  const auto answer_to = [](const char* task, std::int64_t size) {
    const ScoredText text = make_text(find_task(task), 3, size);
    return std::pair(text.text.substr(0, static_cast<std::size_t>(text.answers[0].begin)), answers_of(text));
  };
  const auto [bits, ones] = answer_to("parity", 9);
  EXPECT_EQ(ones, std::count(bits.begin(), bits.end(), '1') % 2 == 1 ? "1" : "0");
  const auto [letters, copy] = answer_to("copy", 6);
  EXPECT_EQ(letters.substr(0, 6) + ".", copy);
  const auto [sum, total] = answer_to("addition", 4);
  EXPECT_EQ(std::stoi(sum.substr(0, 4)) + std::stoi(sum.substr(5, 4)), std::stoi(total));
  const auto [number, root] = answer_to("compute_sqrt", 8);
  const int n = std::stoi(number, nullptr, 2), r = std::stoi(root, nullptr, 2);
  EXPECT_TRUE(r * r <= n && n < (r + 1) * (r + 1));
}

TEST(Tasks, ANeedleLiesInItsHaystackAtItsDepth) {
  TaskSettings settings;
  settings.haystack = std::make_shared<const std::string>("All happy families are alike. Every unhappy family is so. ");
  const auto at = [&](double depth) {
    settings.depth = depth;
    const ScoredText text = make_text(find_task("needle"), 5, 2000, settings);
    EXPECT_EQ(text.text.size(), 2000U);
    const std::size_t place = text.text.find("One of the special magic numbers for ");
    const std::string number = text.text.substr(text.text.find(" is: ", place) + 5, 7);
    EXPECT_EQ(answers_of(text), " " + number + ".");
    EXPECT_TRUE(place == 0 || text.text[place - 1] == ' ' || text.text[place - 1] == '\n') << place;
    return place;
  };
  EXPECT_LT(at(0), 150U);
  EXPECT_NEAR(static_cast<double>(at(0.5)), 1000, 60);
  EXPECT_GT(at(1), 1750U);
  // Drawn places, and drawn pieces of the haystack.
  settings.depth = -1;
  EXPECT_NE(make_text(find_task("needle"), 5, 2000, settings).text.substr(135, 99),
            make_text(find_task("needle"), 6, 2000, settings).text.substr(135, 99));
  EXPECT_THROW(make_text(find_task("needle"), 5, 2000), Error);
}

TEST(Tasks, RefuseWhatCannotBe) {
  EXPECT_EQ(error_of([] { find_task("parrity"); }).substr(0, 68),
            "there is no task 'parrity'; choose passkey, needle, lines, flip_flop");
  EXPECT_EQ(error_of([] { make_text(find_task("passkey"), 1, 299); }),
            "task passkey of 299 bytes is impossible; the least is 300");
  // More lines than there are names would never end.
  EXPECT_EQ(error_of([] { make_text(find_task("lines"), 1, 400000000); }),
            "task lines of 400000000 lines is impossible; the most is 1000000");
}

TaskDataset flip_flops(const TempDirectory& directory) {
  return {.task = "flip_flop",
          .least = 4,
          .most = 9,
          .settings = {},
          .count = 50,
          .seed = 7,
          .window = 25,
          .output = directory / "task.h5",
          .existing = Existing::replace,
          .interrupted = {}};
}

TEST(PrepareTask, LaysWholeTextsIntoWindowsWhereOnlyAnswersCount) {
  TempDirectory directory;
  const TaskDataset options = flip_flops(directory);
  const TaskReport report = prepare_task(options);
  const Dataset dataset = Dataset::open(options.output);
  EXPECT_EQ(dataset.window(), 25);
  EXPECT_EQ(dataset.tokens() % 25, 1);
  EXPECT_EQ(dataset.content_hash(), report.content_hash);
  const DatasetSummary summary = inspect_dataset(options.output, Verify::yes);  // answers belong to the hash
  EXPECT_EQ(summary.answers, report.answers);
  expect_says(to_text(summary), "whole texts in 25 tokens");
  std::int64_t answers = 0;
  std::vector<std::string> texts;
  for (const std::string& text : texts_of(dataset))
    if (!text.empty()) texts.push_back(text);
  ASSERT_EQ(texts.size(), 50U);
  std::string expected;
  for (std::int64_t i = 0; i < 50; ++i) {
    const ScoredText text = text_of_series(find_task("flip_flop"), 7, i, 4, 9, {});
    EXPECT_EQ(texts[static_cast<std::size_t>(i)], text.text);
    for (const Answer& answer : text.answers) expected += text.text[static_cast<std::size_t>(answer.begin)];
    answers += static_cast<std::int64_t>(text.answers.size());
  }
  EXPECT_EQ(report.answers, answers);

  // The targets of all windows are the answers, each after a text that began in its window.
  for (const std::int64_t every : {0, 1, 2, 4, 24, 25, 26}) {
    Dataset read = Dataset::open(options.output);
    read.insert_landmarks(every);
    const std::int64_t window = every > 0 ? 25 + 25 / every : 25;
    ASSERT_EQ(read.window(), window);
    const TokenBatch all = read_windows(read, 0, read.tokens() / window, window, Documents::mask);
    ASSERT_EQ(all.sequences, dataset.tokens() / 25);
    std::string found;
    for (std::size_t i = 0; i < all.targets.size(); ++i) {
      const auto begin = i / static_cast<std::size_t>(window) * static_cast<std::size_t>(window);
      const auto place = static_cast<std::int64_t>(i - begin) - all.document_start[i];
      ASSERT_EQ(all.tokens[i] == 257, every > 0 && place % (every + 1) == every) << every << " " << i;
      if (all.targets[i] < 0) continue;
      found += static_cast<char>(all.targets[i]);
      EXPECT_EQ(all.tokens[i], 'r');
      EXPECT_EQ(all.tokens[begin + static_cast<std::size_t>(all.document_start[i])], 'w');
    }
    EXPECT_EQ(found, expected) << every;
  }
}

TEST(PrepareTask, ASamplerOfAnotherLengthWouldCutTexts) {
  TempDirectory directory;
  const TaskDataset options = flip_flops(directory);
  prepare_task(options);
  const Dataset dataset = Dataset::open(options.output);
  expect_says(error_of([&] { Sampler(dataset, 24, 1, Documents::mask); }), "set train.length = 25");
  EXPECT_EQ(Sampler(dataset, 25, 1, Documents::mask).windows(), dataset.tokens() / 25);
  EXPECT_EQ(Sampler(dataset, 50, 1, Documents::mask).windows(), dataset.tokens() / 50);
}

TEST(PrepareTask, RefusesWhatCannotBe) {
  TempDirectory directory;
  TaskDataset options = flip_flops(directory);
  options.window = 18;
  expect_says(error_of([&] { prepare_task(options); }), "do not hold the longest text, which has 19 with its end");
  options = flip_flops(directory);
  options.most = 3;
  expect_says(error_of([&] { prepare_task(options); }), "sizes 4 to 3 of task flip_flop are impossible");
  options = flip_flops(directory);
  options.settings.depth = -0.5;
  expect_says(error_of([&] { prepare_task(options); }), "depth = -0.5 is no share of the filler");
  options = flip_flops(directory);
  options.interrupted = [] { return true; };
  expect_says(error_of([&] { prepare_task(options); }), "interrupted");
  EXPECT_TRUE(directory.names().empty());
}

}  // namespace
}  // namespace lexring::testing
