#include "datasets/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace lexring {
namespace {

TEST(Utf8, FindsTheFirstByteThatIsWrong) {
  EXPECT_FALSE(invalid_utf8_at(""));
  EXPECT_FALSE(invalid_utf8_at("plain, \xc3\xa4, \xe2\x82\xac, \xf0\x9f\x98\x80, \xf4\x8f\xbf\xbf"));
  EXPECT_EQ(invalid_utf8_at("ab\xff"), 2u);
  EXPECT_EQ(invalid_utf8_at("abc\x80"), 3u);             // a continuation with nothing to continue
  EXPECT_EQ(invalid_utf8_at("a\xc0\xaf"), 1u);           // overlong
  EXPECT_EQ(invalid_utf8_at("a\xe0\x80\xaf"), 1u);       // overlong
  EXPECT_EQ(invalid_utf8_at("\xed\xa0\x80"), 0u);        // a surrogate
  EXPECT_EQ(invalid_utf8_at("xy\xf4\x90\x80\x80"), 2u);  // above U+10FFFF
  EXPECT_EQ(invalid_utf8_at("12345\xe2\x82"), 5u);       // cut
}

TEST(Utf8, WholeCharactersLeavesOutOnlyACutOne) {
  const std::string text = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";
  const std::size_t whole[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10};
  for (std::size_t n = 0; n <= text.size(); ++n) EXPECT_EQ(whole_characters(text.substr(0, n)), whole[n]) << n;
  EXPECT_EQ(whole_characters("\x80\x80\x80\x80"), 4u);  // not text at all: someone else's complaint
}

}  // namespace
}  // namespace lexring
