// The tokenizer on its way from a data set through a checkpoint.
#include "jobs/launch/stored_tokenizer.h"

#include <gtest/gtest.h>

#include "framework/io/hdf5_file.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

class StoredTokenizerTest : public ::testing::Test {
 protected:
  /// A checkpoint without tensors.
  CheckpointReader checkpoint(const StoredTokenizer& tokenizer) {
    TrainingState state;
    state.step = ++steps;
    state.tokenizer = tokenizer;
    CheckpointWriter writer(directory.path(), *self, 0);
    writer.save(state, {});
    EXPECT_EQ(writer.finish(), std::nullopt);
    return CheckpointReader(directory.path());
  }
  Dataset dataset(const StoredTokenizer& tokenizer) {
    const auto path = directory / "tokens.h5";
    Hdf5File file(path, Hdf5File::Mode::create);
    const std::vector<std::uint16_t> tokens = {0, 1, 0}, token_bytes = {1, 0};
    const std::vector<std::uint64_t> documents = {0, 3};
    file.write("tokens", H5Type::u16, {3}, std::as_bytes(std::span(tokens)));
    file.write("documents", H5Type::u64, {2}, std::as_bytes(std::span(documents)));
    file.write("token_bytes", H5Type::u16, {2}, std::as_bytes(std::span(token_bytes)));
    file.write_attribute("/", "format_version", std::int64_t{1});
    file.write_attribute("/", "vocab", std::int64_t{2});
    file.write_attribute("/", "tokenizer", tokenizer.kind);
    file.write_attribute("/", "tokenizer_files", tokenizer.files);
    for (const char* name : {"source", "content_hash"}) file.write_attribute("/", name, std::string());
    file.close();
    return Dataset::open(path);
  }

  TempDirectory directory;
  std::unique_ptr<Communicator> self = make_self_communicator();
  std::int64_t steps = 0;
};

TEST_F(StoredTokenizerTest, TheCheckpointsIsMadeAgain) {
  EXPECT_EQ(make_tokenizer(checkpoint({"bytes", ""}), 257)->kind(), "bytes");
  expect_says(error_of([&] {
                make_tokenizer(checkpoint({"bytes", ""}), 300);
              }),
              "vocabulary of 300", "(bytes) one of 257");
  expect_says(error_of([&] { make_tokenizer(checkpoint({"pairs", "a b"}), 257); }), "unknown tokenizer \"pairs\"");
}

TEST_F(StoredTokenizerTest, AnEarlierCheckpointIsOfBytesWhereItsVocabularyIs) {
  EXPECT_EQ(make_tokenizer(checkpoint({}), 257)->kind(), "bytes");
  EXPECT_EQ(stored_tokenizer(checkpoint({}), 257), (StoredTokenizer{"bytes", ""}));
  EXPECT_EQ(stored_tokenizer(checkpoint({}), 258), StoredTokenizer());
  expect_says(error_of([&] { make_tokenizer(checkpoint({}), 258); }), "has no tokenizer", "not the 257 of bytes");
}

TEST_F(StoredTokenizerTest, OtherDataMustHaveTheSame) {
  const StoredTokenizer pairs{"pairs", "a b\n"};
  EXPECT_EQ(stored_tokenizer(dataset(pairs)), pairs);
  EXPECT_NO_THROW(require_same_tokenizer(checkpoint(pairs), dataset(pairs)));
  EXPECT_NO_THROW(require_same_tokenizer(checkpoint({}), dataset(pairs))) << "not known";
  expect_says(error_of([&] {
                require_same_tokenizer(checkpoint(pairs), dataset({"bytes", ""}));
              }),
              "tokens.h5 with bytes");
  expect_says(error_of([&] {
                require_same_tokenizer(checkpoint(pairs), dataset({"pairs", "b a\n"}));
              }),
              "the tokenizer pairs, files with checksum", "prepare it with the tokenizer of that training");
}

}  // namespace
}  // namespace lexring::testing
