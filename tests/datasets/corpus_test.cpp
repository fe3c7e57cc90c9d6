#include "datasets/corpus.h"

#include <gtest/gtest.h>

#include "datasets/document_parser.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

/// All blocks of a corpus put together again, with checks of their borders.
std::string read_back(const std::vector<CorpusFile>& files, std::size_t block_bytes) {
  CorpusReader reader(files, block_bytes);
  TextBlock block;
  std::string all;
  std::uint64_t bytes_read = 0;
  bool begins = true;
  while (reader.next(block)) {
    EXPECT_GE(block.storage.size(), block.size + TextBlock::padding);
    EXPECT_EQ(block.begins_document, begins);
    begins = block.ends_document;
    if (files[block.file].format == CorpusFormat::json_lines && !begins) {
      EXPECT_EQ(block.text().back(), '\n');
    }
    EXPECT_GE(block.bytes_read, bytes_read);
    bytes_read = block.bytes_read;
    all += block.text();
  }
  std::uint64_t total = 0;
  for (const auto& file : files) total += file.bytes;
  EXPECT_EQ(bytes_read, total);
  return all;
}

TEST(Corpus, BlocksOfAnySizeAreTheFile) {
  TempDirectory directory;
  std::string text, lines;
  for (int i = 0; i < 300; ++i) text += "\xe2\x82\xac" + std::to_string(i) + (i % 7 == 0 ? "\n" : "");
  for (int i = 0; i < 100; ++i) lines += json_line(std::string(static_cast<std::size_t>(i * i % 97), 'x'));
  lines.pop_back();  // no line break at the end
  write_file(directory / "a.txt", text);
  write_file(directory / "b.jsonl", lines);
  write_file(directory / "c.jsonl.zst", zstd(lines) + zstd("\n") + zstd(lines));  // several frames
  write_file(directory / "d.md.zst", zstd(text));
  const auto corpus = find_corpus({directory.path().string()});
  ASSERT_EQ(corpus.files.size(), 4u);
  for (const std::size_t block : {1u, 5u, 64u, 1000u, 1000000u}) {
    EXPECT_EQ(read_back(corpus.files, block), text + lines + lines + "\n" + lines + text) << block;
  }
}

TEST(Corpus, DirectoriesAreSortedAndOtherFilesCounted) {
  TempDirectory directory;
  write_file(directory / "z.txt", "z");
  write_file(directory / "a" / "2.pod", "2");
  write_file(directory / "a" / "1.md", "1");
  write_file(directory / "picture.png", "no text");
  const auto corpus = find_corpus({(directory / "z.txt").string(), directory.path().string()});
  std::vector<std::string> names;
  for (const auto& file : corpus.files) names.push_back(file.path.filename());
  EXPECT_EQ(names, (std::vector<std::string>{"z.txt", "1.md", "2.pod", "z.txt"}));
  EXPECT_EQ(corpus.left_out.count, 1);
  EXPECT_EQ(corpus.bytes, 4u);
}

TEST(Corpus, InputsThatCannotBe) {
  TempDirectory directory;
  write_file(directory / "sheet.xls", "?");
  std::filesystem::create_directory(directory / "empty");
  expect_says(error_of([] { find_corpus({"/dev/null"}); }), "/dev/null is neither a file nor a directory");
  expect_says(error_of([] { find_corpus({}); }), "no corpus", "--input", ".jsonl");
  expect_says(error_of([] { find_corpus({"nowhere.txt"}); }), "no corpus file nowhere.txt", "--input");
  expect_says(error_of([&] { find_corpus({(directory / "sheet.xls").string()}); }), "sheet.xls", "no known kind",
              ".txt");
  expect_says(error_of([&] { find_corpus({(directory / "empty").string()}); }), "no corpus file in directory", "empty");
}

TEST(Corpus, ZstdThatIsCutOrDamaged) {
  TempDirectory directory;
  std::string lines;
  for (int i = 0; i < 3000; ++i) lines += json_line(std::to_string(i * 7919));
  const auto packed = zstd(lines);
  const auto read = [&](const std::string& content, std::size_t block_bytes) {
    write_file(directory / "c.jsonl.zst", content);
    return error_of([&] { read_back(find_corpus({(directory / "c.jsonl.zst").string()}).files, block_bytes); });
  };
  for (const std::size_t block : {100u, 1000000u}) {
    expect_says(read(packed.substr(0, packed.size() / 2), block), "c.jsonl.zst", "truncated");
    expect_says(read(packed.substr(0, packed.size() - 1), block), "c.jsonl.zst", "truncated");
    expect_says(read("", block), "c.jsonl.zst", "truncated");
    expect_says(read("this is no zstd", block), "c.jsonl.zst", "not sound zstd");
    expect_says(read(packed + "tail", block), "c.jsonl.zst", "not sound zstd");
  }
}

TEST(Corpus, FilesThatChangeWhileTheyAreRead) {
  TempDirectory directory;
  for (const std::string later : {"longer than it was", "shorter"}) {
    write_file(directory / "log.txt", "eleven long");
    const auto corpus = find_corpus({(directory / "log.txt").string()});
    write_file(directory / "log.txt", later);
    expect_says(error_of([&] { read_back(corpus.files, 1000); }), "log.txt has changed while it was read", "11 bytes",
                "ends at " + std::to_string(later.size()));
  }
}

/// Frames that some tools put between those with text: pzstd's are skippable, and a stream may hold empty ones.
TEST(Corpus, ZstdFramesWithoutText) {
  TempDirectory directory;
  const std::string skippable("\x50\x2a\x4d\x18\x03\x00\x00\x00xyz", 11);
  write_file(directory / "c.txt.zst", skippable + zstd("one ") + zstd("") + skippable + zstd("two") + skippable);
  EXPECT_EQ(read_back(find_corpus({directory.path().string()}).files, 1000), "one two");
  write_file(directory / "c.txt.zst", zstd("one ") + skippable.substr(0, 9));
  expect_says(error_of([&] { read_back(find_corpus({directory.path().string()}).files, 1000); }), "truncated");
}

/// What the parser makes of one file: pieces, and complaints.
struct Parsed {
  std::vector<std::string> pieces, bad;
  std::int64_t replaced = 0;
};
Parsed parse(const TempDirectory& directory, const std::string& name, const std::string& content,
             std::size_t block_bytes) {
  write_file(directory / name, content);
  const auto corpus = find_corpus({(directory / name).string()});
  CorpusReader reader(corpus.files, block_bytes);
  DocumentParser parser;
  TextBlock block;
  Parsed parsed;
  while (reader.next(block)) {
    parsed.replaced += parser.parse(
        block, corpus.files[0], [&](std::string_view text) { parsed.pieces.emplace_back(text); },
        [&](std::string message) { parsed.bad.push_back(std::move(message)); });
  }
  return parsed;
}

TEST(DocumentParser, JsonLines) {
  TempDirectory directory;
  const std::string lines = R"({"text": "one\nline"})"
                            "\r\n\n  \n"
                            R"({"meta": {"a": [1, 2]}, "text": "\u00e4\ud83d\ude00"})"
                            "\n"
                            R"({"text": ""})";
  for (const std::size_t block : {1u, 30u, 1000u}) {
    const auto parsed = parse(directory, "good.jsonl", lines, block);
    EXPECT_EQ(parsed.pieces, (std::vector<std::string>{"one\nline", "\xc3\xa4\xf0\x9f\x98\x80", ""}));
    EXPECT_TRUE(parsed.bad.empty());
  }
}

TEST(DocumentParser, WhatPythonReadsIsRead) {
  TempDirectory directory;
  const std::string lines =
      "{\"id\": 123456789012345678901234567890, \"text\": \"big\", \"size\": 1e400, \"sizes\": "
      "[-1E+999,-99999999999999999999.5]}\n"
      "{\"text\": \"twice\", \"text\": \"the last counts 1e400\"}\n"
      "{\"text\": \"\\ud800 \\uDC00 \\ud83d\\ude00 \\ud83d\\ud83d\\ude00\\\\ud800\"}\n";
  for (const std::size_t block : {1u, 100u, 1000u}) {
    const auto parsed = parse(directory, "python.jsonl", lines, block);
    EXPECT_EQ(parsed.pieces, (std::vector<std::string>{
                                 "big", "the last counts 1e400",
                                 "\xef\xbf\xbd \xef\xbf\xbd \xf0\x9f\x98\x80 \xef\xbf\xbd\xf0\x9f\x98\x80\\ud800"}));
    EXPECT_TRUE(parsed.bad.empty()) << parsed.bad[0];
    EXPECT_EQ(parsed.replaced, 3);
  }
}

TEST(DocumentParser, ByteOrderMarksAreDropped) {
  TempDirectory directory;
  const std::string mark = "\xef\xbb\xbf";
  for (const std::size_t block : {1u, 20u, 1000u}) {
    const auto lines =
        parse(directory, "marked.jsonl", mark + json_line("one") + mark + json_line(mark + "two") + mark + "\n", block);
    EXPECT_EQ(lines.pieces, (std::vector<std::string>{"one", mark + "two"}));
    EXPECT_TRUE(lines.bad.empty()) << lines.bad[0];
    std::string text;
    for (const auto& piece : parse(directory, "marked.txt", mark + "some\n" + mark + "text", block).pieces)
      text += piece;
    EXPECT_EQ(text, "some\n" + mark + "text");
  }
  const auto wide = parse(directory, "wide.txt", std::string("\xff\xfeh\0i\0", 6), 1000);
  ASSERT_EQ(wide.bad.size(), 1u);
  expect_says(wide.bad[0], "wide.txt, line 1", "UTF-16", "iconv");
}

TEST(DocumentParser, BadLinesAreNamed) {
  TempDirectory directory;
  const std::vector<std::pair<std::string, std::string>> bad = {
      {R"({"text": "never closed)", "broken JSON"},
      {R"({"text": "fine", "meta": {"broken": tru}})", "broken JSON"},
      {R"({"text": "fine"} {"text": "and more"})", "broken JSON"},
      {R"({"title": "no text"})", "no string under \"text\""},
      {R"({"text": 5})", "no string under \"text\""},
      {R"({"title": "\ud800"})", "no string under \"text\""},
      {R"(["text"])", "a JSON array"},
      {R"("text")", "not a JSON object"},
      {"{\"text\": \"latin \xe4\"}", "byte 0xe4 begins no UTF-8 character (byte 16 of the line)"},
      {R"({"text": "one", "score": NaN})", "it holds NaN or Infinity"},
      {R"({"text": "one", "scores": [1, -Infinity]})", "it holds NaN or Infinity"},
      {R"({"text": "one", "score": nan})", "broken JSON"},
      {R"({"text": "one", "score": 01})", "broken JSON"},
      {R"({"text": "one", "score": 1.e5})", "broken JSON"},
      {"[", "a JSON array"},
      {"{", "does not end on its line"},
  };
  for (const auto& [line, cause] : bad) {
    for (const std::size_t block : {1u, 60u, 1000u}) {
      const auto parsed =
          parse(directory, "bad.jsonl", json_line("first") + "\n" + line + "\n" + json_line("last"), block);
      EXPECT_EQ(parsed.pieces, (std::vector<std::string>{"first", "last"})) << line;
      ASSERT_EQ(parsed.bad.size(), 1u) << line;
      expect_says(parsed.bad[0], "bad.jsonl, line 3: ", cause);
      EXPECT_EQ(parsed.replaced, 0) << line;
    }
  }
}

TEST(DocumentParser, NoCharacterIsCutInTwo) {
  TempDirectory directory;
  std::string text;
  for (int i = 0; i < 50; ++i) text += "x\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";  // 1 to 4 bytes each, and no line break
  for (const std::size_t block : {1u, 2u, 7u, 64u, 1000u}) {
    const auto parsed = parse(directory, "good.txt", text, block);
    EXPECT_TRUE(parsed.bad.empty()) << parsed.bad[0];
    std::string all;
    for (const auto& piece : parsed.pieces) all += piece;
    EXPECT_EQ(all, text);
  }
}

TEST(DocumentParser, TextThatIsNotUtf8) {
  TempDirectory directory;
  for (const std::size_t block : {1u, 8u, 1000u}) {
    const auto parsed = parse(directory, "bad.txt", "one\ntwo\n\nfour \xff\n", block);
    ASSERT_EQ(parsed.bad.size(), 1u);
    expect_says(parsed.bad[0], "bad.txt, line 4 (byte 14): byte 0xff");
  }
}

}  // namespace
}  // namespace lexring::testing
