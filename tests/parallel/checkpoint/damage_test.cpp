#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>

#include "tests/parallel/checkpoint/checkpoint_fixture.h"

namespace lexring {
namespace {

class CheckpointDamageTest : public CheckpointTest {
 protected:
  CheckpointDamageTest() { save(1); }

  /// What loading says after `damage` was done to a file of the checkpoint.
  std::string load() {
    return error_of([&] {
      const CheckpointReader reader(directory);
      reader.verify(*self);
    });
  }
  void flip(const std::filesystem::path& file, std::uintmax_t at) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(at));
    const char byte = static_cast<char>(stream.get() ^ 1);
    stream.seekp(static_cast<std::streamoff>(at));
    stream.put(byte);
  }
  /// Runs `work` in a child process; its wait status.
  static int in_child(const std::function<int()>& work) {
    const pid_t child = fork();
    if (child == 0) _exit(work());
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }

  std::filesystem::path step = directory / "step-00000001";
};

TEST_F(CheckpointDamageTest, AFlippedBitAnywhere) {
  for (const char* name : {"shard-0000.h5", "checkpoint.h5", "manifest.json"}) {
    const auto size = std::filesystem::file_size(step / name);
    for (std::uintmax_t at = 0; at < size; at += std::max<std::uintmax_t>(1, size / 23)) {
      flip(step / name, at);
      expect_contains(load(), (step / name).string());
      flip(step / name, at);
    }
    flip(step / name, size - 1);
    expect_contains(load(), (step / name).string());
    flip(step / name, size - 1);
  }
  CheckpointReader(directory).verify(*self);
}

/// What a program has open for writing is not called damaged: it may be whole again when that has closed it.
TEST_F(CheckpointDamageTest, AFileThatIsLocked) {
  for (const char* name : {"shard-0000.h5", "checkpoint.h5"}) {
    const int other = ::open((step / name).c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_EQ(::flock(other, LOCK_EX), 0);
    EXPECT_NO_THROW(CheckpointReader(directory).verify(*self)) << "a lock alone does no harm";
    flip(step / name, 21);
    const std::string message = load();
    expect_contains(message,
                    (step / name).string() +
                        " is locked by another program, which may be writing into it: its contents have checksum");
    expect_contains(message, "wait until that has closed it, or take another checkpoint");
    EXPECT_EQ(message.find("damaged"), std::string::npos) << message;
    ASSERT_EQ(::flock(other, LOCK_SH), 0);  // a reader
    expect_contains(load(), (step / name).string() + " is damaged: its contents have checksum");
    flip(step / name, 21);
    EXPECT_NO_THROW(CheckpointReader(directory).verify(*self));
    ::close(other);
  }
}

TEST_F(CheckpointDamageTest, AMissingFile) {
  std::filesystem::remove(step / "shard-0000.h5");
  expect_contains(load(), (step / "shard-0000.h5").string() + " is missing");
}

TEST_F(CheckpointDamageTest, ATruncatedFile) {
  std::filesystem::resize_file(step / "shard-0000.h5", std::filesystem::file_size(step / "shard-0000.h5") - 1);
  expect_contains(error_of([&] { CheckpointReader reader(directory); }),
                  (step / "shard-0000.h5").string() + " is damaged");  // unhashed
  std::filesystem::resize_file(step / "manifest.json", 100);
  expect_contains(load(), (step / "manifest.json").string());
}

TEST_F(CheckpointDamageTest, AnEditedManifest) {
  std::ifstream in(step / "manifest.json");
  std::string text{std::istreambuf_iterator<char>(in), {}};
  text.replace(text.find("\"step\":1"), 8, "\"step\":2");
  std::ofstream(step / "manifest.json") << text;
  expect_contains(load(), "checksum is not that of its contents");
  std::ofstream(step / "manifest.json") << "{}";
  expect_contains(load(), "it has no checksum");
}

TEST_F(CheckpointDamageTest, AShardThatLiesAboutItsContents) {
  std::filesystem::copy_file(step / "checkpoint.h5", step / "shard-0000.h5",
                             std::filesystem::copy_options::overwrite_existing);
  expect_contains(load(), (step / "shard-0000.h5").string());
}

TEST_F(CheckpointDamageTest, AFullDiskLeavesTheOldOneAndNothingUnderAFinalName) {
  const int status = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 16, 1 << 16};  // a disk that is full for this process only
    setrlimit(RLIMIT_FSIZE, &limit);
    CheckpointWriter writer(directory, *self, 1);
    writer.save(state_at(2), {matrix_part<float>(*runtime, "w", {256, 256}, {0, 0}, {256, 256})});
    const std::string problem = writer.finish().value_or("");
    if (problem.find("shard-0000.h5") == std::string::npos || problem.find("File too large") == std::string::npos)
      return 1;
    return std::filesystem::exists(directory / "step-00000002.partial") ? 2 : 42;
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_FALSE(std::filesystem::exists(directory / "step-00000002"));
  EXPECT_EQ(CheckpointReader(directory).path(), step);
}

TEST_F(CheckpointDamageTest, AReadOnlyDirectory) {
  std::filesystem::permissions(temporary.path(), std::filesystem::perms(0755));
  std::filesystem::permissions(directory, std::filesystem::perms(0555));
  const int status = in_child([&] {
    if (geteuid() == 0 && setuid(65534) != 0) return 3;  // root may write everywhere
    CheckpointWriter writer(directory, *self, 0);
    writer.save(state_at(2), {matrix_part<float>(*runtime, "w", {2, 2}, {0, 0}, {2, 2})});
    const std::string problem = writer.finish().value_or("");
    const bool named = problem.find("step-00000002.partial") != std::string::npos &&
                       problem.find("Permission denied") != std::string::npos;
    return named ? 42 : 1;
  });
  std::filesystem::permissions(directory, std::filesystem::perms(0755));
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

TEST_F(CheckpointDamageTest, KilledInTheMiddleOfASave) {
  for (int pause : {0, 1, 3, 10, 30}) {
    const pid_t child = fork();
    if (child == 0) {
      CheckpointWriter writer(directory, *self, 1);
      for (std::int64_t next = 100;; ++next) {
        writer.save(state_at(next), {matrix_part<float>(*runtime, "w", {512, 512}, {0, 0}, {512, 512})});
        static_cast<void>(writer.finish());
      }
    }
    usleep(static_cast<useconds_t>(20000 + pause * 7000));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    const CheckpointReader reader(directory);
    reader.verify(*self);
    const bool first = reader.state().step == 1;
    expect_part<float>(*runtime, reader, "w", first ? Shape{8, 6} : Shape{512, 512}, {0, 0},
                       first ? Shape{8, 6} : Shape{512, 512});
  }
}

}  // namespace
}  // namespace lexring
