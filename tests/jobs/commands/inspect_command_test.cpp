// `lexring inspect --export`: one file, whole or not there.
#include <gtest/gtest.h>

#include "framework/io/hdf5_file.h"
#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class Inspect : public JobTest {
 protected:
  static std::string inspect(const std::string& path, const std::string& keys = "") {
    return binary() + " inspect " + path + " " + keys;
  }
  static void expect_refusal(const std::string& command, const std::string& message) {
    const ProcessResult result = run_process(command, 30);
    EXPECT_NE(result.exit_code, 0) << command << "\n" << result.output;
    EXPECT_EQ(result.output.rfind("lexring: ", 0), 0U) << command << "\n" << result.output;
    EXPECT_GE(occurrences(result.output, message), 1) << command << "\n" << result.output;
  }
};

TEST_F(Inspect, ExportsACheckpointAsOneFile) {
  const ProcessResult trained = run_process(train("run", "--train.steps 2 --train.precision fp32"));
  ASSERT_EQ(trained.exit_code, 0) << trained.output;
  const std::string file = run("model.h5");
  const ProcessResult made = run_process(inspect(run("run"), "--export " + file));
  ASSERT_EQ(made.exit_code, 0) << made.output;
  EXPECT_GE(occurrences(made.output, "step 2"), 1) << made.output;
  EXPECT_GE(occurrences(run_process(inspect(file)).output, "embedding  [257, 32]"), 1)
      << run_process(inspect(file)).output;

  EXPECT_EQ(Hdf5File(file, Hdf5File::Mode::read).string_attribute("/", "tokenizer"), "bytes");
  // Under its own name only when it is whole: the device that is always full, in the place of the file under way.
  std::filesystem::create_symlink("/dev/full", run("half.h5.partial"));
  expect_refusal(inspect(run("run"), "--export " + run("half.h5")), "half.h5.partial: No space left on device");
  EXPECT_FALSE(std::filesystem::exists(run("half.h5")) || std::filesystem::is_symlink(run("half.h5.partial")));

  expect_refusal(inspect(run("run"), "--export " + file), "exists; choose another name");
  expect_refusal(inspect(run("run"), "--export " + shared().string()), "is a directory; name a file in it");
  ASSERT_EQ(run_process("mkfifo " + run("pipe")).exit_code, 0);
  expect_refusal(inspect(run("run"), "--export " + run("pipe")), "exists; choose another name");
  expect_refusal(inspect(data(), "--export " + run("other.h5")), "only checkpoints are exported");
  const std::string step = run("run") + "/step-00000002";
  expect_refusal(inspect(step + "/checkpoint.h5"), "give the directory that it is in");

  std::fstream(step + "/shard-0000.h5", std::ios::in | std::ios::out | std::ios::binary).seekp(9000).put('x').put('y');
  expect_refusal(inspect(step, "--export " + run("new/damaged.h5")), "shard-0000.h5 is damaged");
  EXPECT_FALSE(std::filesystem::exists(run("new"))) << "nothing is left by a refusal";
}

}  // namespace
}  // namespace lexring
