// `lexring generate` as a person uses it: prompts from files and pipes, other patterns, and what is refused before the
// first token.
#include <algorithm>

#include <gtest/gtest.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class Generate : public JobTest {
 protected:
  static std::string generate(const std::string& name, const std::string& keys) {
    return binary() + " generate --device cpu --temperature 0 --checkpoint " + run(name) + " " + keys;
  }
  static std::string text_of(const std::string& command) {
    const ProcessResult result = run_process(command + " 2>/dev/null");
    EXPECT_EQ(result.exit_code, 0) << command << "\n" << run_process(command).output;
    return result.output;
  }
  /// One message, and nothing of the text.
  static void train_lex() {
    const ProcessResult result = run_process(train("run", "--train.steps 40 --train.precision fp32"));
    ASSERT_EQ(result.exit_code, 0) << result.output;
  }
};

TEST_F(Generate, PromptsComeFromFilesAndPipesInChunks) {
  train_lex();
  const std::string file = run("prompt.txt");
  write_text(file, 300);
  const std::string by_key = text_of(generate("run", "--tokens 12 --prompt \"$(cat " + file + ")\n\""));
  EXPECT_EQ(text_of(generate("run", "--tokens 12 --prompt-file " + file)), by_key);
  EXPECT_EQ(text_of(generate("run", "--tokens 12 --chunk 7 --prompt-file - < " + file)), by_key);
  EXPECT_EQ(text_of("cat " + file + " | " + mpirun(2) + generate("run", "--tokens 12 --mesh.tp 2 --prompt-file -")),
            by_key);
  // Cut inside a character, and with a zero byte: bytes are bytes.
  std::ofstream(file, std::ios::binary) << std::string("ring \0 \xe2\x82", 9);
  EXPECT_EQ(text_of(generate("run", "--tokens 1 --prompt-file " + file)).rfind(std::string("ring \0 \xe2\x82", 9), 0),
            0U);
}

TEST_F(Generate, GoesOnBeyondTheTrainingLengthWithAnotherPattern) {
  train_lex();
  const std::string file = run("prompt.txt");
  write_text(file, 200);
  std::vector<std::string> texts;
  for (const std::string use :
       {"", "--attention.pattern blockwise", "--attention.pattern blockwise --attention.block 3",
        "--attention.pattern sink_window --attention.window 5",
        "--position.scaling linear --position.scaling_factor 8"}) {
    texts.push_back(text_of(generate("run", "--tokens 100 --prompt-file " + file + " " + use)));
    EXPECT_EQ(text_of(generate("run", "--tokens 100 --chunk 5 --prompt-file " + file + " " + use)), texts.back())
        << use;
  }
  EXPECT_EQ(
      text_of(generate("run", "--tokens 100 --attention.pattern blockwise --attention.block 16 --prompt-file " + file)),
      texts[1])
      << "blocks are half of train.length";
  EXPECT_EQ(text_of(generate("run", "--tokens 100 --attention.pattern causal --prompt-file " + file)), texts[0]);
  std::sort(texts.begin(), texts.end());
  EXPECT_GE(std::unique(texts.begin(), texts.end()) - texts.begin(), 3) << "patterns change what is seen";
}

TEST_F(Generate, RefusesKeysThatChangeNothing) {
  train_lex();
  const std::string a = "--prompt a ";
  expect_refused(generate("run", a + "--attention.block 8"), "only with attention.pattern = blockwise");
  expect_refused(generate("run", a + "--attention.pattern window --attention.sinks 2"),
                 "attention.sinks has an effect only with attention.pattern = sink_window");
  expect_refused(generate("run", a + "--attention.pattern window --attention.window 0"), "attention.window = 0");
  expect_refused(generate("run", a + "--position.scaling ntk"), "give --position.scaling_factor");
  expect_refused(generate("run", a + "--position.scaling_factor 4"), "only with position.scaling = linear, ntk");
  expect_refused(generate("run", a + "--position.kind rope"), "there is no key 'position.kind'");
}

TEST_F(Generate, LimitsAreKnownBeforeTheFirstToken) {
  const ProcessResult trained =
      run_process(train("run", "--train.steps 2 --train.precision fp32 --position.kind learned"));
  ASSERT_EQ(trained.exit_code, 0) << trained.output;
  expect_refused(generate("run", "--prompt 0123456789 --tokens 24"), "give --tokens 23 or less, or a shorter prompt");
  expect_refused(generate("run", "--prompt 0123456789 --tokens 1000000000000"), "give --tokens 23 or less");
  expect_refused("yes | " + generate("run", "--prompt-file -"), "more than the 32 tokens");
  EXPECT_EQ(text_of(generate("run", "--prompt 0123456789 --tokens 23")).rfind("0123456789", 0), 0U);
  expect_refused(generate("run", "--prompt a --position.scaling ntk --position.scaling_factor 2"),
                 "position.kind = learned has none");

  expect_refused(generate("run", ""), "prompt is empty");
  expect_refused(generate("run", "--prompt ''"), "prompt is empty");
  expect_refused(generate("run", "--prompt-file /dev/null"), "/dev/null is empty");
  expect_refused(generate("run", "--prompt-file " + run("none")), "cannot be opened: No such file");
  expect_refused(generate("run", "--prompt-file " + shared().string()), "is a directory");
  expect_refused(generate("run", "--prompt a --prompt-file b"), "both given");
  expect_refused(generate("run", "--prompt a --tokens 0"), "tokens = 0 is impossible; give at least 1");
  expect_refused(generate("run", "--prompt a --chunk 0"), "chunk = 0 is impossible");
  expect_refused(generate("run", "--prompt a --top-k -1"), "top-k = -1 is impossible");
  expect_refused(generate("run", "--prompt a --temperature -0.5"), "temperature = -0.5 is impossible");
}

}  // namespace
}  // namespace lexring
