/// A dataset's file, written whole (datasets/dataset.h says what is in it).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "datasets/partial_file.h"
#include "datasets/tokenizers/tokenizer.h"

namespace lexring {

struct DatasetContents {
  const SpoolFile& tokens;  ///< packed, token_width() bytes each
  const Tokenizer& tokenizer;
  const std::vector<std::uint64_t>& documents;  ///< [D + 1] as in Dataset
  std::vector<std::uint64_t> answers = {};      ///< [A * 2] as in Dataset
  std::int64_t window = 0;                      ///< as in Dataset
  std::string source;
};

/// Bytes of a token on disk.
inline std::size_t token_width(const Tokenizer& tokenizer) { return tokenizer.vocab() <= 65536 ? 2 : 4; }

/// Returns the content hash. Throws Error where the disk has too little room, and what `check_interrupted` throws,
/// which is called now and then.
std::string write_dataset(const std::filesystem::path& path, const DatasetContents& contents,
                          const std::function<void()>& check_interrupted);

}  // namespace lexring
