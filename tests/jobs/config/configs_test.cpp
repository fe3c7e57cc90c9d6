/// Every file in configs/ is read, and every one of them trains.
#include <algorithm>

#include <gtest/gtest.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class Configs : public JobTest {
 protected:
  static std::vector<std::string> names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(LEXRING_SOURCE "/configs")) {
      if (entry.path().extension() == ".ini") names.push_back(entry.path().stem());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  static std::string file(const std::string& name) {
    return std::string(" --config ") + LEXRING_SOURCE + "/configs/" + name + ".ini";
  }
  /// The configuration that a run of it writes down.
  static std::string stored(const std::string& name) {
    std::ifstream stream(run(name) + "/config.ini");
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  }
};

TEST_F(Configs, EachTrainsTwoSteps) {
  ASSERT_GE(names().size(), 9U);
  for (const std::string& name : names()) {
    // Variants of the quickstart belong behind it; models of other sizes shrink. The vocabulary is the data's.
    const bool quickstart = name.rfind("quickstart", 0) == 0;
    std::string keys = quickstart && name != "quickstart" ? file("quickstart") + file(name) : file(name);
    const bool layers = name == "hybrid_window_full" || name == "llama4_interleaved";  // as they differ, there are some
    keys += quickstart ? " --train.batch 2"
                       : std::string(" --model.layers ") + (layers ? "4" : "1") +
                             " --model.width 64 --model.heads 2 --model.ffn_width 96 --train.batch 2 "
                             "--train.micro_batch 1 --train.length 64";
    keys += " --model.vocab 0 --train.minutes 0 --train.steps 2 --checkpoint.every 0 --data.train " + data();
    const ProcessResult result = run_process(binary() + " train" + keys + " --checkpoint.directory " + run(name));
    ASSERT_EQ(result.exit_code, 0) << name << "\n" << result.output;
    const auto lines = metrics(name);
    ASSERT_EQ(lines.size(), 2U) << name;
    EXPECT_NEAR(lines[0]["loss"].get<double>(), 5.55, 0.3) << name;
    EXPECT_FALSE(lines[1]["skipped"]) << name;
    const std::string variant = layers ? "rope" : quickstart && name != "quickstart" ? name.substr(11) : "xpos";
    EXPECT_EQ(occurrences(stored(name), "\n[position]\nkind = " + variant + "\n"), 1) << stored(name);
  }
}

TEST_F(Configs, TheReadmeNamesThemAll) {
  std::ifstream stream(LEXRING_SOURCE "/configs/README.md");
  const std::string readme((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  for (const std::string& name : names()) {
    const std::string variant = name.rfind("quickstart_", 0) == 0 ? name.substr(11) : name + ".ini";
    EXPECT_GE(occurrences(readme.substr(0, readme.find("## Keys")), variant), 1) << name;
  }
}

}  // namespace
}  // namespace lexring
