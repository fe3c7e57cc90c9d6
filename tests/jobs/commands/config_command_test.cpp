// `lexring config`: what files and keys make, as people and scripts read it.
#include <fmt/format.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class ConfigCommand : public JobTest {
 protected:
  static std::string config(const std::string& keys) { return fmt::format("{} config {}", binary(), keys); }
};

TEST_F(ConfigCommand, PrintsAFileThatSaysTheSame) {
  const std::string keys =
      "--model.width 64 --model.heads 2 --attention.pattern window --attention.window 9 --adapter.rank 2 "
      "--adapter.targets attention.query,ffn.down --train.frozen 'embedding, norm'";
  const ProcessResult printed = run_process(config(keys));
  ASSERT_EQ(printed.exit_code, 0) << printed.output;
  EXPECT_EQ(occurrences(printed.output, "\nffn_width = 256\n"), 1) << "what follows from other keys is in it";
  const std::string file = run("printed.ini");
  std::ofstream(file) << printed.output;
  EXPECT_EQ(run_process(config("--config " + file)).output, printed.output);
}

TEST_F(ConfigCommand, PrintsOneValueForScripts) {
  std::ofstream(run("a.ini")) << "[checkpoint]\ndirectory = runs/a\n";
  std::ofstream(run("b.ini")) << "[checkpoint]\ndirectory = runs/b c\n";
  const std::string files = "--config " + run("a.ini") + " --config " + run("b.ini");
  EXPECT_EQ(run_process(config(files + " --only checkpoint.directory")).output, "runs/b c\n");
  EXPECT_EQ(run_process(config(files + " --checkpoint.directory x --only checkpoint.directory")).output, "x\n");
  // The run that a model comes from need not be there for that.
  EXPECT_EQ(run_process(config("--init " + run("gone") +
                               " --attention.window 9 --checkpoint.directory x --only "
                               "checkpoint.directory"))
                .output,
            "x\n");
  expect_refused(config("--only checkpoint.directry"), "there is no key 'checkpoint.directry'");
  expect_refused(config("--only ''"), "--only names no key");
  expect_refused(config("--model.layrs 3"), "nearest is 'model.layers'");
}

}  // namespace
}  // namespace lexring
