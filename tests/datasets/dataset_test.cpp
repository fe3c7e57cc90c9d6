#include "datasets/dataset.h"

#include <gtest/gtest.h>
#include <hdf5.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "datasets/inspect.h"
#include "framework/base/error.h"
#include "framework/io/hdf5_file.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

template <class T>
void put(Hdf5File& file, const std::string& name, H5Type type, const std::vector<T>& values) {
  file.write(name, type, {static_cast<std::int64_t>(values.size())}, std::as_bytes(std::span(values)));
}

/// Everything of a dataset's file that a test may want wrong.
struct Parts {
  std::vector<std::uint32_t> tokens{1, 2, 3, 9, 4, 9};
  H5Type type = H5Type::u16;
  std::vector<std::uint64_t> documents{0, 4, 6};
  std::vector<std::uint16_t> token_bytes = std::vector<std::uint16_t>(10, 1);
  std::int64_t version = 1, vocab = 10, window = 0;
  std::string leave_out;
};

std::filesystem::path write_parts(const TempDirectory& directory, const Parts& parts) {
  const auto path = directory / "parts.h5";
  Hdf5File file(path, Hdf5File::Mode::create);
  if (parts.leave_out != "tokens") {
    const std::vector<std::uint16_t> narrow(parts.tokens.begin(), parts.tokens.end());
    const std::vector<float> floats(parts.tokens.begin(), parts.tokens.end());
    if (parts.type == H5Type::u16) put(file, "tokens", H5Type::u16, narrow);
    if (parts.type == H5Type::u32) put(file, "tokens", H5Type::u32, parts.tokens);
    if (parts.type == H5Type::f32) put(file, "tokens", H5Type::f32, floats);
  }
  if (parts.leave_out != "documents") put(file, "documents", H5Type::u64, parts.documents);
  if (parts.leave_out != "token_bytes") put(file, "token_bytes", H5Type::u16, parts.token_bytes);
  file.write_attribute("/", "format_version", parts.version);
  file.write_attribute("/", "vocab", parts.vocab);
  if (parts.window != 0) file.write_attribute("/", "window", parts.window);
  for (const auto* name : {"tokenizer", "tokenizer_files", "source", "content_hash"}) {
    if (parts.leave_out != name)
      file.write_attribute("/", name, std::string(std::strcmp(name, "tokenizer") == 0 ? "bytes" : ""));
  }
  file.close();
  return path;
}

std::string refusal(const std::filesystem::path& path) {
  const auto message = error_of([&] { Dataset::open(path); });
  expect_says(message, path.string(), "lexring prepare --input");
  return message;
}

TEST(Dataset, ReadsBothWidths) {
  TempDirectory directory;
  for (const auto type : {H5Type::u16, H5Type::u32}) {
    const auto dataset = Dataset::open(write_parts(directory, {.type = type, .leave_out = ""}));
    EXPECT_EQ(all_tokens(dataset), (std::vector<std::int32_t>{1, 2, 3, 9, 4, 9}));
    EXPECT_EQ(dataset.vocab(), 10);
    EXPECT_EQ(dataset.document_start(3), 0);
    EXPECT_EQ(dataset.document_start(4), 4);
    std::vector<std::int32_t> two(2);
    dataset.read(4, two);
    EXPECT_EQ(two, (std::vector<std::int32_t>{4, 9}));
    expect_says(error_of([&] { dataset.read(5, two); }), "[5, 7)", "holds 6");
    expect_says(error_of([&] { dataset.document_start(6); }), "holds 6");
  }
}

TEST(Dataset, MissingEmptyAndForeignFiles) {
  TempDirectory directory;
  expect_says(refusal(directory / "nowhere.h5"), "no such file");
  expect_says(refusal(directory.path()), "directory");
  write_file(directory / "empty.h5", "");
  expect_says(refusal(directory / "empty.h5"), "it is empty");
  write_file(directory / "text.h5", "It was a dark and stormy night.");
  expect_says(refusal(directory / "text.h5"), "not an HDF5 file");
  {
    Hdf5File foreign(directory / "foreign.h5", Hdf5File::Mode::create);
    put(foreign, "weights", H5Type::f32, std::vector<float>{1, 2});
    foreign.close();
  }
  expect_says(refusal(directory / "foreign.h5"), "no /tokens", "some other program");
}

/// A program that is killed leaves a mark in files of HDF5's newer formats, and h5clear takes it away: nothing is
/// damaged.
TEST(Dataset, OpenForWritingElsewhere) {
  TempDirectory directory;
  const auto path = directory / "open.h5";
  const auto child = ::fork();
  if (child == 0) {
    const auto access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    const auto file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Fflush(file, H5F_SCOPE_GLOBAL);
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  const auto message = error_of([&] { Dataset::open(path); });
  expect_says(message, "open.h5", "another program holds it", "wait until");
  EXPECT_EQ(message.find("damaged"), std::string::npos) << message;
}

TEST(Dataset, PartsThatDoNotFit) {
  TempDirectory directory;
  const auto refused = [&](const Parts& parts) { return refusal(write_parts(directory, parts)); };
  expect_says(refused({.leave_out = "tokens"}), "no /tokens");
  expect_says(refused({.leave_out = "documents"}), "no /documents");
  expect_says(refused({.leave_out = "token_bytes"}), "no /token_bytes");
  expect_says(refused({.leave_out = "content_hash"}), "no attribute content_hash");
  expect_says(refused({.type = H5Type::f32, .leave_out = ""}), "neither uint16 nor uint32");
  expect_says(refused({.tokens = {}, .documents = {0}, .leave_out = ""}), "no tokens");
  expect_says(refused({.version = 2, .leave_out = ""}), "version is 2");
  expect_says(refused({.vocab = 11, .leave_out = ""}), "vocabulary is 11");
  expect_says(refused({.documents = {0, 4, 7}, .leave_out = ""}), "/documents");
  expect_says(refused({.documents = {1, 4, 6}, .leave_out = ""}), "/documents");
  expect_says(refused({.documents = {0, 5, 4, 6}, .leave_out = ""}), "/documents");
  expect_says(refused({.window = -1, .leave_out = ""}), "windows are of -1");
  expect_says(refused({.window = 3, .leave_out = ""}), "document 0 lies in two windows of 3 tokens");
}

TEST(Dataset, TokensOutsideTheVocabularyAreRefusedWhenRead) {
  TempDirectory directory;
  const auto dataset = Dataset::open(write_parts(directory, {.tokens = {1, 2, 3, 10, 4, 9}, .leave_out = ""}));
  std::vector<std::int32_t> out(3);
  dataset.read(0, out);
  expect_says(error_of([&] { dataset.read(1, out); }), "token 10", "vocabulary is 10", "prepare it again");
}

TEST(Dataset, TruncatedAnywhereIsRefused) {
  TempDirectory directory;
  make_dataset(directory, {std::string(3000, 'a'), std::string(2000, 'b')});
  const auto whole = read_file(directory / "corpus.h5");
  for (std::size_t keep = 1; keep < whole.size(); keep += 97) {
    write_file(directory / "cut.h5", whole.substr(0, keep));
    refusal(directory / "cut.h5");
  }
}

TEST(Dataset, ShortenedWhileOpenIsAnErrorNotZeros) {
  TempDirectory directory;
  const auto dataset = make_dataset(directory, {std::string(300000, 'a')});
  std::filesystem::resize_file(directory / "corpus.h5", 10000);
  expect_says(error_of([&] { all_tokens(dataset); }), "corpus.h5", "ends at byte 10000");
}

TEST(InspectDataset, SummaryAndVerification) {
  TempDirectory directory;
  const auto path = make_dataset(directory, {"abc", std::string(100, 'x'), "1234567", "12", "1"}).path();
  const auto summary = inspect_dataset(path, Verify::yes);
  EXPECT_EQ(summary.documents, 5);
  EXPECT_EQ(summary.tokens, 118);
  EXPECT_EQ(summary.text_bytes, 113u);
  EXPECT_EQ(summary.median_document, 3u);
  EXPECT_EQ(summary.longest_document, 100u);
  EXPECT_TRUE(summary.verified);
  expect_says(to_text(summary), "118", "verified", summary.content_hash);
  const auto json = nlohmann::json::parse(to_json(summary));
  EXPECT_EQ(json.at("tokens"), 118);
  EXPECT_EQ(json.at("content_hash"), summary.content_hash);

  auto bytes = read_file(path);
  const auto place = bytes.find(std::string("1\0002\0003\0", 6));
  ASSERT_NE(place, std::string::npos);
  bytes[place] = '5';  // one token changed
  write_file(path, bytes);
  EXPECT_FALSE(inspect_dataset(path, Verify::no).verified);
  expect_says(error_of([&] { inspect_dataset(path, Verify::yes); }), "damaged", summary.content_hash,
              "prepare it again");
}

/// h5py sees what we wrote; and a chunked copy made by it is refused.
TEST(Dataset, H5pySeesTheSame) {
  const std::string python = "/usr/bin/python3";
  if (std::system((python + " -c 'import h5py' >/dev/null 2>&1").c_str()) != 0)
    GTEST_SKIP() << "needs Debian's python3-h5py (apt install python3-h5py)";
  TempDirectory directory;
  const auto dataset = make_dataset(directory, {"h\xc3\xa9llo", "", "world"});
  write_file(directory / "look.py",
             "import h5py, sys\n"
             "f = h5py.File(sys.argv[1], 'r')\n"
             "t = f['tokens']\n"
             "assert t.dtype == 'uint16' and t.chunks is None and t.shape == (13,), t\n"
             "assert bytes(int(i) for i in t[:6]) == 'h\\u00e9llo'.encode() and t[6] == 256 and t[12] == 256\n"
             "assert f['documents'].dtype == 'uint64' and list(f['documents']) == [0, 7, 13]\n"
             "assert f['token_bytes'].shape == (257,) and f['token_bytes'][256] == 0 and f['token_bytes'][97] == 1\n"
             "text = lambda name: f.attrs[name].decode() if isinstance(f.attrs[name], bytes) else str(f.attrs[name])\n"
             "assert f.attrs['format_version'] == 1 and f.attrs['vocab'] == 257 and text('tokenizer') == 'bytes'\n"
             "assert text('source') == sys.argv[3] and len(text('content_hash')) == 32\n"
             "with h5py.File(sys.argv[2], 'w') as g:\n"
             "    for name in ('documents', 'token_bytes'): g[name] = f[name][:]\n"
             "    g.create_dataset('tokens', data=t[:], chunks=(4,))\n"
             "    g.attrs.update(f.attrs)\n");
  const auto command = python + " " + (directory / "look.py").string() + " " + dataset.path().string() + " " +
                       (directory / "chunked.h5").string() + " " + (directory / "corpus.jsonl").string();
  ASSERT_EQ(std::system(command.c_str()), 0);
  expect_says(refusal(directory / "chunked.h5"), "not contiguous");
}

}  // namespace
}  // namespace lexring::testing
