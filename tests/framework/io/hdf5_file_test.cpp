#include "framework/io/hdf5_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <limits>

#include "framework/base/error.h"
#include "tests/support/process.h"

namespace lexring {
namespace {

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

/// The message of the Error that `work` must throw.
template <class Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return "";
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

class Hdf5FileTest : public testing::Test {
 protected:
  Hdf5FileTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "lexring-hdf5-XXXXXX").string();
    directory = mkdtemp(pattern.data());
    path = directory / "file.h5";
  }
  ~Hdf5FileTest() override { std::filesystem::remove_all(directory); }

  /// Runs Python with `f` as the open file (writable); its output. Debian's python3-h5py is a test requirement.
  std::string python(const std::string& code) const {
    std::ofstream(directory / "code.py") << "import h5py, numpy as np\nf = h5py.File('" << path.string() << "', 'a')\n"
                                         << code << "\nf.close()\n";
    const ProcessResult result = run_process("/usr/bin/python3 " + (directory / "code.py").string());
    EXPECT_EQ(result.exit_code, 0) << result.output;
    return result.output;
  }

  std::filesystem::path directory;
  std::filesystem::path path;
};

TEST_F(Hdf5FileTest, WhatWasWrittenIsReadBack) {
  const std::vector<float> f32 = {1.5F, -2.F, 3.F, 4.F, 5.F, 6.F};
  {
    Hdf5File file(path, Hdf5File::Mode::create);
    file.write("group/inner/a", H5Type::f32, {2, 3}, bytes_of(f32));
    file.write("scalar", H5Type::f64, {}, bytes_of(std::vector<double>{2.25}));
    file.write("empty", H5Type::u16, {0, 4}, {});
    file.create("rows", H5Type::i64, {3, 2});
    file.write_rows("rows", 1, 2, bytes_of(std::vector<std::int64_t>{3, 4, 5, 6}));
    file.write_rows("rows", 0, 1, bytes_of(std::vector<std::int64_t>{1, 2}));
    file.close();
  }
  const Hdf5File file(path, Hdf5File::Mode::read);
  EXPECT_EQ(file.read_all<float>("group/inner/a"), f32);
  EXPECT_EQ(file.read_all<double>("scalar"), std::vector<double>{2.25});
  EXPECT_TRUE(file.read_all<std::uint16_t>("empty").empty());
  EXPECT_EQ(file.shape("empty"), (std::vector<std::int64_t>{0, 4}));
  EXPECT_EQ(file.shape("scalar"), std::vector<std::int64_t>{});
  EXPECT_EQ(file.read_all<std::int64_t>("rows"), (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(file.type("rows"), H5Type::i64);
  EXPECT_EQ(file.members(""), (std::vector<std::string>{"empty", "group", "rows", "scalar"}));
  EXPECT_TRUE(file.exists("group/inner/a") && file.exists("/") && !file.exists("group/other/a") &&
              !file.exists("nothing"));
  EXPECT_TRUE(file.is_group("group/inner") && !file.is_group("rows"));

  std::vector<double> block(2);
  file.read("group/inner/a", H5Type::f64, {1, 1}, {1, 2}, std::as_writable_bytes(std::span(block)));
  EXPECT_EQ(block, (std::vector<double>{5, 6}));
}

/// Whenever it was written.
TEST_F(Hdf5FileTest, TheSameContentsAreTheSameFile) {
  const std::vector<float> values = {1.5F, -2.F};
  const auto write = [&](const std::filesystem::path& to) {
    Hdf5File file(to, Hdf5File::Mode::create);
    file.write("group/a", H5Type::f32, {2}, bytes_of(values));
    file.create("rows", H5Type::f32, {1, 2});
    file.write_rows("rows", 0, 1, bytes_of(values));
    file.write_virtual("whole", H5Type::f32, {2}, {{"shard.h5", "group/a", {0}, {2}}});
    file.write_attribute("/", "step", std::int64_t{7});
    file.close();
    std::ifstream stream(to, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  };
  const std::string before = write(path);
  const std::time_t then = std::time(nullptr);
  while (std::time(nullptr) == then) usleep(10000);  // the format's times are in seconds
  EXPECT_TRUE(write(directory / "later.h5") == before);
}

TEST_F(Hdf5FileTest, ContiguousOffsetIsWhereTheBytesLie) {
  const std::vector<std::uint16_t> tokens = {7, 8, 65535};
  {
    Hdf5File file(path, Hdf5File::Mode::create);
    file.write("tokens", H5Type::u16, {3}, bytes_of(tokens));
    file.close();
  }
  const auto offset = Hdf5File(path, Hdf5File::Mode::read).contiguous_offset("tokens");
  ASSERT_TRUE(offset.has_value());
  std::vector<std::uint16_t> found(3);
  std::ifstream raw(path, std::ios::binary);
  raw.seekg(static_cast<std::streamoff>(*offset));
  raw.read(reinterpret_cast<char*>(found.data()), 6);
  EXPECT_EQ(found, tokens);
  python("f['chunked'] = 0\nf.create_dataset('c', data=np.arange(8), chunks=(4,))");
  EXPECT_FALSE(Hdf5File(path, Hdf5File::Mode::read).contiguous_offset("c").has_value());
}

TEST_F(Hdf5FileTest, PythonReadsBf16AsFloat32) {
  const std::vector<bfloat16> values = {bfloat16(1.F), bfloat16(-0.15625F), bfloat16(3e38F),
                                        bfloat16(std::numeric_limits<float>::quiet_NaN())};
  {
    Hdf5File file(path, Hdf5File::Mode::create);
    file.write("b", H5Type::bf16, {4}, bytes_of(values));
    file.close();
  }
  EXPECT_EQ(Hdf5File(path, Hdf5File::Mode::read).type("b"), H5Type::bf16);
  const auto found = Hdf5File(path, Hdf5File::Mode::read).read_all<bfloat16>("b");
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(found[i].bits, values[i].bits);
  const float large = values[2];
  EXPECT_EQ(python("b = f['b']; print(b.dtype, b[0], b[1], b[2] == np.float32(" + std::to_string(large) +
                   "), np.isnan(b[3]))"),
            "float32 1.0 -0.15625 True True\n");
}

TEST_F(Hdf5FileTest, ReadsWhatPythonWrites) {
  Hdf5File(path, Hdf5File::Mode::create).close();
  python(
      "g = f.create_group('case')\n"
      "g.attrs['text'] = 'grüße'\ng.attrs['fixed'] = np.bytes_(b'abc')\ng.attrs['empty'] = ''\ng.attrs['seed'] = 7\n"
      "g.attrs['loss'] = np.float64(1.25)\ng.attrs['losses'] = np.array([1., 2., 3.])\nf['scalar'] = np.float32(4)\n"
      "f['ids'] = np.arange(6, dtype='i4').reshape(2, 3)");
  const Hdf5File file(path, Hdf5File::Mode::read);
  EXPECT_EQ(file.string_attribute("case", "text"), "grüße");
  EXPECT_EQ(file.string_attribute("case", "fixed"), "abc");
  EXPECT_EQ(file.string_attribute("case", "empty"), "");
  EXPECT_EQ(file.int_attribute("case", "seed"), 7);
  EXPECT_EQ(file.double_attribute("case", "loss"), 1.25);
  EXPECT_EQ(file.double_attribute("case", "seed"), 7.0);
  EXPECT_EQ(file.doubles_attribute("case", "losses"), (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(file.read_all<float>("scalar"), std::vector<float>{4});
  EXPECT_EQ(file.read_all<std::int32_t>("ids"), (std::vector<std::int32_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_FALSE(file.has_attribute("case", "other"));
  EXPECT_CONTAINS(error_of([&] { file.int_attribute("case", "loss"); }), "loss is not one integer");
  EXPECT_CONTAINS(error_of([&] { file.string_attribute("case", "other"); }), "no attribute other");
}

TEST_F(Hdf5FileTest, PythonReadsAttributes) {
  {
    Hdf5File file(path, Hdf5File::Mode::create);
    file.write_attribute("/", "text", std::string("before"));
    std::string large(100000, 'x');  // past the 64 KiB of a header message
    large += "é";
    file.write_attribute("/", "text", large);
    file.write_attribute("/", "count", std::int64_t{5});
    file.write_attribute("", "rate", 0.5);
    file.close();
  }
  EXPECT_EQ(python("a = f.attrs; print(len(a['text']), a['text'][-1] == '\\u00e9', a['count'], a['rate'])"),
            "100001 True 5 0.5\n");
  EXPECT_EQ(Hdf5File(path, Hdf5File::Mode::read).string_attribute("/", "text").size(), 100002U);
}

TEST_F(Hdf5FileTest, VirtualDatasetsShowTheWholeAndNaNWhereAShardIsMissing) {
  for (int i = 0; i < 2; ++i) {
    Hdf5File shard(directory / ("shard" + std::to_string(i) + "%b.h5"), Hdf5File::Mode::create);
    shard.write("a", H5Type::f32, {1, 2},
                bytes_of(std::vector<float>{static_cast<float>(2 * i), static_cast<float>(2 * i + 1)}));
    shard.write("h", H5Type::bf16, {1, 2}, bytes_of(std::vector<bfloat16>{bfloat16(1.F), bfloat16(2.F)}));
    shard.write("s", H5Type::f64, {}, bytes_of(std::vector<double>{9}));
    shard.close();
  }
  {
    Hdf5File file(path, Hdf5File::Mode::create);
    for (const auto& [name, type] : {std::pair{"a", H5Type::f32}, std::pair{"h", H5Type::bf16}}) {
      file.write_virtual(name, type, {2, 2},
                         {{"shard0%b.h5", name, {0, 0}, {1, 2}}, {"shard1%b.h5", name, {1, 0}, {1, 2}}});
    }
    file.write_virtual("s", H5Type::f64, {}, {{"shard0%b.h5", "s", {}, {}}});
    file.close();
  }
  EXPECT_EQ(python("print(f['a'][:].tolist(), f['h'].dtype, f['h'][:].tolist(), f['s'][()])"),
            "[[0.0, 1.0], [2.0, 3.0]] float32 [[1.0, 2.0], [1.0, 2.0]] 9.0\n");
  std::filesystem::remove(directory / "shard1%b.h5");
  EXPECT_EQ(python("print(f['a'][:].tolist(), f['h'][:].tolist())"),
            "[[0.0, 1.0], [nan, nan]] [[1.0, 2.0], [nan, nan]]\n");
}

TEST_F(Hdf5FileTest, BadFilesAreNamedWithTheReason) {
  const auto open = [&] { Hdf5File(path, Hdf5File::Mode::read); };
  EXPECT_CONTAINS(error_of(open), path.string() + " does not exist");
  std::ofstream(path).close();
  EXPECT_CONTAINS(error_of(open), "is empty");
  std::ofstream(path) << "not at all";
  EXPECT_CONTAINS(error_of(open), "is not an HDF5 file");
  EXPECT_CONTAINS(error_of([&] { Hdf5File(directory, Hdf5File::Mode::read); }), "is a directory");
  EXPECT_CONTAINS(error_of([&] { Hdf5File(directory, Hdf5File::Mode::create); }), "is a directory");
  EXPECT_CONTAINS(error_of([&] { Hdf5File(directory / "none" / "a.h5", Hdf5File::Mode::create); }),
                  "directory does not exist");
  {
    Hdf5File file(path, Hdf5File::Mode::create);
    file.write("a", H5Type::f32, {1000}, bytes_of(std::vector<float>(1000)));
    file.close();
  }
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 100);
  const std::string message = error_of(open);
  EXPECT_CONTAINS(message, "truncated file");
  EXPECT_CONTAINS(message, path.string());
  EXPECT_CONTAINS(message, "H5Fopen");
}

TEST_F(Hdf5FileTest, MisuseIsNamed) {
  Hdf5File file(path, Hdf5File::Mode::create);
  file.write("a", H5Type::f32, {2, 2}, bytes_of(std::vector<float>(4)));
  EXPECT_CONTAINS(error_of([&] { file.write("a", H5Type::f32, {1}, bytes_of(std::vector<float>(1))); }), ": a: ");
  EXPECT_CONTAINS(error_of([&] { file.write("b", H5Type::f32, {3}, bytes_of(std::vector<float>(1))); }),
                  "4 bytes were given");
  EXPECT_CONTAINS(error_of([&] { file.read_all<float>("c"); }), "no dataset c");
  std::vector<float> out(2);
  EXPECT_CONTAINS(error_of([&] {
                    file.read("a", H5Type::f32, {1, 1}, {1, 2}, std::as_writable_bytes(std::span(out)));
                  }),
                  "not inside");
  EXPECT_CONTAINS(error_of([&] { file.write_attribute("/", "n", std::string("a\0b", 3)); }), "zero byte");
}

TEST_F(Hdf5FileTest, AMovedFromFileIsClosedAndTheTargetWorks) {
  Hdf5File first(path, Hdf5File::Mode::create);
  Hdf5File second(std::move(first));
  second.write("a", H5Type::u8, {1}, bytes_of(std::vector<std::uint8_t>{3}));
  first.close();  // nothing to do
  first = std::move(second);
  first.close();
  EXPECT_EQ(Hdf5File(path, Hdf5File::Mode::read).read_all<std::uint8_t>("a"), std::vector<std::uint8_t>{3});
}

TEST_F(Hdf5FileTest, AFullDiskIsAnErrorAndTheProcessEndsInOrder) {
  const pid_t child = fork();
  if (child == 0) {  // a limit on file size is the disk that is full for this process only
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 16, 1 << 16};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      Hdf5File file(path, Hdf5File::Mode::create);
      file.write("a", H5Type::f32, {1 << 16}, bytes_of(std::vector<float>(1 << 16)));
      file.close();
    } catch (const Error& error) {
      const std::string message = error.what();
      Hdf5File other(directory / "other.h5", Hdf5File::Mode::create);  // the library is still of use
      other.write("a", H5Type::u8, {1}, bytes_of(std::vector<std::uint8_t>{3}));
      other.close();
      std::exit(message.find("File too large") != std::string::npos && message.find(path.string()) != std::string::npos
                    ? 42
                    : 1);
    }
    std::exit(2);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

}  // namespace
}  // namespace lexring
