/// What is in a dataset, for people and for programs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace lexring {

enum class Verify { no, yes };

struct DatasetSummary {
  std::string path, tokenizer, source, content_hash;
  std::int64_t vocab = 0, tokens = 0, documents = 0;
  std::int64_t answers = 0, window = 0;  ///< as in Dataset; 0: none
  std::uint64_t file_bytes = 0;
  std::uint64_t text_bytes = 0;                             ///< that the tokens stand for
  std::uint64_t median_document = 0, longest_document = 0;  ///< bytes of text
  bool verified = false;  ///< every token read, in the vocabulary, and the hash is the stored one
};

/// Opens the dataset (with all of Dataset::open's checks). `Verify::yes` reads every token; throws Error when the hash
/// is not the stored one.
DatasetSummary inspect_dataset(const std::filesystem::path& path, Verify verify);

std::string to_text(const DatasetSummary& summary);  ///< a few lines, "name  value"
std::string to_json(const DatasetSummary& summary);  ///< one object, one line

}  // namespace lexring
