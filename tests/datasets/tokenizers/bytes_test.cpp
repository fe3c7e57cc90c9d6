#include "datasets/tokenizers/bytes.h"

#include <gtest/gtest.h>

#include "framework/base/error.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

TEST(ByteTokenizer, RoundTripOfEveryByte) {
  std::string text;
  for (int i = 0; i < 256; ++i) text.push_back(static_cast<char>(i));
  const ByteTokenizer tokenizer;
  std::vector<std::uint32_t> ids{7};
  tokenizer.encode(text, ids);
  ASSERT_EQ(ids.size(), 257u);
  EXPECT_EQ(ids[0], 7u);  // appended, not replaced
  EXPECT_EQ(ids[256], 255u);
  std::vector<std::int32_t> back(ids.begin() + 1, ids.end());
  back.push_back(tokenizer.end_of_document());
  EXPECT_EQ(tokenizer.decode(back), text);
}

TEST(ByteTokenizer, BytesPerToken) {
  const ByteTokenizer tokenizer;
  const auto bytes = tokenizer.token_bytes();
  ASSERT_EQ(static_cast<std::int64_t>(bytes.size()), tokenizer.vocab());
  EXPECT_EQ(bytes[255], 1);
  EXPECT_EQ(bytes[static_cast<std::size_t>(tokenizer.end_of_document())], 0);
}

TEST(ByteTokenizer, RefusesForeignIdsAndFiles) {
  const std::vector<std::int32_t> foreign{257};
  expect_says(error_of([&] { ByteTokenizer().decode(foreign); }), "257", "vocabulary");
  expect_says(error_of([] { ByteTokenizer("merges"); }), "no files");
}

}  // namespace
}  // namespace lexring::testing
