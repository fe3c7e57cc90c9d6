/// Disks that are full while a run saves: training goes on, on all ranks, and what was saved before stays.
#include <unistd.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class FullDisk : public JobTest {
 protected:
  static std::string done(const std::string& script, int exit_code = 0) {
    const ProcessResult result = run_process(script);
    EXPECT_EQ(result.exit_code, exit_code) << script << "\n" << result.output;
    return result.output;
  }
};

/// A limit on the size of files is the disk that is full for one process; the process's own user may lift it.
TEST_F(FullDisk, OneRankThatCannotSaveIsTriedAgainWithAllOthers) {
  const std::string log = run("log"), pid = run("pid"), keys = "--train.steps 1000000 --checkpoint.every 20";
  const std::string limited =
      "bash -c 'trap \"\" XFSZ; ulimit -S -f 50; echo $$ >" + pid + "; exec " + train("run", keys) + "'";
  const std::string said = done(mpirun(1) + train("run", keys) + " : -n 1 " + limited + " >" + log + R"( 2>&1 &
until grep -q "save of step 20 failed" )" +
                                    log + R"(; do sleep 0.1; kill -0 $! || break; done
prlimit --pid $(cat )" + pid + R"() --fsize=unlimited:
until ls )" + run("run") + R"(/step-*/manifest.json >/dev/null 2>&1; do sleep 0.1; kill -0 $! || break; done
kill -USR1 $!
wait $!
code=$?
cat )" + log + "\nexit $code",
                                75);
  EXPECT_EQ(occurrences(said, "save of step 20 failed: rank 1: " + run("run") + "/step-00000020.partial/shard-0001.h5"),
            1)
      << said;
  EXPECT_GE(occurrences(said, "File too large"), 1) << said;
  EXPECT_EQ(occurrences(said, "; going on; will be tried again at step 40\n"), 1) << said;
  EXPECT_FALSE(std::filesystem::exists(run("run") + "/step-00000020"));
  for (const auto& entry : std::filesystem::directory_iterator(run("run")))
    EXPECT_NE(entry.path().extension(), ".partial") << entry.path();
  EXPECT_EQ(occurrences(done(train("run", "--train.steps 1")), "already trained"), 1) << said;
}

TEST_F(FullDisk, ALastSaveThatFailsIsAnErrorAndTheOneBeforeIsGoneOnFrom) {
  const std::string keys = "--train.steps 6 --checkpoint.every 2 ", disk = run("disk");
  done(train("whole", keys));
  std::filesystem::create_directories(disk);
  const std::string mount = "mount -t tmpfs -o size=800k tmpfs " + disk;
  const std::string room = geteuid() == 0 ? "unshare --mount " : "unshare --mount --map-root-user ";
  if (run_process(room + mount).exit_code != 0) {
    printf("no tmpfs can be mounted here, so that a limit on the size of files has to do for a full disk\n");
    EXPECT_GE(
        occurrences(done("trap '' XFSZ; ulimit -f 200; " + train("disk", keys), 1), "the last save, of step 6, failed"),
        1);
    return;
  }
  const std::string command = train("disk", keys);
  const std::string said = done(room + "bash -c '" + mount + "\n" + command + "\necho exit code $?\nls " + disk +
                                "\nmount -o remount,size=8m " + disk + "\n" + command + " || exit 1\ncp " + disk +
                                "/metrics.jsonl " + run("metrics") + "'");
  EXPECT_EQ(occurrences(said, "save of step 4 failed: " + disk + "/step-00000004.partial/"), 1) << said;
  EXPECT_GE(occurrences(said, "No space left on device"), 2) << said;
  EXPECT_EQ(occurrences(said, "; going on; will be tried again at step 6\n"), 1) << said;
  EXPECT_EQ(occurrences(said, "the last save, of step 6, failed: "), 1) << said;
  EXPECT_EQ(occurrences(said, "; the newest checkpoint is of step 2; "), 1) << said;
  EXPECT_EQ(
      occurrences(said, "exit code 1\nconfig.ini\nhistory.jsonl\nlatest\nmetrics.jsonl\nstatus.json\nstep-00000002\n"),
      1)
      << said;
  EXPECT_EQ(occurrences(said, "resumed from " + disk + "/step-00000002;"), 1) << said;
  std::filesystem::copy_file(run("metrics"), disk + "/metrics.jsonl");
  EXPECT_EQ(trajectory("disk"), trajectory("whole"));
}

}  // namespace
}  // namespace lexring
