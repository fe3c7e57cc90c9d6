// `lexring mesh`: what a batch script adds to its command when nodes are lost.
#include <fmt/format.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class MeshCommand : public JobTest {
 protected:
  static std::string mesh(const std::string& words) { return run_process(command(words)).output; }
  static std::string command(const std::string& words) { return fmt::format("{} mesh {}", binary(), words); }
};

TEST_F(MeshCommand, ReadsTheCommandsOwnKeysAndFiles) {
  std::ofstream(run("a.ini")) << "[train]\nbatch = 12\n[mesh]\ncp = 2\n";
  const std::string file = "train --config " + run("a.ini");
  EXPECT_EQ(mesh("--planned 4 --left 3 --ranks 2 " + file), "3 --mesh.dp 3 --mesh.cp 2 --train.micro_batch 3\n");
  EXPECT_EQ(mesh("--planned 4 --left 3 --ranks 2 " + file + " --train.micro_batch 1 --checkpoint.directory train"),
            "3 --mesh.dp 3 --mesh.cp 2\n");
  EXPECT_EQ(mesh("--planned 4 --left 3 --ranks 1 " + file + " --mesh.cp=4"), "3 --mesh.dp 1 --mesh.cp 3\n");
  EXPECT_EQ(mesh("--planned 4 --left 3 --ranks 1 evaluate --checkpoint a b --mesh.cp 4 --data x.h5 --overwrite"),
            "3 --mesh.dp 1 --mesh.cp 3\n");
  EXPECT_EQ(mesh("--planned 4 --left 3 --ranks 1 evaluate --checkpoint a --data x.h5"), "3 --mesh.dp 3 --mesh.cp 1\n");
}

TEST_F(MeshCommand, RefusesWhatNoMeshFits) {
  expect_refused(command("--planned 2 --left 1 --ranks 2 train --mesh.tp 4 --mesh.tp_across_nodes true"),
                 "no mesh with mesh.tp = 4 fits 1 node with 2 ranks each; wait for the others");
  expect_refused(command("--planned 2 --left 1"), "there is no command; add train or evaluate");
  expect_refused(command("--planned 2 --left 1 train --mesh.cq 2"), "nearest is 'mesh.cp'");
  expect_refused(command("--planned 2 --left 0 train"), "left");
}

}  // namespace
}  // namespace lexring
