#include "jobs/options.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "framework/backend/cuda_backend.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

class OptionsTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(directory_); }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string file(const std::string& name, const std::string& text) const {
    const auto path = directory_ / name;
    std::ofstream(path) << text;
    return path.string();
  }

  std::filesystem::path directory_ =
      std::filesystem::temp_directory_path() /
      ("lexring_options_" + std::to_string(getpid()) + "_" + testing::UnitTest::GetInstance()->current_test_info()->name());
};

/// The message of the UsageError that a call throws.
template <class F>
std::string message_of(F&& call) {
  try {
    call();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

std::string refusal(const std::vector<std::string>& args) {
  return message_of([&] { parse_options(args); });
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST_F(OptionsTest, DefaultsFollowTheReference) {
  const Options o = parse_options({});
  EXPECT_EQ(o.model.layers, 2);
  EXPECT_EQ(o.model.width, 32);
  EXPECT_EQ(o.model.position.kind, "xpos");
  EXPECT_EQ(o.model.position.gamma, 0.4);
  EXPECT_EQ(o.model.attention.pattern, "causal");
  EXPECT_EQ(o.model.vocab, 0) << "the data set says";
}

TEST_F(OptionsTest, SomeDefaultsFollowOtherKeys) {
  const Options o = parse_options({"--model.width", "64", "--model.heads", "8", "--train.length", "300", "--position.kind", "learned"});
  EXPECT_EQ(o.model.kv_heads, 8);
  EXPECT_EQ(o.model.ffn_width, 256);
  EXPECT_EQ(o.model.attention.block, 150);
  EXPECT_EQ(o.model.max_length, 300);
  EXPECT_EQ(o.model.position.original_length, 300);
  const Options given = parse_options({"--model.heads", "8", "--model.kv_heads", "2", "--attention.block", "0", "--model.ffn_width", "7"});
  EXPECT_EQ(given.model.kv_heads, 2);
  EXPECT_EQ(given.model.attention.block, 0) << "a wrong value that was given must reach the check, not be replaced";
  EXPECT_EQ(given.model.ffn_width, 7);
}

TEST_F(OptionsTest, CommandLineWinsOverFilesAndLaterFilesOverEarlier) {
  const auto first = file("first.ini", "resume = none\n[model]\nlayers = 3\nwidth = 48\n[train]\nlength = 64 # tokens\n");
  const auto second = file("second.ini", "[model]\nlayers = 5\n");
  const Options o = parse_options({"--train.length", "32", "--config", first, "--config", second});
  EXPECT_EQ(o.resume, "none");
  EXPECT_EQ(o.model.layers, 5);
  EXPECT_EQ(o.model.width, 48);
  EXPECT_EQ(o.train.length, 32);
  EXPECT_EQ(o.model.attention.block, 16);
  EXPECT_EQ(parse_options({"--train.length=16", "--model.bias", "false"}).model.bias, false);
}

TEST_F(OptionsTest, UnknownKeysNameTheNearest) {
  EXPECT_HAS(refusal({"--model.layrs", "3"}), "'model.layrs'");
  EXPECT_HAS(refusal({"--model.layrs", "3"}), "nearest is 'model.layers'");
  EXPECT_HAS(refusal({"--heads", "3"}), "nearest is 'model.heads'");
  const auto path = file("wrong.ini", "# a run\n[train]\nlength = 8\nbatchh = 2\n");
  EXPECT_HAS(refusal({"--config", path}), path + ":4: there is no key 'train.batchh'; the nearest is 'train.batch'");
  EXPECT_HAS(refusal({"--config", file("top.ini", "devise = cpu\n")}), "nearest is 'device'");
}

TEST_F(OptionsTest, WrongTypesNameKeyValueAndExpectation) {
  EXPECT_HAS(refusal({"--model.layers", "twelve"}), "model.layers = 'twelve' is not a whole number");
  EXPECT_HAS(refusal({"--model.layers", "1.5"}), "is not a whole number");
  EXPECT_HAS(refusal({"--optimizer.lr", "fast"}), "optimizer.lr = 'fast' is not a number");
  EXPECT_HAS(refusal({"--optimizer.lr", "nan"}), "is not a number");
  EXPECT_HAS(refusal({"--model.bias", "maybe"}), "is not true or false");
  EXPECT_HAS(refusal({"--train.precision", "fp8"}), "choose auto, bf16, tf32, fp32, fp64");
  EXPECT_HAS(refusal({"--model.layers"}), "model.layers");
  EXPECT_HAS(refusal({"alone"}), "'alone' stands alone");
  const auto path = file("wrong.ini", "[model]\n\nlayers = many\n");
  EXPECT_HAS(refusal({"--config", path}), path + ":3: model.layers = 'many'");
  EXPECT_HAS(refusal({"--config", file("twice.ini", "[model]\nlayers = 1\nlayers = 2\n")}), "given twice");
  EXPECT_HAS(refusal({"--config", file("broken.ini", "[model]\nlayers\n")}), "cannot be read as INI");
  EXPECT_HAS(refusal({"--config", (directory_ / "missing.ini").string()}), "cannot be opened");
}

TEST_F(OptionsTest, ImpossibleValuesAreRefused) {
  EXPECT_HAS(refusal({"--train.length", "0"}), "train.length = 0");
  EXPECT_HAS(refusal({"--train.batch", "-1"}), "train.batch = -1");
  EXPECT_HAS(refusal({"--train.steps", "0"}), "train.steps = 0");
  EXPECT_HAS(refusal({"--optimizer.beta2", "1"}), "optimizer.beta2 = 1");
  EXPECT_HAS(refusal({"--mesh.cp", "0"}), "mesh.cp = 0");
  EXPECT_HAS(refusal({"--mesh.ulysses", "-1"}), "mesh.ulysses = -1");
  EXPECT_HAS(refusal({"--watchdog.seconds", "-1"}), "watchdog.seconds = -1");
  EXPECT_HAS(refusal({"--sequence.partition", "zagzig"}), "choose auto, zigzag, contiguous, striped");
  EXPECT_HAS(refusal({"--sequence.exchange", "hallo"}), "choose auto, ring, halo");
  EXPECT_HAS(refusal({"--optimizer.shard", "parameters"}), "choose none, state, gradients");
  EXPECT_HAS(refusal({"--train.precision", "fp64"}), "reference");
  EXPECT_HAS(refusal({"--train.residual", "bf16"}), "train.residual");
  if (cuda_device_count() == 0) {
    EXPECT_HAS(message_of([] { make_backend("cuda"); }), cuda_is_built_in() ? "no CUDA device" : "without CUDA");
  }
  EXPECT_EQ(make_backend("auto")->name(), cuda_device_count() > 0 ? "cuda" : "cpu");
}

TEST_F(OptionsTest, IniRoundTrips) {
  const Options o = parse_options({"--model.layers",
                                   "12",
                                   "--optimizer.lr",
                                   "0.000123456789",
                                   "--data.train",
                                   "some dir/corpus = 1.h5",
                                   "--train.minutes",
                                   "2.5",
                                   "--model.bias",
                                   "false",
                                   "--attention.pattern",
                                   "blockwise",
                                   "--resume",
                                   "none",
                                   "--mesh.ulysses",
                                   "4",
                                   "--sequence.partition",
                                   "striped",
                                   "--optimizer.shard",
                                   "state",
                                   "--watchdog.seconds",
                                   "5"});
  const std::string text = to_ini(o);
  const Options again = parse_ini_text(text, "test");
  EXPECT_EQ(to_ini(again), text);
  EXPECT_EQ(again.model, o.model);
  EXPECT_EQ(again.optimizer.lr, 0.000123456789);
  EXPECT_EQ(again.data.train, "some dir/corpus = 1.h5");
  EXPECT_EQ(again.resume, "none");
  EXPECT_EQ(again.mesh.ulysses, 4);
  EXPECT_EQ(again.sequence.partition, "striped");
  EXPECT_EQ(again.optimizer.shard, "state");
  EXPECT_EQ(again.watchdog_seconds, 5);
  EXPECT_HAS(message_of([&] {
               Options odd = o;
               odd.data.train = "a#b";
               to_ini(odd);
             }),
             "data.train");
}

TEST_F(OptionsTest, HelpListsEveryKeyWithUnitAndDefault) {
  Options defaults;
  const KeyTable table = option_keys(defaults);
  const std::string help = table.help();
  for (const Key& key : table.keys()) EXPECT_HAS(help, "--" + key.name + " ");
  EXPECT_HAS(help, "sequence length [tokens] (default 256)");
  EXPECT_HAS(help, "(default train.length / 2)");
}

/// Every row of the README's table is a line of --help, so that neither forgets a key.
TEST_F(OptionsTest, TheReadmeListsEveryKeyWithMeaningUnitAndDefault) {
  std::ifstream stream(LEXRING_SOURCE "/configs/README.md");
  const std::string readme((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  Options defaults;
  const KeyTable table = option_keys(defaults);
  for (const Key& key : table.keys()) {
    std::string text = key.meaning;
    for (std::size_t i = 0; i < key.choices.size(); ++i) text += (i == 0 ? ": " : " ") + key.choices[i];
    const std::string value = key.default_text.empty() ? text_of(key.target) : key.default_text;
    const std::string unit = key.unit == "true|false" ? "true, false" : key.unit;
    EXPECT_HAS(readme, "| `" + key.name + "` | " + text + " | " + unit + " | " + value + " |\n");
  }
}

TEST_F(OptionsTest, ListsAndFlags) {
  std::vector<std::int64_t> lengths;
  std::vector<std::string> inputs, patterns;
  bool strict = false;
  KeyTable table;
  table.add({{"lengths", &lengths, ""},
             {"input", &inputs, ""},
             {"patterns", &patterns, "", "", "", {"causal", "blockwise"}},
             {"strict", &strict, "", "", "", {}, true}});
  table.parse_arguments(
      {"--lengths", "256,512", "1024", "--input", "a", "b,c", "--input", "d", "--patterns", "causal,blockwise", "--strict"});
  EXPECT_EQ(lengths, (std::vector<std::int64_t>{256, 512, 1024}));
  EXPECT_EQ(inputs, (std::vector<std::string>{"a", "b,c", "d"}));
  EXPECT_EQ(patterns, (std::vector<std::string>{"causal", "blockwise"}));
  EXPECT_TRUE(strict);
  EXPECT_HAS(message_of([&] { table.parse_arguments({"--lengths", "256,x"}); }), "'x'");
  EXPECT_HAS(message_of([&] { table.parse_arguments({"--patterns", "diagonal"}); }), "choose causal, blockwise");
}

}  // namespace
}  // namespace lexring
