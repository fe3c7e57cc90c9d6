#include "tests/datasets/support.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "datasets/prepare.h"
#include "datasets/tokenizers/bytes.h"
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

Child::Child(const std::function<void(int pipe)>& body) {
  if (::pipe(pipe_) != 0) fail("no pipe");
  pid_ = ::fork();
  if (pid_ != 0) {
    ::close(pipe_[1]);
    return;
  }
  std::string message = "no error";
  try {
    body(pipe_[1]);
  } catch (const std::exception& error) {
    message = error.what();
  }
  const auto written = ::write(pipe_[1], message.data(), message.size());
  ::_exit(written == static_cast<ssize_t>(message.size()) ? 0 : 1);
}

Child::~Child() {
  ::close(pipe_[0]);
  ::waitpid(pid_, nullptr, 0);
}

void Child::wait_for_byte() {
  char byte = 0;
  EXPECT_EQ(::read(pipe_[0], &byte, 1), 1);
}

void Child::send(int signal) { ::kill(pid_, signal); }

std::string Child::message() {
  std::string all;
  char buffer[4096];
  for (ssize_t got; (got = ::read(pipe_[0], buffer, sizeof(buffer))) > 0;)
    all.append(buffer, static_cast<std::size_t>(got));
  return all;
}

void become_nobody() { require(::geteuid() != 0 || ::setuid(65534) == 0, "cannot become another user"); }

void expect_words(const std::string& text, const std::vector<std::string>& words) {
  for (const auto& word : words) EXPECT_NE(text.find(word), std::string::npos) << "no \"" << word << "\" in: " << text;
}

}  // namespace lexring::testing
