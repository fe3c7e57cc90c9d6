// A stream with landmarks against the reference's rule (landmarks_golden.py), and what windows make of it.
#include "datasets/landmarks.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "datasets/batches.h"
#include "framework/base/error.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

using Ids = std::vector<std::int32_t>;

/// A line of landmarks_golden.txt.
struct Golden {
  std::int64_t seed = 0, every = 0;
  std::vector<std::string> texts;
  Ids tokens, ignored, masked;
};

std::vector<Golden> golden() {
  std::ifstream file(LEXRING_SOURCE "/tests/datasets/landmarks_golden.txt");
  std::vector<Golden> all;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    Golden one;
    std::size_t count = 0;
    words >> one.seed >> one.every >> count;
    one.texts.resize(count);
    for (std::string& text : one.texts) words >> text;
    words >> count;
    for (Ids* ids : {&one.tokens, &one.ignored, &one.masked}) {
      ids->resize(count);
      for (std::int32_t& id : *ids) words >> id;
    }
    EXPECT_TRUE(words) << line;
    all.push_back(std::move(one));
  }
  return all;
}

Ids part(const Ids& all, std::int64_t first, std::int64_t count) {
  return {all.begin() + first, all.begin() + first + count};
}

TEST(Landmarks, AndTheirTargetsAreThoseOfTheReference) {
  TempDirectory directory;
  const std::vector<Golden> all = golden();
  ASSERT_EQ(all.size(), 30U);
  for (const Golden& one : all) {
    Dataset dataset = make_dataset(directory, one.texts);
    dataset.insert_landmarks(one.every);
    ASSERT_EQ(all_tokens(dataset), one.tokens) << one.seed << " " << one.every;
    const std::int64_t tokens = dataset.tokens();
    for (const std::int64_t length : {std::int64_t{1}, std::int64_t{2}, std::int64_t{7}, tokens}) {
      for (std::int64_t first = 0; first + length <= tokens; ++first) {
        const TokenBatch ignored = read_windows(dataset, first, 1, length, Documents::ignore),
                         masked = read_windows(dataset, first, 1, length, Documents::mask);
        ASSERT_EQ(ignored.tokens, part(one.tokens, first, length)) << one.seed << " " << one.every << " " << first;
        ASSERT_EQ(ignored.targets, part(one.ignored, first, length)) << one.seed << " " << one.every << " " << first;
        ASSERT_EQ(masked.targets, part(one.masked, first, length)) << one.seed << " " << one.every << " " << first;
        for (std::int64_t t = 0; t < length; ++t)
          ASSERT_EQ(masked.document_start[static_cast<std::size_t>(t)],
                    std::max<std::int64_t>(0, dataset.document_start(first + t) - first));
        // Without ends nothing is asked but text.
        const DocumentUse without_ends{Documents::mask, EndOfDocument::none};
        Ids text = masked.targets;
        std::replace(text.begin(), text.end(), 256, -1);
        ASSERT_EQ(read_windows(dataset, first, 1, length, without_ends).targets, text);
      }
    }
  }
}

TEST(Landmarks, LeaveTheFileAsItIsAndAreInsertedOnce) {
  TempDirectory directory;
  const std::string text = "abcdefgh";  // nine tokens with its end
  Dataset dataset = make_dataset(directory, {text, text}), plain = Dataset::open(dataset.path());
  dataset.insert_landmarks(0);
  EXPECT_EQ(all_tokens(dataset), all_tokens(plain));
  dataset.insert_landmarks(3);
  EXPECT_EQ(dataset.tokens(), 24);
  EXPECT_EQ(dataset.vocab(), 257);
  EXPECT_EQ(dataset.content_hash(), plain.content_hash());
  std::vector<std::byte> raw(36), of_plain(36);
  dataset.read_raw(0, raw), plain.read_raw(0, of_plain);
  EXPECT_EQ(raw, of_plain);
  Ids beyond(2);
  expect_says(error_of([&] { dataset.read(23, beyond); }), "[23, 25)", "which holds 24");
  expect_says(error_of([&] { dataset.insert_landmarks(3); }), "are impossible");
  EXPECT_EQ(Sampler(dataset, 23, 1, Documents::mask).windows(), 1);
  expect_says(error_of([&] { Sampler(dataset, 24, 1, Documents::mask); }), "holds 24 tokens", "at most 23");
}

TEST(Landmarks, PlacesAndTokensAgree) {
  for (const std::int64_t every : {0, 1, 4, 63}) {
    const LandmarkSpacing landmarks{every};
    std::int64_t tokens = 0;
    for (std::int64_t place = 0; place < 300; ++place) {
      EXPECT_EQ(landmarks.tokens_before(place), tokens);
      if (landmarks.is_landmark(place)) continue;
      EXPECT_EQ(landmarks.place(tokens), place);
      ++tokens;
    }
  }
}

}  // namespace
}  // namespace lexring::testing
