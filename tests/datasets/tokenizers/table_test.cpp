#include <algorithm>

#include <gtest/gtest.h>

#include "datasets/tokenizers/tokenizer.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

TEST(TokenizerTable, UnknownKindsAreRefusedWithTheKnownOnes) {
  expect_says(error_of([] { make_tokenizer("none of them"); }), "none of them", "this version knows: bytes");
}

/// What every tokenizer promises, of those that need no files.
class EveryTokenizer : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(GetParam());
};

TEST_P(EveryTokenizer, IsMadeAgainFromWhatIsStored) {
  EXPECT_EQ(tokenizer->kind(), GetParam());
  const auto again = make_tokenizer(tokenizer->kind(), tokenizer->files());
  EXPECT_EQ(again->kind(), tokenizer->kind());
  EXPECT_EQ(again->files(), tokenizer->files());
  EXPECT_EQ(again->vocab(), tokenizer->vocab());
  EXPECT_EQ(again->token_bytes(), tokenizer->token_bytes());
}

TEST_P(EveryTokenizer, IdsStandForTheBytesOfTheText) {
  const std::string text = "One line,\n\xc3\xa4nd \xe2\x82\xac another\n";
  std::vector<std::uint32_t> encoded;
  tokenizer->encode(text, encoded);
  std::vector<std::int32_t> ids(encoded.begin(), encoded.end());
  ids.push_back(tokenizer->end_of_document());
  EXPECT_EQ(tokenizer->decode(ids), text);
  const std::vector<std::uint16_t> bytes = tokenizer->token_bytes();
  ASSERT_EQ(static_cast<std::int64_t>(bytes.size()), tokenizer->vocab());
  std::size_t sum = 0;
  for (const std::int32_t id : ids) {
    ASSERT_TRUE(id >= 0 && id < tokenizer->vocab()) << id;
    sum += bytes[static_cast<std::size_t>(id)];
  }
  EXPECT_EQ(sum, text.size());
  const std::vector<std::int32_t> foreign = {static_cast<std::int32_t>(tokenizer->vocab())};
  expect_says(error_of([&] { tokenizer->decode(foreign); }), std::to_string(foreign[0]), "vocabulary");
}

INSTANTIATE_TEST_SUITE_P(TokenizerTable, EveryTokenizer, ::testing::Values("bytes"),
                         [](const auto& kind) { return kind.param; });

}  // namespace
}  // namespace lexring::testing
