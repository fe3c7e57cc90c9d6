#include "jobs/config/options.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "framework/backend/cuda_backend.h"
#include "framework/base/error.h"
#include "jobs/config/changes.h"
#include "jobs/launch/devices.h"

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
      std::filesystem::temp_directory_path() / ("lexring_options_" + std::to_string(getpid()) + "_" +
                                                testing::UnitTest::GetInstance()->current_test_info()->name());
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
  EXPECT_EQ(o.model.position.own.number("gamma"), 0.4);
  EXPECT_EQ(o.model.attention.pattern, "causal");
  EXPECT_EQ(o.model.vocab, 0) << "the data set says";
}

TEST_F(OptionsTest, SomeDefaultsFollowOtherKeys) {
  const Options o = parse_options(
      {"--model.width", "64", "--model.heads", "8", "--train.length", "300", "--position.kind", "learned"});
  EXPECT_EQ(o.model.kv_heads, 8);
  EXPECT_EQ(o.model.ffn_width, 256);
  EXPECT_EQ(o.model.attention.block, 150);
  EXPECT_EQ(o.model.max_length, 300);
  EXPECT_EQ(o.model.position.original_length, 300);
  const Options given = parse_options({"--model.heads", "8", "--model.kv_heads", "2", "--attention.pattern",
                                       "blockwise", "--attention.block", "0", "--model.ffn_width", "7"});
  EXPECT_EQ(given.model.kv_heads, 2);
  EXPECT_EQ(given.model.attention.block, 0) << "a wrong value that was given must reach the check, not be replaced";
  EXPECT_EQ(given.model.ffn_width, 7);
}

TEST_F(OptionsTest, CommandLineWinsOverFilesAndLaterFilesOverEarlier) {
  const auto first =
      file("first.ini", "resume = none\n[model]\nlayers = 3\nwidth = 48\n[train]\nlength = 64 # tokens\n");
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
  EXPECT_HAS(refusal({"--cuda.attention", "flash"}), "choose auto, own, cudnn, hopper");
  EXPECT_HAS(refusal({"--cuda.attention", "own", "--device", "cpu"}), "only with device = auto or cuda");
  EXPECT_HAS(refusal({"--optimizer.shard", "parameters"}), "choose none, state, gradients");
  EXPECT_HAS(refusal({"--train.precision", "fp64"}), "reference");
  EXPECT_HAS(refusal({"--train.residual", "bf16"}), "train.residual");
  if (cuda_devices().count == 0) {
    EXPECT_HAS(message_of([] { make_backend({.device = DeviceChoice::cuda}); }),
               cuda_is_built_in() ? "no CUDA device" : "without CUDA");
  }
  EXPECT_EQ(make_backend({})->name(), cuda_devices().count > 0 ? "cuda" : "cpu");
}

TEST_F(OptionsTest, KeysWithoutEffectAreRefusedByName) {
  EXPECT_EQ(refusal({"--position.kind", "rope", "--position.gamma", "0.4"}),
            "position.gamma has an effect only with position.kind = xpos, but position.kind = rope; leave it out, or "
            "change position.kind");
  EXPECT_HAS(refusal({"--position.kind", "alibi", "--position.scaling", "ntk", "--position.scaling_factor", "4"}),
             "position.scaling has an effect only with position.kind = rope or xpos, but position.kind = alibi");
  EXPECT_HAS(refusal({"--data.documents", "ignore", "--data.end_of_document", "none"}),
             "data.end_of_document has an effect only with data.documents = mask");
  EXPECT_HAS(refusal({"--position.kind", "none", "--position.theta", "500000"}),
             "position.theta has an effect only with");
  EXPECT_HAS(refusal({"--position.scaling_factor", "4"}),
             "only with position.scaling = linear, ntk, yarn, repeat, dynamic, llama3 or longrope");
  EXPECT_HAS(refusal({"--position.scaling", "ntk", "--position.scaling_factor", "2", "--position.beta_fast", "9"}),
             "position.beta_fast");
  EXPECT_HAS(refusal({"--attention.window", "64"}),
             "attention.window has an effect only with attention.pattern = window or sink_window");
  EXPECT_HAS(refusal({"--attention.pattern", "window", "--attention.window", "8", "--attention.sinks", "4"}),
             "attention.sinks");
  EXPECT_HAS(refusal({"--attention.block", "64"}), "attention.block");
  EXPECT_HAS(refusal({"--optimizer.power", "2"}), "but optimizer.schedule = cosine");
  EXPECT_HAS(refusal({"--optimizer.schedule", "constant", "--optimizer.final_fraction", "0"}),
             "optimizer.final_fraction");
  EXPECT_HAS(refusal({"--model.max_length", "64"}), "model.max_length");
  const auto path = file("gamma.ini", "# rope\n[position]\nkind = rope\ngamma = 0.4\n");
  EXPECT_HAS(refusal({"--config", path}), path + ":4: position.gamma has an effect only with position.kind = xpos");
  EXPECT_HAS(refusal({"--config", file("rope.ini", "[position]\nkind = rope\n"), "--position.gamma", "0.4"}),
             "position.gamma");
  // A scaling that scales by nothing.
  EXPECT_HAS(refusal({"--position.scaling", "ntk"}),
             "position.scaling = ntk with position.scaling_factor = 1 changes nothing");
  EXPECT_EQ(parse_options({"--position.scaling", "modulo"}).model.position.scaling, Scaling::modulo);
}

TEST_F(OptionsTest, ALaterSourceMayTakeOrGiveAnEffect) {
  const auto xpos = file("xpos.ini", "[position]\nkind = xpos\ngamma = 0.7\nscaling = linear\nscaling_factor = 2\n");
  const Options alibi = parse_options({"--config", xpos, "--position.kind", "alibi"});
  EXPECT_EQ(alibi.model.position.own.number("gamma"), 0.4)
      << "what has no effect is at its default, as whoever reads config.ini will have it";
  EXPECT_EQ(alibi.model.position.scaling, Scaling::none);
  EXPECT_EQ(parse_options({"--config", xpos, "--config", file("rope.ini", "[position]\nkind = rope\n")})
                .model.position.scaling_factor,
            2);
  const auto window = file("window.ini", "[attention]\nwindow = 64\n");
  EXPECT_HAS(refusal({"--config", window}), "attention.window");
  EXPECT_EQ(parse_options({"--config", window, "--attention.pattern", "window"}).model.attention.window, 64);
}

TEST_F(OptionsTest, EachMethodsOwnConfigurationIsReadAgain) {
  const auto again = [&](std::vector<std::string> args) {
    const Options o = parse_options(args);
    const std::string text = to_ini(o);
    const Options stored = parse_ini_text(text, "test");
    EXPECT_EQ(stored.model, o.model) << text;
    EXPECT_EQ(to_ini(stored), text);
    EXPECT_EQ(to_ini(parse_options({"--config", file("config.ini", text)})), text) << "as --config";
    return text;
  };
  for (const std::string& kind : names_of<PositionKind>()) again({"--position.kind", kind});
  for (const std::string& pattern : names_of<PatternKind>()) {
    const std::string objective = pattern == "full" ? "mlm" : "causal";
    again({"--attention.pattern", pattern, "--train.objective", objective});
    again({"--config", file("all.ini", "[attention]\npattern = sink_window\nwindow = 9\nsinks = 3\n"),
           "--attention.pattern", pattern, "--train.objective", objective});
  }
  for (const char* schedule : {"constant", "cosine", "linear", "polynomial"}) again({"--optimizer.schedule", schedule});
  for (const char* scaling : {"linear", "ntk", "yarn", "repeat"}) {
    again({"--position.scaling", scaling, "--position.scaling_factor", "2"});
  }
  EXPECT_HAS(
      again({"--position.scaling", "longrope", "--position.short_factor", "1,1.5", "--position.long_factor", "2,4"}),
      "short_factor = 1,1.5");
  EXPECT_EQ(again({"--position.kind", "rope"}).find("gamma"), std::string::npos);
  EXPECT_HAS(again({"--train.minutes", "3"}), "\nminutes = 3\n");
}

TEST_F(OptionsTest, OldConfigurationsAreRead) {
  const Options o = parse_ini_text(
      "[position]\nkind = rope\ngamma = 0.5\nbuckets = 32\nbar_d = 128\nmax_distance = 128\n"
      "[attention]\nwindow = 0\nlogn_base = 0\nnormalizer = softmax\nrelu_gamma = 1\n",
      "test");
  EXPECT_EQ(o.model.position.kind, "rope");
}

TEST_F(OptionsTest, TheResidualStreamsOldWordIsRead) {
  const Options stored = parse_ini_text("[train]\nprecision = bf16\nresidual = f32\n", "test");
  EXPECT_EQ(stored.train.residual, ResidualChoice::fp32);
  EXPECT_HAS(to_ini(stored), "residual = fp32\n");
  EXPECT_EQ(parse_options({"--config", file("old.ini", "[train]\nresidual = f32\n")}).train.residual,
            ResidualChoice::fp32);
  EXPECT_TRUE(changes_between(stored, parse_options({"--train.precision", "bf16", "--train.residual", "fp32"})).empty())
      << "a resume changes nothing";
  EXPECT_HAS(refusal({"--train.residual", "f64"}), "train.residual = 'f64' is not known; choose fp32, bf16");
}

TEST_F(OptionsTest, ARecomputedLayersOldWordIsRead) {
  const Options stored = parse_ini_text("[train]\nrecompute = block\n", "test");
  EXPECT_EQ(stored.train.recompute, Recompute::layer);
  EXPECT_HAS(to_ini(stored), "recompute = layer\n");
  EXPECT_TRUE(changes_between(stored, parse_options({"--train.recompute", "layer"})).empty());
  EXPECT_HAS(refusal({"--train.recompute", "all"}), "choose auto, none, attention, ffn, layer");
}

TEST_F(OptionsTest, StepsAndMinutes) {
  const auto minutes = file("minutes.ini", "[train]\nminutes = 5\n");
  const Options steps = parse_options({"--config", minutes, "--train.steps", "4"});
  EXPECT_EQ(steps.train.steps, 4);
  EXPECT_EQ(steps.train.minutes, 0) << "the command line wins over the file";
  EXPECT_EQ(parse_options({"--config", minutes, "--config", file("steps.ini", "[train]\nsteps = 7\n")}).train.minutes,
            0);
  EXPECT_EQ(
      parse_options({"--config", file("steps.ini", "[train]\nsteps = 7\n"), "--train.minutes", "2"}).train.minutes, 2);
  EXPECT_EQ(parse_options({"--config", minutes, "--train.minutes", "0", "--train.steps", "4"}).train.steps, 4);
  EXPECT_HAS(refusal({"--train.minutes", "5", "--train.steps", "4"}),
             "train.steps has an effect only with train.minutes = 0, but");
  const auto both = file("both.ini", "[train]\nminutes = 5\nsteps = 4\n");
  EXPECT_HAS(refusal({"--config", both}), both + ":3: train.steps has an effect only with train.minutes = 0");
  EXPECT_EQ(parse_options({"--config", both, "--train.minutes", "0"}).train.steps, 4);
}

TEST_F(OptionsTest, HelpOffersOnlyWhatWorks) {
  Options defaults;
  const KeyTable table = option_keys(defaults);
  for (const char* name : {"position.kind", "attention.pattern"}) {
    for (const std::string& choice : table.find(name)->choices) {
      const std::string objective = choice == "full" ? "mlm" : "causal";
      EXPECT_EQ(refusal({"--" + std::string(name), choice, "--train.objective", objective}), "nothing was thrown");
    }
  }
  EXPECT_HAS(refusal({"--position.kind", "cape"}),
             "position.kind = 'cape' is not known; choose none, sinusoidal, learned, rope, xpos, alibi, ");
  EXPECT_HAS(refusal({"--attention.normalizer", "sparsemax"}), "choose softmax, relu, landmark");
  EXPECT_HAS(refusal({"--sampling.kind", "landmark_jump", "--sampling.jump", "9"}), "but no layer has any");
}

TEST_F(OptionsTest, NumbersOutOfRangeSaySo) {
  EXPECT_EQ(refusal({"--train.batch", "9223372036854775807"}),
            "train.batch = 9223372036854775807 is too large; give at most 1048576");
  EXPECT_HAS(refusal({"--train.batch", "9223372036854775808"}), "is out of range: give at most 1048576");
  EXPECT_HAS(refusal({"--train.batch", "-99999999999999999999"}), "is out of range: give at least 1");
  EXPECT_HAS(refusal({"--train.seed", "99999999999999999999"}), "is out of range: give at most 9223372036854775807");
  EXPECT_EQ(refusal({"--optimizer.lr", "1e400"}),
            "optimizer.lr = 1e400 is out of range: numbers go from about 1e-308 to 1e308");
  EXPECT_HAS(refusal({"--optimizer.eps", "1e-400"}), "is out of range");
  EXPECT_HAS(refusal({"--optimizer.lr", "inf"}), "is not a number");
  const auto path = file("wrong.ini", "[train]\nlength = 0\n");
  EXPECT_EQ(refusal({"--config", path}), path + ":2: train.length = 0 is impossible; give at least 1");
}

TEST_F(OptionsTest, ErrorsInFilesNameTheLine) {
  const auto expect = [&](const std::string& text, const std::string& message) {
    const auto path = file("run.ini", text);
    EXPECT_HAS(refusal({"--config", path}), path + message);
  };
  const std::string lines = "lines are 'key = value', '[section]' or '# comment'";
  expect("[model]\n# one\n\nlayers 1\n", ":4: the line 'layers 1' cannot be read; " + lines);
  expect("device = cpu\r\n[model\r\nlayers = 1\r\n", ":2: the line '[model' cannot be read; " + lines);
  expect("[ ]\nlayers = 1\n", ":1: the line '[ ]' cannot be read");
  expect("[model]\n = 1\n", ":2: the line '= 1' cannot be read");
  expect("; device = cpu\n", ":1: there is no key '; device'");
  expect("[model]\nlayers = 1\n[train]\n[model]\nlayers = 2\n",
         ":5: model.layers is given twice in this file, first in line 2; keep one");
  expect("[model]\nlayers = many\nlayers = 2\n", ":2: model.layers = 'many' is not a whole number");
  expect("[model]\nlayers =\n", ":2: model.layers = '' is not a whole number");
  expect("[model]\n\nlayers = 0\n", ":3: model.layers = 0 is impossible; give at least 1");
  expect("[optimizer]\nbeta1 = -1\n", ":2: optimizer.beta1 = -1 is impossible; give at least 0");
  expect("[position]\nkind = rope\n[optimizer]\n[position]\ngamma = 2\n", ":5: position.gamma has an effect only with");
  EXPECT_EQ(parse_options({"--config", file("spaces.ini", "[ model ]\n  layers=3\n")}).model.layers, 3);
}

/// Every number at both of its ends: refused in words or taken, and what is taken has products that fit.
TEST_F(OptionsTest, NoNumberOverflowsAnything) {
  Options defaults;
  const KeyTable table = option_keys(defaults);
  for (const Key& key : table.keys()) {
    const bool whole = std::holds_alternative<std::int64_t*>(key.target);
    if (!whole && !std::holds_alternative<double*>(key.target)) continue;
    for (const char* value : {"9223372036854775807", "-9223372036854775808", "4611686018427387904", "-1", "0"}) {
      const std::string message = refusal({"--" + key.name, value});
      if (message == "nothing was thrown") continue;
      EXPECT_HAS(message, key.name);
    }
  }
  EXPECT_HAS(refusal({"--train.length", "2147483647", "--train.micro_batch", "2"}), "train.micro_batch = 2 sequences");
}

TEST_F(OptionsTest, IniFilesAsPeopleSaveThem) {
  const Options o = parse_options({"--config", file("windows.ini",
                                                    "\xef\xbb\xbf"
                                                    "device = cpu  \r\n\r\n[train]\r\nlength = 64\t # tokens\r\n")});
  EXPECT_EQ(o.device.device, DeviceChoice::cpu);
  EXPECT_EQ(o.train.length, 64);
  EXPECT_HAS(refusal({"--config", file("utf16.ini", std::string("\xff\xfe"
                                                                "d\0",
                                                                4))}),
             "is UTF-16 text; save it as UTF-8");
  EXPECT_HAS(refusal({"--config", file("binary.ini", std::string("\x89HDF\0\0", 6))}), "is not a text file");
  EXPECT_HAS(refusal({"--config", file("huge.ini", std::string(2 << 20, '\n'))}), "is larger than 1 MiB");
  EXPECT_HAS(refusal({"--config", "/dev/zero"}), "is larger than 1 MiB");
  EXPECT_HAS(refusal({"--config", directory_.string()}), "is a directory");
  EXPECT_EQ(
      parse_options({"--config", file("parts.ini", "[train]\nlength = 8\n[model]\nlayers = 3\n[train]\nbatch = 4\n")})
          .train.batch,
      4);
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
  EXPECT_EQ(again.sequence.partition, PartitionKind::striped);
  EXPECT_EQ(again.optimizer.shard, Shard::state);
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
  EXPECT_HAS(help, "zeta_i = (2i/E + gamma) / (1 + gamma); only with position.kind = xpos (default 0.4)");
}

/// Every row of the README's table is a line of --help, so that neither forgets a key.
TEST_F(OptionsTest, TheReadmeListsEveryKeyWithMeaningUnitAndDefault) {
  std::ifstream stream(LEXRING_SOURCE "/configs/README.md");
  const std::string readme((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  Options defaults;
  const KeyTable table = option_keys(defaults);
  for (const Key& key : table.keys()) {
    const std::string value = key.default_text.empty() ? text_of(key.target) : key.default_text;
    const std::string unit = key.unit == "true|false" ? "true, false" : key.unit;
    EXPECT_HAS(readme, "| `" + key.name + "` | " + description_of(key) + " | " + unit + " | " + value + " |\n");
  }
}

TEST_F(OptionsTest, ListsAndFlags) {
  std::vector<std::int64_t> lengths;
  std::vector<std::string> inputs;
  std::vector<PatternKind> patterns;
  std::optional<PrecisionChoice> precision;
  bool strict = false;
  KeyTable table;
  table.add({{"lengths", &lengths, ""},
             {"input", &inputs, ""},
             {"patterns", &patterns, "", "", "", {"causal", "blockwise"}},
             {"precision", &precision, "", "", "", {"bf16", "fp32"}},
             {"strict", &strict, "", "", "", {}, true}});
  table.parse_arguments({"--lengths", "256,512", "1024", "--input", "a", "b,c", "--input", "d", "--patterns",
                         "causal,blockwise", "--strict"});
  EXPECT_EQ(lengths, (std::vector<std::int64_t>{256, 512, 1024}));
  EXPECT_EQ(inputs, (std::vector<std::string>{"a", "b,c", "d"}));
  EXPECT_EQ(patterns, (std::vector<PatternKind>{"causal", "blockwise"}));
  EXPECT_EQ(text_of(table.find("patterns")->target), "causal,blockwise");
  EXPECT_EQ(text_of(table.find("precision")->target), "");
  EXPECT_EQ(precision, std::nullopt);
  table.parse_arguments({"--precision", "bf16", "--patterns", "blockwise", "--patterns", "causal"});
  EXPECT_EQ(precision, PrecisionChoice::bf16);
  EXPECT_EQ(patterns, (std::vector<PatternKind>{"blockwise", "causal"}));
  EXPECT_HAS(message_of([&] { table.parse_arguments({"--precision", "fp64"}); }), "choose bf16, fp32");
  EXPECT_HAS(message_of([&] { table.parse_arguments({"--patterns", "window"}); }), "choose causal, blockwise");
  EXPECT_TRUE(strict);
  EXPECT_HAS(message_of([&] { table.parse_arguments({"--lengths", "256,x"}); }), "'x'");
  const std::string separators = "put one comma, and no space, between entries and none at the ends, like ";
  EXPECT_EQ(message_of([&] {
              table.parse_arguments({"--lengths", "64,,128"});
            }),
            "lengths = '64,,128' has an empty entry; " + separators + "64,128");
  for (const char* list : {"64,128,", ",64", ",", " , 64"}) {
    EXPECT_HAS(message_of([&] {
                 table.parse_arguments({"--lengths", list});
               }),
               std::string("lengths = '") + list + "' has an empty entry");
  }
  EXPECT_HAS(message_of([&] {
               table.parse_arguments({"--lengths", "64,", "128"});
             }),
             "lengths = '64, 128' has an empty entry");
  EXPECT_EQ(message_of([&] {
              table.parse_arguments({"--patterns", "causal,"});
            }),
            "patterns = 'causal,' has an empty entry; " + separators + "causal,blockwise");
  EXPECT_HAS(message_of([&] {
               table.parse_arguments({"--input", "a", ""});
             }),
             "input has an empty entry, number 2 of 2");
  EXPECT_HAS(message_of([&] { table.parse_arguments({"--patterns", "diagonal"}); }), "choose causal, blockwise");
}

}  // namespace
}  // namespace lexring
