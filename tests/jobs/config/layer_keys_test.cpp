// Layers that differ: sections of INI files, and keys of the command line.
#include "jobs/config/layer_keys.h"

#include <gtest/gtest.h>

#include "framework/base/error.h"
#include "jobs/config/options.h"

namespace lexring {
namespace {

using Args = std::vector<std::string>;

Options parse(const std::string& ini, Args args = {}, const Options* begin = nullptr) {
  return parse_options({std::move(args), {{"run.ini", ini}}}, {}, {}, begin);
}

std::string refusal(const std::string& ini, Args args = {}) {
  try {
    parse(ini, std::move(args));
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

const std::string hybrid = R"(
[model]
layers = 8
[attention]
pattern = window
window = 16
[position]
kind = rope
[layers.every.4]
position.kind = none
[layer.last]
attention.pattern = causal
attention.logn_base = 256
[layer.0]
attention.window = 32
)";

TEST(LayerKeys, SectionsNameLayersAndInheritTheRest) {
  const ModelConfig model = parse(hybrid).model;
  std::vector<std::int64_t> different;
  for (const auto& [n, layer] : model.override) different.push_back(n);
  EXPECT_EQ(different, (std::vector<std::int64_t>{0, 3, 7}));
  EXPECT_EQ(model.layer(0).attention.window, 32);
  EXPECT_EQ(model.layer(0).attention.pattern, "window");
  EXPECT_EQ(model.layer(0).position, model.position);
  EXPECT_EQ(model.layer(3).position.kind, "none");
  EXPECT_EQ(model.layer(3).attention, model.attention);
  EXPECT_EQ(model.layer(7).position.kind, "none");
  EXPECT_EQ(model.layer(7).attention.pattern, "causal");
  EXPECT_EQ(model.layer(7).attention.logn_base, 256);
  EXPECT_EQ(model.layer(6).attention.window, 16);
}

TEST(LayerKeys, LaterSectionsAndTheCommandLineWin) {
  const std::string twice = "[layers.every.1]\nattention.temperature = 2\n[layer.1]\nattention.temperature = 3\n";
  EXPECT_EQ(parse(twice).model.layer(0).attention.temperature, 2);
  EXPECT_EQ(parse(twice).model.layer(1).attention.temperature, 3);
  const std::string backwards = "[layer.1]\nattention.temperature = 3\n[layers.every.1]\nattention.temperature = 2\n";
  EXPECT_EQ(parse(backwards).model.layer(1).attention.temperature, 2);
  const ModelConfig given = parse(twice, {"--layer.last.attention.temperature", "5", "--attention.temperature=7",
                                          "--layers.every.2.position.theta=100"})
                                .model;
  EXPECT_EQ(given.layer(0).attention.temperature, 2);
  EXPECT_EQ(given.layer(1).attention.temperature, 5);
  EXPECT_EQ(given.layer(1).position.theta, 100);
  // What is the model's follows the model, wherever that is given.
  EXPECT_EQ(parse(hybrid, {"--attention.window", "8"}).model.layer(3).attention.window, 8);
  EXPECT_EQ(parse("[model]\nlayers = 2\n[layer.1]\nattention.pattern = blockwise\n[train]\nlength = 64\n")
                .model.layer(1)
                .attention.block,
            32);
  // What is as in the model is no difference.
  EXPECT_EQ(parse("[layer.0]\nattention.pattern = causal\n").model.override.size(), 0U);
}

TEST(LayerKeys, ARunWritesThemDown) {
  for (const std::string& ini :
       {hybrid,
        std::string("[layer.1]\nattention.pattern = blockwise\nposition.scaling = yarn\n"
                    "position.scaling_factor = 4\n"),
        std::string("[position]\nkind = none\n[layer.0]\nposition.kind = xpos\nposition.gamma = 0.3\n")}) {
    const Options options = parse(ini);
    const std::string text = to_ini(options);
    EXPECT_HAS(text, "\n[layer.");
    EXPECT_EQ(parse_ini_text(text, "stored").model, options.model) << text;
    EXPECT_EQ(parse_options({{}, {{"config.ini", text}}}, {}, {}, nullptr).model, options.model) << text;
    EXPECT_EQ(to_ini(parse_ini_text(text, "stored")), text);
  }
  EXPECT_HAS(to_ini(parse(hybrid)), "\n[layer.7]\nposition.kind = none\nattention.pattern = causal\n");
  EXPECT_EQ(to_ini(parse("")).find("[layer"), std::string::npos);
}

TEST(LayerKeys, AModelToBeginWithKeepsItsLayers) {
  const Options begin = parse(hybrid);
  const ModelConfig model =
      parse("", {"--position.scaling", "linear", "--position.scaling_factor", "4", "--layer.0.attention.window", "64"},
            &begin)
          .model;
  EXPECT_EQ(model.layer(7).position.kind, "none");
  EXPECT_EQ(model.layer(7).attention, begin.model.layer(7).attention);
  EXPECT_EQ(model.layer(0).position.scaling, Scaling::linear) << "what is the model's follows the model";
  EXPECT_EQ(model.layer(0).attention.window, 64);
  EXPECT_EQ(model.override.size(), 3U);
}

TEST(LayerKeys, WhatIsNoLayerOrNoKeyOfOneIsRefusedByName) {
  EXPECT_HAS(refusal("[layer.0]\nmodel.width = 8\n"), "run.ini:2: layer.0 cannot have a 'model.width' of its own");
  EXPECT_HAS(refusal("[layer.0]\nattention.patern = causal\n"), "the nearest is 'attention.pattern'");
  for (const char* name : {"layer.first", "layer.-1", "layer.1x", "layers.every.0", "layers.4", "layers.every.x"}) {
    EXPECT_HAS(refusal(std::string("[") + name + "]\nattention.window = 3\n"), "names no layers; write layer.0")
        << name;
  }
  EXPECT_HAS(refusal("[layer]\nattention.window = 3\n"), "names no layers");
  EXPECT_HAS(refusal("[layer.0]\nattention.pattern = windows\n"),
             "run.ini:2: layer.0.attention.pattern = 'windows' is not");
  EXPECT_HAS(refusal("", {"--layer.0.attention.window", "wide"}), "layer.0.attention.window = 'wide' is not a whole");
  EXPECT_HAS(refusal("", {"--layer.0.attention.window"}), "layer.0.attention.window");
  EXPECT_HAS(refusal("[layer.0]\nattention.pattern = causal\nattention.pattern = causal\n"), "given twice");
}

TEST(LayerKeys, WhatChangesNothingIsRefused) {
  EXPECT_HAS(refusal("[layer.0]\nattention.window = 8\n"),
             "run.ini:2: layer.0.attention.window changes nothing: attention.window has an effect only with");
  EXPECT_HAS(refusal("[layer.2]\nattention.temperature = 8\n"),
             "run.ini:2: layer.2.attention.temperature changes nothing: there are layers 0 to 1");
  EXPECT_HAS(refusal("", {"--layers.every.3.attention.temperature", "8"}), "there are layers 0 to 1");
  // A later source may take the effect of an earlier one's keys.
  EXPECT_EQ(parse(hybrid, {"--layer.0.attention.pattern", "causal"}).model.layer(0).attention.pattern, "causal");
  EXPECT_EQ(parse(hybrid, {"--model.layers", "2"}).model.override.size(), 2U);
}

}  // namespace
}  // namespace lexring
