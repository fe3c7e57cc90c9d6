#include "parallel/checkpoint/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>

#include "parallel/checkpoint/files.h"
#include "parallel/checkpoint/inspect.h"
#include "parallel/checkpoint/steps.h"
#include "tests/parallel/checkpoint/checkpoint_fixture.h"
#include "tests/support/process.h"

namespace lexring {
namespace {

TEST_F(CheckpointTest, WhatWasSavedIsLoaded) {
  save(10);
  const CheckpointReader reader(directory);
  EXPECT_EQ(reader.path(), directory / "step-00000010");
  EXPECT_EQ(reader.state().step, 10);
  EXPECT_EQ(reader.state().samples, 320);
  EXPECT_EQ(reader.state().skipped_steps, 1);
  EXPECT_EQ(reader.state().dataset_hash, "0123abcd");
  EXPECT_EQ(reader.state().configuration, "[model]\nlayers = 2\n");
  reader.verify(*self);
  EXPECT_EQ(reader.names(), (std::vector<std::string>{"b", "d", "w"}));
  EXPECT_EQ(reader.info("w")->shape, (Shape{8, 6}));
  EXPECT_EQ(reader.info("b")->dtype, Dtype::bf16);
  EXPECT_TRUE(reader.info("d") && !reader.info("e"));
  expect_part<float>(*runtime, reader, "w", {8, 6}, {0, 0}, {8, 6});
  expect_part<double>(*runtime, reader, "d", {2, 2}, {0, 0}, {2, 2});
  expect_part<bfloat16>(*runtime, reader, "b", {4, 4}, {0, 0}, {4, 4});
}

TEST_F(CheckpointTest, AnyCutIsReadFromAnyOther) {
  save(1);
  const CheckpointReader reader(directory);
  for (std::int64_t half : {0, 4}) expect_part<float>(*runtime, reader, "w", {8, 6}, {half, 0}, {4, 6});
  for (std::int64_t column : {0, 2, 4}) expect_part<float>(*runtime, reader, "w", {8, 6}, {0, column}, {8, 2});
  expect_part<float>(*runtime, reader, "w", {8, 6}, {2, 1}, {3, 4});
  expect_part<float>(*runtime, reader, "w", {8, 6}, {8, 0}, {0, 6});
}

TEST_F(CheckpointTest, FloatsAreConverted) {
  save(1);
  const CheckpointReader reader(directory);
  expect_part<double>(*runtime, reader, "w", {8, 6}, {1, 0}, {4, 6});
  expect_part<bfloat16>(*runtime, reader, "w", {8, 6}, {1, 0}, {4, 6});
  expect_part<float>(*runtime, reader, "b", {4, 4}, {1, 1}, {2, 2});
  expect_part<float>(*runtime, reader, "d", {2, 2}, {0, 0}, {2, 2});
}

TEST_F(CheckpointTest, EveryBitSurvives) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> odd = {-0.F, nan, std::numeric_limits<float>::denorm_min(),
                                  -std::numeric_limits<float>::infinity(), 0.1F};
  CheckpointWriter writer(directory, *self, 0);
  writer.save(state_at(1),
              {{"odd", {5}, {0}, Tensor::from(*runtime, {5}, odd)},
               {"scalar", {}, {}, Tensor::from(*runtime, {}, std::vector<double>{0.1})},
               {"cube",
                {2, 3, 2},
                {0, 0, 0},
                Tensor::from(*runtime, {2, 3, 2}, std::vector<std::int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})},
               {"none", {0, 4}, {0, 0}, Tensor(*runtime, {0, 4}, Dtype::f32)}});
  EXPECT_EQ(writer.finish(), std::nullopt);
  const CheckpointReader reader(directory);
  const LogicalTensor found{"odd", {5}, {0}, Tensor(*runtime, {5}, Dtype::f32)};
  reader.read(found);
  EXPECT_EQ(std::memcmp(found.data.raw(), odd.data(), 20), 0);
  const LogicalTensor scalar{"scalar", {}, {}, Tensor(*runtime, {}, Dtype::f64)};
  reader.read(scalar);
  EXPECT_EQ(scalar.data.to_host<double>()[0], 0.1);
  const LogicalTensor cube{"cube", {2, 3, 2}, {0, 1, 1}, Tensor(*runtime, {2, 2, 1}, Dtype::i32)};
  reader.read(cube);
  EXPECT_EQ(cube.data.to_host<std::int32_t>(), (std::vector<std::int32_t>{3, 5, 9, 11}));
  reader.read({"none", {0, 4}, {0, 0}, Tensor(*runtime, {0, 4}, Dtype::f32)});
}

TEST_F(CheckpointTest, ASaveIsACopy) {
  CheckpointWriter writer(directory, *self, 0);
  const LogicalTensor w = matrix_part<float>(*runtime, "w", {4, 4}, {0, 0}, {4, 4});
  EXPECT_FALSE(writer.in_flight());
  EXPECT_TRUE(writer.shard_done());
  writer.save(state_at(3), {w});
  w.data.data<float>()[0] = 12345.F;  // the next step goes on
  EXPECT_TRUE(writer.in_flight());
  while (!writer.shard_done()) usleep(1000);
  EXPECT_FALSE(find_checkpoint(directory).has_value());
  EXPECT_EQ(writer.publish(), std::nullopt);
  EXPECT_FALSE(writer.in_flight());
  expect_part<float>(*runtime, CheckpointReader(directory), "w", {4, 4}, {0, 0}, {4, 4});
}

TEST_F(CheckpointTest, PiecesMustTileTheirTensor) {
  CheckpointWriter writer(directory, *self, 0);
  const auto part = [&](std::int64_t row, std::int64_t rows) {
    return matrix_part<float>(*runtime, "w", {4, 4}, {row, 0}, {rows, 4});
  };
  expect_contains(error_of([&] { writer.save(state_at(1), {part(0, 2)}); }), "8 of 16 elements");
  expect_contains(error_of([&] { writer.save(state_at(1), {part(0, 2), part(1, 2)}); }), "overlap");
  expect_contains(error_of([&] { writer.save(state_at(1), {part(2, 3)}); }), "outside");
  EXPECT_FALSE(writer.in_flight());
}

TEST_F(CheckpointTest, WhatDoesNotFitTheModelIsNamed) {
  save(1);
  const CheckpointReader reader(directory);
  const auto read = [&](const std::string& name, const Shape& full, const Shape& offset, const Shape& shape,
                        Dtype dtype) {
    return error_of([&] { reader.read({name, full, offset, Tensor(*runtime, shape, dtype)}); });
  };
  expect_contains(read("x", {8, 6}, {0, 0}, {8, 6}, Dtype::f32), "no tensor x");
  expect_contains(read("w", {6, 8}, {0, 0}, {6, 8}, Dtype::f32), "has shape [8, 6], but [6, 8] is needed");
  expect_contains(read("w", {8, 6}, {6, 0}, {4, 6}, Dtype::f32), "is not inside");
  expect_contains(read("w", {8, 6}, {0, 0}, {8, 6}, Dtype::i32), "is f32, but i32 is needed");
}

TEST_F(CheckpointTest, TheNewestStayAndLatestNamesTheLast) {
  for (std::int64_t step : {10, 20, 30, 40}) save(step, 2);
  EXPECT_FALSE(std::filesystem::exists(directory / "step-00000020"));
  EXPECT_TRUE(std::filesystem::exists(directory / "step-00000030"));
  EXPECT_EQ(find_checkpoint(directory), directory / "step-00000040");
  save(35, 1);  // a run that went back: the one just written is never the one to go
  EXPECT_EQ(find_checkpoint(directory), directory / "step-00000035");
  EXPECT_EQ(find_checkpoint(directory / "step-00000035"), directory / "step-00000035");
}

TEST_F(CheckpointTest, TheSameStepMayBeSavedAgain) {
  save(10);
  save(10);
  CheckpointReader(directory).verify(*self);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"latest", "step-00000010"}));
}

TEST_F(CheckpointTest, AnInterruptedReplacementOfAStepLosesNothing) {
  save(10);
  // Without a partial directory the second rename fails, as it never comes after a crash between the two.
  expect_contains(error_of([&] { put_into_place(directory, 10); }), "step-00000010: cannot put into place");
  const CheckpointReader reader(directory);
  EXPECT_EQ(reader.path(), directory / "step-00000010.old");
  reader.verify(*self);
  save(10);
  EXPECT_EQ(find_checkpoint(directory), directory / "step-00000010");
  EXPECT_FALSE(std::filesystem::exists(directory / "step-00000010.old"));
}

TEST_F(CheckpointTest, PiecesMayBeCutAnywhereInsideACube) {
  const auto part = [&](std::int64_t column, const std::vector<float>& values) {
    return LogicalTensor{"cube",
                         {2, 3, 2},
                         {0, column, 0},
                         Tensor::from(*runtime, {2, static_cast<std::int64_t>(values.size()) / 4, 2}, values)};
  };
  CheckpointWriter writer(directory, *self, 0);
  writer.save(state_at(1), {part(0, {0, 1, 2, 3, 6, 7, 8, 9}), part(2, {4, 5, 10, 11})});
  EXPECT_EQ(writer.finish(), std::nullopt);
  const LogicalTensor whole{"cube", {2, 3, 2}, {0, 0, 0}, Tensor(*runtime, {2, 3, 2}, Dtype::f32)};
  CheckpointReader(directory).read(whole);
  EXPECT_EQ(whole.data.to_host<float>(), (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
}

TEST_F(CheckpointTest, OnlyCompleteCheckpointsAreFound) {
  EXPECT_FALSE(find_checkpoint(directory).has_value());
  save(10);
  save(20);
  std::filesystem::create_directory(directory / "step-00000030");  // no manifest
  std::filesystem::copy(directory / "step-00000020", directory / "step-00000040.partial");
  EXPECT_EQ(find_checkpoint(directory), directory / "step-00000020");
  EXPECT_FALSE(find_checkpoint(directory / "step-00000030").has_value());
  EXPECT_FALSE(find_checkpoint(directory / "step-00000040.partial").has_value());
  std::filesystem::remove(directory / "latest");
  EXPECT_EQ(find_checkpoint(directory), directory / "step-00000020");
  std::ofstream(directory / "latest") << "step-00000030\n";
  EXPECT_EQ(find_checkpoint(directory), directory / "step-00000020");
  std::filesystem::rename(directory / "step-00000020", directory / "step-00000020.old");  // a crash between two renames
  EXPECT_EQ(find_checkpoint(directory), directory / "step-00000020.old");
  expect_contains(error_of([&] { CheckpointReader(directory / "none"); }), "there is no complete checkpoint");
}

TEST_F(CheckpointTest, PythonSeesWholeTensors) {
  save(7);
  std::ofstream(temporary.path() / "look.py")
      << "import sys, h5py, numpy as np\nf = h5py.File(sys.argv[1])\n"
         "e = lambda *s: (np.arange(np.prod(s)) % 128 - 50.).reshape(s)\n"
         "print(f.attrs['step'], f['b'].dtype, f['d'].dtype, f['w'].shape)\n"
         "print(*[bool((f[n][()] == e(*f[n].shape)).all()) for n in ('w', 'd', 'b')], np.isnan(f['w'][()]).sum())\n";
  const std::string command = "cd / && /usr/bin/python3 " + (temporary.path() / "look.py").string() + " " +
                              (directory / "step-00000007/checkpoint.h5").string();
  EXPECT_EQ(run_process(command).output, "7 float32 float64 (8, 6)\nTrue True True 0\n");
  std::filesystem::remove(directory / "step-00000007/shard-0000.h5");
  EXPECT_EQ(run_process(command).output,
            "7 float32 float64 (8, 6)\nFalse False False 48\n");  // HDF5 says nothing; the manifest does
  expect_contains(error_of([&] { CheckpointReader reader(directory); }), "shard-0000.h5 is missing");
}

TEST_F(CheckpointTest, ATokenizerIsLoadedWithEveryByte) {
  const StoredTokenizer tokenizer{"pairs", std::string("a\0\xff\n", 4)};
  TrainingState state = state_at(3);
  state.tokenizer = tokenizer;
  CheckpointWriter writer(directory, *self, 0);
  writer.save(state, {matrix_part<float>(*runtime, "w", {4, 4}, {0, 0}, {4, 4})});
  EXPECT_EQ(writer.finish(), std::nullopt);
  const CheckpointReader reader(directory);
  reader.verify(*self);
  EXPECT_EQ(reader.state().tokenizer, tokenizer);
  const auto file = directory / "step-00000003/tokenizer";
  expect_contains(describe_checkpoint(directory, true), "tokenizer pairs, files of 4 bytes, xxh3 " + hash_file(file));
  std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).put('b');
  expect_contains(error_of([&] { CheckpointReader again(directory); }), "tokenizer is damaged: its contents");
  std::filesystem::remove(file);
  expect_contains(error_of([&] { CheckpointReader again(directory); }), "tokenizer is missing");
}

TEST_F(CheckpointTest, TheWindowOfSpikesIsReadBackBitForBit) {
  TrainingState state = state_at(3);
  state.spikes = {{0.1, 1.0 / 3, 5e-324, 2.718281828459045}, {1e300, 0.1 + 0.2, 7, 1e-9}, 2, 1, 3};
  CheckpointWriter writer(directory, *self, 0);
  writer.save(state, {matrix_part<float>(*runtime, "w", {4, 4}, {0, 0}, {4, 4})});
  EXPECT_FALSE(writer.finish());
  EXPECT_EQ(CheckpointReader(directory).state().spikes, state.spikes);
}

/// As they were before tokenizers were stored, before steps skipped in a row were counted, and before spikes were.
TEST_F(CheckpointTest, AnOlderManifestIsRead) {
  save(3);
  const auto path = directory / "step-00000003/manifest.json";
  std::string text = read_text_file(path);
  const auto spikes = text.find("\"spikes\":{");
  ASSERT_NE(spikes, std::string::npos) << text;
  text.erase(spikes, text.find("},", spikes) + 2 - spikes);
  for (const std::string member : {",\"tokenizer\":\"bytes\"", "\"skipped_in_a_row\":0,"}) {
    ASSERT_NE(text.find(member), std::string::npos) << text;
    text.erase(text.find(member), member.size());
  }
  const auto checksum = text.find("\"checksum\": \"") + 13;
  text.replace(checksum, 16, 16, '0');
  text.replace(checksum, 16, hash_text(text));
  std::ofstream(path) << text;
  const CheckpointReader reader(directory);
  EXPECT_EQ(reader.state().step, 3);
  EXPECT_EQ(reader.state().tokenizer, StoredTokenizer());
  EXPECT_EQ(reader.state().spikes, (SpikeState{{}, {}, 0, 3, 0})) << "as good to go back to as any";
  expect_contains(describe_checkpoint(directory, true), "tokenizer not stored");
}

TEST_F(CheckpointTest, InspectTellsWhatIsInside) {
  save(7);
  const std::string text = describe_checkpoint(directory, true);
  for (const char* part : {"step 7, 224 samples, 1 skipped", "layers = 2", "[8, 6]  in 3 pieces", "shard-0000.h5",
                           "verified", "tokenizer bytes\n"})
    expect_contains(text, part);
  expect_contains(describe_checkpoint(directory, false), "not verified");
}

}  // namespace
}  // namespace lexring
