/// What the tests of datasets share.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "datasets/dataset.h"

namespace lexring::testing {

/// A fresh directory, removed with everything in it.
class TempDirectory {
 public:
  TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  ~TempDirectory();
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }
  std::vector<std::string> names() const;  ///< what is in it, sorted

 private:
  std::filesystem::path path_;
};

void write_file(const std::filesystem::path& path, const std::string& content);
std::string read_file(const std::filesystem::path& path);
std::string zstd(const std::string& content);
std::string json_line(const std::string& text);  ///< as the Pile has it, with meta

/// A dataset of documents of the given texts, by prepare().
Dataset make_dataset(const TempDirectory& directory, const std::vector<std::string>& texts);
std::vector<std::int32_t> all_tokens(const Dataset& dataset);
/// The documents of a dataset as text.
std::vector<std::string> texts_of(const Dataset& dataset);

/// The message of the Error that `body` throws; fails the test when it throws none.
std::string error_of(const std::function<void()>& body);

/// A process of its own for what changes a process: limits, signals, the user. Waits for its end.
class Child {
 public:
  explicit Child(const std::function<void(int pipe)>& body);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();
  void wait_for_byte();  ///< that `body` writes into the pipe
  void send(int signal);
  std::string message();  ///< of what `body` throws, or "no error"; all that is left in the pipe, at its end

 private:
  int pipe_[2]{};
  pid_t pid_ = 0;
};
/// In a Child: permissions do not bind root.
void become_nobody();

/// `text` contains every one of `words`.
void expect_words(const std::string& text, const std::vector<std::string>& words);
template <class... Words>
void expect_says(const std::string& text, const Words&... words) {
  expect_words(text, {words...});
}

}  // namespace lexring::testing
