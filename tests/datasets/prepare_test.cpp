#include "datasets/prepare.h"

#include <gtest/gtest.h>

#include "datasets/inspect.h"
#include "framework/base/error.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

PrepareOptions options_for(const TempDirectory& directory, const std::vector<std::string>& names, int threads = 2) {
  PrepareOptions options;
  for (const auto& name : names) options.inputs.push_back((directory / name).string());
  options.output = directory / "out.h5";
  options.existing = Existing::replace;
  options.threads = threads;
  return options;
}

TEST(Prepare, EveryKindOfInputInItsOrder) {
  TempDirectory directory;
  write_file(directory / "b.txt", "plain");
  write_file(directory / "pages" / "2.pod", "=head1 two");
  write_file(directory / "pages" / "1.md", "# one");
  write_file(directory / "pages" / "other.png", "");
  write_file(directory / "a.jsonl", json_line("first") + json_line("") + json_line("second\n"));
  write_file(directory / "c.jsonl.zst", zstd(json_line("packed")));
  write_file(directory / "empty.txt", "");
  PrepareProgress last;
  const auto report = prepare(options_for(directory, {"b.txt", "pages", "a.jsonl", "empty.txt", "c.jsonl.zst"}),
                              [&](const PrepareProgress& progress) {
                                EXPECT_GE(progress.bytes, last.bytes);
                                last = progress;
                              });
  const auto dataset = Dataset::open(directory / "out.h5");
  EXPECT_EQ(texts_of(dataset),
            (std::vector<std::string>{"plain", "# one", "=head1 two", "first", "second\n", "packed"}));
  EXPECT_EQ(report.documents, 6);
  EXPECT_EQ(report.files, 6);
  EXPECT_EQ(report.empty, 2);
  EXPECT_EQ(report.left_out.count, 1);
  expect_says(report.left_out.examples.at(0), "other.png (of no known kind)");
  EXPECT_EQ(report.text_bytes, 5u + 5 + 10 + 5 + 7 + 6);
  EXPECT_EQ(report.tokens, dataset.tokens());
  EXPECT_EQ(last.bytes, last.total_bytes);
  EXPECT_EQ(last.documents, 6);
  EXPECT_EQ(last.tokens, dataset.tokens());
  EXPECT_EQ(dataset.vocab(), 257);
  EXPECT_EQ(dataset.tokenizer(), "bytes");
  expect_says(dataset.source(), "b.txt", "c.jsonl.zst");
  EXPECT_EQ(report.content_hash, dataset.content_hash());
  EXPECT_TRUE(inspect_dataset(directory / "out.h5", Verify::yes).verified);
}

TEST(Prepare, TheFileDoesNotDependOnThreads) {
  TempDirectory directory;
  std::string lines, text;
  for (int i = 0; i < 4000; ++i)
    lines += json_line(std::string(static_cast<std::size_t>(i * 131 % 2003), static_cast<char>('a' + i % 26)));
  while (text.size() < 3'000'000)
    text += "one long document in several pieces, with \xe2\x82\xac and " + std::to_string(text.size()) + "\n";
  write_file(directory / "a.jsonl", lines);
  write_file(directory / "b.txt", text);
  std::string first;
  for (const int threads : {1, 2, 5}) {
    prepare(options_for(directory, {"a.jsonl", "b.txt", "a.jsonl"}, threads));
    const auto dataset = Dataset::open(directory / "out.h5");
    if (first.empty()) {
      first = dataset.content_hash();
      const auto texts = texts_of(dataset);
      ASSERT_EQ(texts.size(), static_cast<std::size_t>(2 * (4000 - 2) + 1));  // i = 0 and i = 2003 are empty
      EXPECT_EQ(texts[3998], text);
    }
    EXPECT_EQ(dataset.content_hash(), first);
  }
}

TEST(Prepare, BadInputIsSkippedOnlyWhenAskedTo) {
  TempDirectory directory;
  std::string long_bad;
  while (long_bad.size() < 2'500'000) long_bad += "good so far\n";
  write_file(directory / "a.txt", "kept");
  write_file(directory / "b.txt",
             long_bad + "\xff\n" + long_bad + "\xfe");  // bad in its last pieces: the first are taken back
  write_file(directory / "c.txt", "kept too");
  write_file(directory / "d.jsonl", json_line("one") + "{broken\n" + json_line("two") + "{\"text\": 3}\n");
  auto options = options_for(directory, {"a.txt", "b.txt", "c.txt", "d.jsonl"});
  expect_says(error_of([&] { prepare(options); }), "b.txt, line", "0xff", "--skip-bad");
  EXPECT_FALSE(std::filesystem::exists(options.output));
  options.bad_input = BadInput::skip;
  const auto report = prepare(options);
  EXPECT_EQ(texts_of(Dataset::open(options.output)), (std::vector<std::string>{"kept", "kept too", "one", "two"}));
  EXPECT_EQ(report.skipped, 3);
  ASSERT_EQ(report.skipped_examples.size(), 3u);
  expect_says(report.skipped_examples[0], "b.txt, line");
  expect_says(report.skipped_examples[1], "d.jsonl, line 2");
  expect_says(report.skipped_examples[2], "d.jsonl, line 4");
  EXPECT_EQ(report.text_bytes, 4u + 8 + 3 + 3);
}

}  // namespace
}  // namespace lexring::testing
