#include "datasets/long_lines.h"

#include <gtest/gtest.h>

#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

/// The documents of a corpus whose lines beyond `long_line` bytes come in pieces, and what was bad or replaced.
struct Read {
  std::vector<std::string> documents, bad;
  std::int64_t replaced = 0;
  std::size_t pieces = 0;
};

Read read(const TempDirectory& directory, const std::string& content, std::size_t long_line, std::size_t piece_bytes) {
  write_file(directory / "c.jsonl", content);
  const auto corpus = find_corpus({(directory / "c.jsonl").string()});
  LongLines reader(CorpusReader(corpus.files, 64), corpus.files, long_line, piece_bytes);
  DocumentParser parser;
  Read out;
  TextBlock block;
  std::uint64_t bytes_read = 0;
  while (reader.next(block)) {
    EXPECT_GE(block.bytes_read, bytes_read);
    bytes_read = block.bytes_read;
    out.replaced += block.replaced;
    if (!block.bad.empty()) out.bad.push_back(block.bad);
    const bool piece = block.format == CorpusFormat::text;
    out.pieces += piece ? 1 : 0;
    parser.parse(
        block, corpus.files[0],
        [&](std::string_view text) {
          if (!piece || block.begins_document) out.documents.emplace_back();
          out.documents.back() += text;
        },
        [&](std::string message) { out.bad.push_back(std::move(message)); });
  }
  EXPECT_EQ(bytes_read, corpus.bytes);
  return out;
}

TEST(LongLines, DocumentsArePutTogetherAgain) {
  TempDirectory directory;
  std::string line_breaks, characters;
  for (int i = 0; i < 40; ++i) line_breaks += "line " + std::to_string(i) + "\n";
  for (int i = 0; i < 80; ++i) characters += "\xf0\x9f\x98\x80\xc3\xa4";
  const std::string mark = "\xef\xbb\xbf";
  const std::vector<std::string> documents = {"short", line_breaks, mark + characters, "", "short too", characters};
  std::string lines = mark;
  for (const auto& document : documents)
    lines += json_line(document) + std::string(300, ' ') + "\n";  // and long blank lines
  const auto whole = read(directory, lines, 1000000, 16);
  EXPECT_EQ(whole.pieces, 0u);
  for (const std::size_t piece : {4u, 16u, 100u, 1000u}) {
    const auto parts = read(directory, lines, 128, piece);
    EXPECT_EQ(parts.documents, documents);
    EXPECT_EQ(parts.documents, whole.documents);
    EXPECT_TRUE(parts.bad.empty());
    EXPECT_GE(parts.pieces, 3u);
  }
}

TEST(LongLines, WhatIsBadOrReplacedIsSaid) {
  TempDirectory directory;
  const std::string filling(500, 'x');
  const auto out = read(directory,
                        "{\"text\": \"" + filling + "\n{\"text\": \"\\ud800" + filling +
                            "\", \"n\": 1e400}\n{\"text\": 1, \"filling\": \"" + filling +
                            "\"}\n{\"text\": \"\", \"filling\": \"" + filling + "\"}\n" + json_line("last"),
                        128, 64);
  EXPECT_EQ(out.documents, (std::vector<std::string>{"\xef\xbf\xbd" + filling, "", "last"}));
  EXPECT_EQ(out.replaced, 1);
  ASSERT_EQ(out.bad.size(), 2u);
  expect_says(out.bad[0], "c.jsonl, line 1: broken JSON");
  expect_says(out.bad[1], "c.jsonl, line 3: no string");
}

}  // namespace
}  // namespace lexring::testing
