// A checkpoint as one file: every bit, nothing else needed to read it, nothing written from a damaged one.
#include "parallel/checkpoint/export.h"

#include <cstdlib>
#include <fstream>

#include "framework/io/hdf5_file.h"
#include "parallel/checkpoint/inspect.h"
#include "tests/parallel/checkpoint/checkpoint_fixture.h"

namespace lexring {
namespace {

using ExportTest = CheckpointTest;

TEST_F(ExportTest, OneFileHoldsEveryBit) {
  save(5);
  const auto path = temporary.path() / "one.h5";
  export_checkpoint(directory, path, {"pairs", "a b\n"});
  std::filesystem::remove_all(directory);
  const Hdf5File file(path, Hdf5File::Mode::read);
  EXPECT_EQ(file.members("/"), (std::vector<std::string>{"b", "d", "w"}));
  EXPECT_EQ(file.type("b"), H5Type::bf16);
  EXPECT_EQ(file.type("d"), H5Type::f64);
  const auto w = file.read_all<float>("w");
  ASSERT_EQ(file.shape("w"), (Shape{8, 6}));
  for (std::size_t i = 0; i < w.size(); ++i) ASSERT_EQ(w[i], element(static_cast<std::int64_t>(i)));
  EXPECT_EQ(file.int_attribute("/", "step"), 5);
  EXPECT_EQ(file.string_attribute("/", "configuration"), state_at(5).configuration);
  EXPECT_EQ(file.string_attribute("/", "tokenizer"), "pairs");
  EXPECT_EQ(file.string_attribute("/", "tokenizer_files"), "a b\n");
  const std::string text = describe_export(path);
  expect_contains(text, "step 5");
  expect_contains(text, "tokenizer pairs");
  expect_contains(text, "w  [8, 6]");
}

/// More than one block, cut where no rank cut, and a scalar.
TEST_F(ExportTest, LargeTensorsGoInBlocks) {
  const std::int64_t rows = 3'000'001;
  std::vector<float> values(static_cast<std::size_t>(rows));
  for (std::int64_t i = 0; i < rows; ++i) values[static_cast<std::size_t>(i)] = static_cast<float>(i % 65537);
  {
    CheckpointWriter writer(directory, *self, 0);
    writer.save(state_at(1), {{"long", {rows}, {0}, Tensor::from(*runtime, {rows}, values)},
                              {"scalar", {}, {}, Tensor::from(*runtime, {}, std::vector<float>{7})}});
    EXPECT_EQ(writer.finish(), std::nullopt);
  }
  const auto path = temporary.path() / "one.h5";
  export_checkpoint(directory, path, {});
  const Hdf5File file(path, Hdf5File::Mode::read);
  EXPECT_EQ(file.read_all<float>("long"), values);
  EXPECT_EQ(file.read_all<float>("scalar"), std::vector<float>{7});
}

TEST_F(ExportTest, ADamagedCheckpointIsNotExported) {
  save(5);
  const auto shard = find_checkpoint(directory)->string() + "/shard-0000.h5";
  std::fstream(shard, std::ios::in | std::ios::out | std::ios::binary).seekp(3000).put('x').put('y');
  const auto path = temporary.path() / "one.h5";
  expect_contains(error_of([&] { export_checkpoint(directory, path, {}); }), "shard-0000.h5 is damaged");
  EXPECT_FALSE(std::filesystem::exists(path));
}

/// HDF5 gives NaN, silently, where shards are missing: this is why there is an export, and why the file says so.
TEST_F(ExportTest, ACopyOfTheVirtualFileWarns) {
  save(5);
  const auto copy = temporary.path() / "copy.h5";
  std::filesystem::copy_file(*find_checkpoint(directory) / "checkpoint.h5", copy);
  const Hdf5File file(copy, Hdf5File::Mode::read);
  expect_contains(file.string_attribute("/", "warning"), "--export");
  EXPECT_EQ(describe_export(copy), "");
  expect_contains(describe_checkpoint(directory, false), "--export");
}

}  // namespace
}  // namespace lexring
