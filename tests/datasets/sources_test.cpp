#include "datasets/sources.h"

#include <gtest/gtest.h>

namespace lexring::testing {
namespace {

TEST(Sources, TheFirstFewAndACount) {
  EXPECT_EQ(describe_sources(join_sources({"a.txt"})), "a.txt");
  EXPECT_EQ(describe_sources(join_sources({"a.txt", "b.txt", "c.txt"})), "a.txt, b.txt, c.txt");
  EXPECT_EQ(describe_sources(join_sources({"a", "b", "c", "d", "e"})), "a, b, c and 2 more");
  EXPECT_EQ(describe_sources(join_sources({"a", "b", "c"}), 1), "a and 2 more");
  EXPECT_EQ(describe_sources(""), "");
}

TEST(Sources, NamesWithSpacesQuotesAndLineBreaks) {
  EXPECT_EQ(join_sources({"my file.txt", "b.txt"}), "'my file.txt' b.txt");
  EXPECT_EQ(describe_sources(join_sources({"my  file.txt", "it's.txt", "two\nlines.txt", "z"})),
            "my  file.txt, it's.txt, two?lines.txt and 1 more");
  EXPECT_EQ(describe_sources(join_sources({"...", "a"})), "..., a");
}

TEST(Sources, ThousandsOfNamesAreCounted) {
  const std::vector<std::string> names(5000, "a/rather/long/name.jsonl.zst");
  const auto source = join_sources(names);
  EXPECT_LT(source.size(), 5000u);
  EXPECT_EQ(describe_sources(source, 1), "a/rather/long/name.jsonl.zst and 4999 more");
}

TEST(Sources, AttributesOfEarlierVersions) {
  EXPECT_EQ(describe_sources("a b c d"), "a, b, c and 1 more");
  EXPECT_EQ(describe_sources("a b c d ..."), "a, b, c and more");
}

}  // namespace
}  // namespace lexring::testing
