#include "tests/datasets/support.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <zstd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "datasets/prepare.h"
#include "datasets/tokenizer.h"
#include "framework/base/error.h"

namespace lexring::testing {

TempDirectory::TempDirectory() {
  auto pattern = (std::filesystem::temp_directory_path() / "lexring-datasets-XXXXXX").string();
  require(::mkdtemp(pattern.data()) != nullptr, "cannot make a temporary directory like {}", pattern);
  path_ = pattern;
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> TempDirectory::names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

void write_file(const std::filesystem::path& path, const std::string& content) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string zstd(const std::string& content) {
  std::string packed(ZSTD_compressBound(content.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), content.data(), content.size(), 1));
  return packed;
}

std::string json_line(const std::string& text) {
  return nlohmann::json{{"text", text}, {"meta", {{"set", "test"}, {"n", 1}}}}.dump() + "\n";
}

Dataset make_dataset(const TempDirectory& directory, const std::vector<std::string>& texts) {
  std::string lines;
  for (const auto& text : texts) lines += json_line(text);
  write_file(directory / "corpus.jsonl", lines);
  prepare({.inputs = {(directory / "corpus.jsonl").string()},
           .output = directory / "corpus.h5",
           .existing = Existing::replace,
           .threads = 2,
           .interrupted = {}});
  return Dataset::open(directory / "corpus.h5");
}

std::vector<std::int32_t> all_tokens(const Dataset& dataset) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(dataset.tokens()));
  dataset.read(0, tokens);
  return tokens;
}

std::vector<std::string> texts_of(const Dataset& dataset) {
  const auto tokens = all_tokens(dataset);
  std::vector<std::string> texts;
  for (std::size_t d = 0; d + 1 < dataset.documents().size(); ++d) {
    const auto begin = dataset.documents()[d], end = dataset.documents()[d + 1];
    EXPECT_EQ(tokens[end - 1], 256);
    texts.push_back(ByteTokenizer().decode(std::span(tokens).subspan(begin, end - begin)));
  }
  return texts;
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return "";
}

void expect_words(const std::string& text, const std::vector<std::string>& words) {
  for (const auto& word : words) EXPECT_NE(text.find(word), std::string::npos) << "no \"" << word << "\" in: " << text;
}

}  // namespace lexring::testing
