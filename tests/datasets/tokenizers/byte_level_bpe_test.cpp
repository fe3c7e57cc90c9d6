#include "datasets/tokenizers/byte_level_bpe.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include <gtest/gtest.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "datasets/tokenizers/merges.h"
#include "datasets/tokenizers/split_pattern.h"
#include "datasets/tokenizers/tokenizer_json.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

using Json = nlohmann::json;

/// Written by bpe_golden.py beside this file: tokenizers, texts, and the ids that Hugging Face's library gives.
const Json& golden() {
  static const Json file =
      Json::parse(std::ifstream(std::string(LEXRING_SOURCE) + "/tests/datasets/tokenizers/bpe_golden.json"));
  return file;
}

std::string stored(const Json& tokenizer) {
  return Json{{"end_of_document", "<|endoftext|>"}, {"tokenizer", tokenizer}}.dump();
}

std::vector<std::uint32_t> ids_of(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::uint32_t> ids;
  tokenizer.encode(text, ids);
  return ids;
}

class BpeLayout : public ::testing::TestWithParam<std::string> {
 protected:
  const Json& layout = golden()["tokenizers"][GetParam()];
  ByteLevelBpeTokenizer tokenizer{stored(layout["tokenizer"])};
};

TEST_P(BpeLayout, GivesTheIdsOfHuggingFace) {
  const auto encoder = tokenizer.encoder();
  for (const char* again : {"", "from the words that are kept"}) {
    for (std::size_t i = 0; i < golden()["texts"].size(); ++i) {
      const auto text = golden()["texts"][i].get<std::string>();
      std::vector<std::uint32_t> ids = {4242};
      encoder->encode(text, ids);
      ids.erase(ids.begin());
      ASSERT_EQ(ids, layout["ids"][i].get<std::vector<std::uint32_t>>()) << again << " text " << i << ": " << text;
    }
  }
}

TEST_P(BpeLayout, IdsStandForTheText) {
  const bool changes_text = GetParam() == "qwen" || GetParam() == "neox" || GetParam() == "prefix";
  const std::vector<std::uint16_t> bytes = tokenizer.token_bytes();
  for (const Json& one : golden()["texts"]) {
    const auto text = one.get<std::string>();
    const auto encoded = ids_of(tokenizer, text);
    std::vector<std::int32_t> ids(encoded.begin(), encoded.end());
    const std::string decoded = tokenizer.decode(ids);
    if (!changes_text) {
      ASSERT_EQ(decoded, text);
    }
    std::size_t sum = 0;
    for (const std::int32_t id : ids) sum += bytes[static_cast<std::size_t>(id)];
    ASSERT_EQ(sum, decoded.size());
  }
}

TEST_P(BpeLayout, IsMadeAgainFromWhatIsStored) {
  const auto again = make_tokenizer("bpe", tokenizer.files());
  EXPECT_EQ(again->files(), tokenizer.files());
  EXPECT_EQ(again->vocab(), tokenizer.vocab());
  EXPECT_EQ(again->end_of_document(), 0);
  EXPECT_EQ(again->token_bytes()[0], 0);
  EXPECT_EQ(again->decode(std::vector<std::int32_t>{0}), "");
  EXPECT_EQ(ids_of(*again, "two words"), ids_of(tokenizer, "two words"));
  const std::vector<std::int32_t> foreign = {static_cast<std::int32_t>(tokenizer.vocab())};
  expect_says(error_of([&] { tokenizer.decode(foreign); }), std::to_string(foreign[0]), "vocabulary");
}

INSTANTIATE_TEST_SUITE_P(BpeLayout, BpeLayout,
                         ::testing::Values("gpt2", "llama3", "qwen", "neox", "starcoder", "prefix"),
                         [](const auto& layout) { return layout.param; });

/// The plain statement of the rule, in time that grows with the square.
std::vector<std::uint32_t> merged_plainly(std::vector<std::uint32_t> ids, const std::vector<Merge>& merges) {
  for (;;) {
    std::size_t best = merges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      for (std::size_t rank = 0; rank < best; ++rank) {
        if (merges[rank].left == ids[i] && merges[rank].right == ids[i + 1]) best = rank, at = i;
      }
    }
    if (best == merges.size()) return ids;
    ids[at] = merges[best].merged;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(MergeTable, MergesByRankAndThenFromTheLeft) {
  std::mt19937 generator(3);
  const auto random = [&] { return static_cast<std::uint32_t>(generator()); };
  for (int round = 0; round < 200; ++round) {
    std::vector<Merge> merges;
    const std::uint32_t letters = 2 + random() % 3;
    std::uint32_t tokens = letters;
    for (int i = 0; i < 12; ++i) {
      const Merge merge{random() % tokens, random() % tokens, tokens};
      const bool is_new = std::none_of(merges.begin(), merges.end(), [&](const Merge& other) {
        return other.left == merge.left && other.right == merge.right;
      });
      if (is_new) merges.push_back(merge), ++tokens;
    }
    std::vector<std::uint32_t> word(random() % 60);
    for (auto& id : word) id = random() % letters;
    auto ours = word;
    MergeTable(merges).apply(ours);
    ASSERT_EQ(ours, merged_plainly(word, merges));
  }
}

TEST(MergeTable, OfTwoMergesOfOnePairTheLaterCounts) {
  std::vector<std::uint32_t> ids = {0, 1, 0};
  MergeTable(std::vector<Merge>{{0, 1, 2}, {1, 0, 3}, {0, 1, 4}}).apply(ids);
  EXPECT_EQ(ids, (std::vector<std::uint32_t>{0, 3}));
}

TEST(SplitPattern, KeepsWhatDoesNotMatchAndKnowsUnicodesSpaces) {
  const auto words = [](const std::string& expression, const std::string& text) {
    const SplitPattern pattern(expression);
    SplitPattern::Matcher matcher(pattern);
    std::vector<std::string> all;
    matcher.split(text, [&](std::string_view word) { all.emplace_back(word); });
    return all;
  };
  EXPECT_EQ(words("\\d+", "ab12c3"), (std::vector<std::string>{"ab", "12", "c", "3"}));
  EXPECT_EQ(words("x*", "äxxb"), (std::vector<std::string>{"ä", "xx", "b"}));
  EXPECT_EQ(words("[^\\s]+", "a\u0085b\u180ec\u3000"), (std::vector<std::string>{"a", "\u0085", "b\u180ec", "\u3000"}));
  EXPECT_EQ(words("\\S+", "").size(), 0U);
  expect_says(error_of([] { SplitPattern("a("); }), "a(", "at 2");
  expect_says(error_of([] { SplitPattern("[a\\S]"); }), "brackets");
}

class BpeFiles : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(directory); }
  void TearDown() override { std::filesystem::remove_all(directory); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(directory / name) << text; }
  /// A file that is changed in one place, and what is said of it.
  void expect_refused(const std::function<void(Json&)>& change, const std::string& words) const {
    Json file = golden()["tokenizers"]["llama3"]["tokenizer"];
    change(file);
    write("tokenizer.json", file.dump());
    expect_says(error_of([&] { open_tokenizer(directory.string()); }), "--tokenizer " + directory.string(), words);
  }

  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("lexring_bpe_" + std::to_string(getpid()));
};

TEST_F(BpeFiles, AreAFileOrADirectoryOrThePairOfGpt2) {
  const Json& file = golden()["tokenizers"]["gpt2"]["tokenizer"];
  write("tokenizer.json", file.dump());
  const auto from_file = open_tokenizer((directory / "tokenizer.json").string()),
             from_directory = open_tokenizer(directory.string());
  EXPECT_EQ(from_file->files(), from_directory->files());
  std::filesystem::remove(directory / "tokenizer.json");
  write("vocab.json", file["model"]["vocab"].dump());
  std::string merges = "#version: 0.2\n";
  for (const Json& merge : file["model"]["merges"])
    merges += merge[0].get<std::string>() + " " + merge[1].get<std::string>() + "\n";
  write("merges.txt", merges);
  const auto from_pair = open_tokenizer(directory.string());
  for (const Json& text : golden()["texts"])
    ASSERT_EQ(ids_of(*from_pair, text.get<std::string>()), ids_of(*from_file, text.get<std::string>()));
}

TEST_F(BpeFiles, TheEndOfADocumentIsAskedForOrSaid) {
  Json file = golden()["tokenizers"]["gpt2"]["tokenizer"];
  file["added_tokens"].push_back({{"id", 512}, {"content", "</s>"}, {"special", true}});
  file["added_tokens"].push_back({{"id", 513}, {"content", "<code>"}, {"special", false}});
  write("tokenizer.json", file.dump());
  const auto end = [&](const std::string& asked) {
    return open_tokenizer(directory.string(), asked)->end_of_document();
  };
  expect_says(error_of([&] { end(""); }), "--end-of-document", "<|endoftext|> </s>");
  EXPECT_EQ(end("</s>"), 512);
  expect_says(error_of([&] { end("<code>"); }), "\"<code>\" is none of its special tokens");
  write("tokenizer_config.json", R"({"eos_token": {"content": "<|endoftext|>"}})");
  EXPECT_EQ(end(""), 0);
  write("tokenizer_config.json", R"({"eos_token": "</s>"})");
  EXPECT_EQ(end(""), 512);
  EXPECT_EQ(end("<|endoftext|>"), 0);
}

TEST_F(BpeFiles, AWordThatIsATokenIsMergedOnlyWhereTheFileSaysSo) {
  Json file = golden()["tokenizers"]["llama3"]["tokenizer"];
  file["model"]["vocab"]["qxzqxz"] = 512;  // no merges lead there
  for (const bool whole : {true, false}) {
    file["model"]["ignore_merges"] = whole;
    const ByteLevelBpeTokenizer tokenizer(stored(file));
    EXPECT_EQ(ids_of(tokenizer, "qxzqxz").size(), whole ? 1U : 6U);
    EXPECT_EQ(ids_of(tokenizer, "qxzqxzq").size(), 7U);
  }
}

TEST_F(BpeFiles, WhatIsNotKnownIsRefusedByName) {
  expect_refused([](Json& f) { f["normalizer"] = {{"type", "Lowercase"}}; }, "normalizer Lowercase is not known");
  expect_refused([](Json& f) { f["pre_tokenizer"] = {{"type", "Metaspace"}}; }, "pre-tokenizer Metaspace is not known");
  expect_refused([](Json& f) { f["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed"; }, "behavior Removed");
  expect_refused(
      [](Json& f) {
        f["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"String", " "}};
      },
      "a Regex only");
  expect_refused([](Json& f) { f["pre_tokenizer"]["pretokenizers"].erase(1); }, "no pre-tokenizer ByteLevel");
  expect_refused([](Json& f) { f["post_processor"] = {{"type", "Other"}}; }, "post-processor Other is not known");
  expect_refused([](Json& f) { f["decoder"] = {{"type", "Fuse"}}; }, "decoder Fuse is not known");
  expect_refused([](Json& f) { f["model"]["type"] = "Unigram"; }, "the model is Unigram");
  expect_refused([](Json& f) { f["model"]["byte_fallback"] = true; }, "\"byte_fallback\": true");
  expect_refused([](Json& f) { f["model"]["dropout"] = 0.1; }, "\"dropout\": 0.1");
  expect_refused([](Json& f) { f["model"]["new"] = 1; }, "the field \"new\"");
  expect_refused([](Json& f) { f["extra"] = 1; }, "the field \"extra\"");
  expect_refused([](Json& f) { f["model"]["merges"][3] = {"q", "\u0120zz"}; }, "merge 3 needs the token");
  expect_refused([](Json& f) { f["model"]["vocab"].erase("q"); }, "needs the token \"q\"");
  expect_refused([](Json& f) { f["model"]["vocab"]["q"] = -1; }, "the id 4294967295");
  expect_refused([](Json& f) { f = Json::array(); }, "no tokenizer.json");
  write("tokenizer.json", "{\"model\": ");
  expect_says(error_of([&] { open_tokenizer(directory.string()); }), "cannot be read");
  expect_says(error_of([&] { open_tokenizer((directory / "none").string()); }), "there is no such file");
  std::filesystem::remove(directory / "tokenizer.json");
  expect_says(error_of([&] { open_tokenizer(directory.string()); }), "there is no tokenizer.json in it");
  expect_says(error_of([] { make_tokenizer("bpe", "what"); }), "damaged");
}

}  // namespace
}  // namespace lexring::testing
