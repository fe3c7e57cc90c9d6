#include "datasets/directory_walk.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "datasets/corpus.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_of(const CorpusFiles& corpus) {
  std::vector<std::string> names;
  for (const auto& file : corpus.files) names.push_back(file.path.filename());
  return names;
}

TEST(DirectoryWalk, LinksAreFollowed) {
  TempDirectory directory, elsewhere;
  write_file(directory / "a.txt", "a");
  write_file(elsewhere / "b.txt", "b");
  std::filesystem::create_directory_symlink(elsewhere.path(), directory / "more");
  std::filesystem::create_directory_symlink(directory.path(), elsewhere / "back");  // and round
  EXPECT_EQ(find_corpus({directory.path().string()}).files.size(), 2U);
  std::filesystem::create_symlink("/nowhere", directory / "gone.txt");
  expect_says(error_of([&] { find_corpus({directory.path().string()}); }), "gone.txt", "link to nothing");
}

TEST(DirectoryWalk, WhichOfTwoLinksCountsDoesNotDependOnTheDisk) {
  TempDirectory directory, elsewhere;
  write_file(elsewhere / "x.txt", "x");
  for (const auto* name : {"c", "a", "b"}) fs::create_directory_symlink(elsewhere.path(), directory / name);
  const auto corpus = find_corpus({directory.path().string()});
  ASSERT_EQ(corpus.files.size(), 1u);
  EXPECT_EQ(corpus.files[0].path, directory / "a" / "x.txt");
  EXPECT_EQ(corpus.left_out.count, 2);
}

TEST(DirectoryWalk, HiddenEntriesAreLeftOutUnlessNamed) {
  TempDirectory directory;
  write_file(directory / "a.txt", "a");
  write_file(directory / "._a.txt", "of a file system that has no resource forks");
  write_file(directory / ".ipynb_checkpoints" / "b.txt", "b");
  write_file(directory / ".ipynb_checkpoints" / ".c.txt", "c");
  const auto corpus = find_corpus({directory.path().string()});
  EXPECT_EQ(names_of(corpus), std::vector<std::string>{"a.txt"});
  EXPECT_EQ(corpus.left_out.count, 2);
  expect_says(corpus.left_out.examples.at(0), "._a.txt (hidden)");
  expect_says(corpus.left_out.examples.at(1), ".ipynb_checkpoints (hidden)");
  EXPECT_EQ(names_of(find_corpus({(directory / ".ipynb_checkpoints").string(), (directory / "._a.txt").string()})),
            (std::vector<std::string>{"b.txt", "._a.txt"}));
  fs::remove(directory / "a.txt");
  expect_says(error_of([&] { find_corpus({directory.path().string()}); }), "no corpus file", "._a.txt (hidden)");
}

TEST(DirectoryWalk, TheFirstTenAreListed) {
  TempDirectory directory;
  write_file(directory / "a.txt", "a");
  for (int i = 10; i < 40; ++i) write_file(directory / ("picture" + std::to_string(i) + "\n.png"), "");
  ASSERT_EQ(::mkfifo((directory / "b.txt").c_str(), 0600), 0);
  const auto corpus = find_corpus({directory.path().string()});
  EXPECT_EQ(corpus.left_out.count, 31);
  ASSERT_EQ(corpus.left_out.examples.size(), 10u);
  expect_says(corpus.left_out.examples[0], "b.txt (no file)");
  expect_says(corpus.left_out.examples[9], "picture18?.png (of no known kind)");
  fs::remove(directory / "a.txt");
  const auto message = error_of([&] { find_corpus({directory.path().string()}); });
  expect_says(message, "picture18?.png");
  EXPECT_EQ(message.find("picture19"), std::string::npos) << message;
}

TEST(DirectoryWalk, AnUnreadableDirectoryIsNamed) {
  TempDirectory directory;
  write_file(directory / "a.txt", "a");
  fs::create_directory(directory / "locked");
  fs::permissions(directory.path(), fs::perms(0755));
  fs::permissions(directory / "locked", fs::perms(0));
  Child child([&](int) {
    become_nobody();
    find_corpus({directory.path().string()});
  });
  expect_says(child.message(), "cannot list the directory", (directory / "locked").string(), "Permission denied");
  fs::permissions(directory / "locked", fs::perms(0755));
}

}  // namespace
}  // namespace lexring::testing
