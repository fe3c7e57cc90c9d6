#include <fmt/format.h>
#include <gtest/gtest.h>

#include "framework/backend/cuda_backend.h"
#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class BadInput : public JobTest {};

TEST_F(BadInput, EveryCommandHasHelp) {
  for (const char* command : {"prepare", "train", "evaluate", "config", "generate", "inspect", "verify", "bench"}) {
    const ProcessResult result = run_process(binary() + " " + command + " --help");
    EXPECT_EQ(result.exit_code, 0) << command << result.output;
    EXPECT_GE(occurrences(result.output, "--"), 3) << result.output;
  }
  expect_refused(binary() + " trian", "there is no command 'trian'");
  EXPECT_EQ(run_process(binary()).exit_code, 2);
}

TEST_F(BadInput, KeysAndTypes) {
  expect_refused(train("x", "--model.layrs 3"), "nearest is 'model.layers'");
  expect_refused(train("x", "--train.steps soon"), "train.steps = 'soon' is not a whole number");
  expect_refused(train("x", "--train.length 0"), "train.length = 0");
  expect_refused(train("x", "--config " + run("none.ini")), "cannot be opened");
  if (cuda_devices().count == 0)
    expect_refused(train("x", "--device cuda"), cuda_is_built_in() ? "no CUDA device" : "without CUDA");
}

TEST_F(BadInput, ConfigurationFiles) {
  const std::string pipe = run("pipe");
  ASSERT_EQ(run_process("mkfifo " + pipe).exit_code, 0);
  expect_refused(train("x", "--config " + pipe), "nothing came from " + pipe);
  expect_refused(train("x", "--config " + shared().string()), "is a directory");
  expect_refused("bash -c '" + train("x", "--config <(echo [train]; echo steps = soon)") + "'", "train.steps = 'soon'");
  expect_refused(train("x", "--config /dev/zero"), "is larger than 1 MiB");
}

TEST_F(BadInput, ImpossibleModels) {
  expect_refused(train("x", "--model.heads 3"), "model.heads");
  expect_refused(train("x", "--attention.pattern blockwise --attention.block 0"), "attention.block");
  expect_refused(train("x", "--model.vocab 100"), "model.vocab = 100");
  expect_refused(train("x", "--position.kind cape"), "position.kind = 'cape' is not known; choose none, sinusoidal");
  expect_refused(train("x", "--attention.clamp -4"),
                 "attention.clamp = -4 lets keys disappear, and training would not learn from that");
  expect_refused(train("x", "--attention.softcap 1e-9"), "attention.softcap = 1e-09 makes all scores alike");
  expect_refused(train("x", "--attention.relu_gamma 2"),
                 "attention.relu_gamma has an effect only with attention.normalizer = relu");
  expect_refused(train("x", "--train.batch 9223372036854775807"), "train.batch = 9223372036854775807 is too large");
  expect_refused(train("x", "--model.layers 1000000000000"), "model.layers = 1000000000000 is too large");
  expect_refused(train("x", "--model.width 9223372036854775807"), "model.width");
  expect_refused(train("x", "--model.ffn_width 4611686018427387904"), "model.ffn_width");
  expect_refused(train("x", "--position.kind learned --model.max_length 9000000000000000000"), "model.max_length");
  expect_refused(train("x", "--optimizer.eps 1e-46"), "optimizer.eps");
}

TEST_F(BadInput, Meshes) {
  expect_refused(train("x", "--mesh.cp 2"), "mesh.cp = 2");
  expect_refused(train("x", "--mesh.tp 2"), "mesh.tp = 2");
  expect_refused(train("x", "--mesh.dp 3"), "mesh.dp");
  for (const char* size : {"4294967296", "4294967297"}) {  // 0 and 1 where only 32 bits count
    expect_refused(train("x", fmt::format("--mesh.cp {}", size)), "does not divide the 1 process;");
    expect_refused(train("x", fmt::format("--mesh.cp {} --mesh.tp {}", size, size)), "does not divide the 1 process;");
    expect_refused(train("x", fmt::format("--mesh.dp {}", size)), "use mesh.dp = 1");
  }
  const std::string model = "--model.heads 4 --model.kv_heads 2 ";
  expect_refused(mpirun(3) + train("x", model + "--mesh.tp 3"), "choose 1, 2 or 4");
  expect_refused(mpirun(3) + train("x", model + "--mesh.cp 3 --mesh.ulysses 3"), "mesh.ulysses = 3 must divide");
  expect_refused(mpirun(3) + train("x", model + "--mesh.dp 2"),
                 "is not the 3 processes started; use mesh.dp = 3, or start 2");
  expect_refused(mpirun(3) + train("x", "--train.batch 4"), "multiple of 3, e.g. 6");
  expect_refused(mpirun(2) + train("x", "--mesh.cp 2 --sequence.exchange halo"), "choose ring");
}

TEST_F(BadInput, Launches) {
  expect_refused("SLURM_NTASKS=4 " + mpirun(2) + train("x", ""), "SLURM_NTASKS says that there are 4");
  expect_refused("SLURM_NTASKS=4 " + train("x", ""), "do not speak the same protocol", 1);
  // A process alone has no temporary files of MPI's, in which others would be in its way.
  EXPECT_EQ(run_process("TMPDIR=/proc " + train("alone", "--train.steps 1")).exit_code, 0);
  EXPECT_EQ(run_process("SLURM_NTASKS=2 " + mpirun(2) + train("fits", "--train.steps 1")).exit_code, 0);
  const std::string golden = std::string(LEXRING_SOURCE) + "/tests/models/golden/lex_everything.h5";
  expect_refused(mpirun(2) + binary() + " verify --golden " + golden, "mesh.dp = 1");
  expect_refused(mpirun(2) + binary() + " generate --checkpoint x --prompt a", "which replicas cannot share");
  expect_refused(mpirun(2) + binary() + " generate --checkpoint x --prompt a --mesh.cp 2", "use mesh.tp");
}

TEST_F(BadInput, DataSets) {
  expect_refused(binary() + " train --checkpoint.directory " + run("x"), "lexring prepare");
  expect_refused(train("x", "--data.train " + run("missing.h5")), "missing.h5", 1);
  std::ofstream(run("empty.h5")).flush();
  expect_refused(train("x", "--data.train " + run("empty.h5")), "empty.h5", 1);
  std::ofstream(run("foreign.h5")) << "this is not HDF5";
  expect_refused(train("x", "--data.train " + run("foreign.h5")), "foreign.h5", 1);
  std::filesystem::copy_file(data(), run("short.h5"));
  std::filesystem::resize_file(run("short.h5"), 20000);
  expect_refused(train("x", "--data.train " + run("short.h5")), "short.h5", 1);
  expect_refused(train("x", "--train.length 100000"), "train.length", 1);
  write_text(run("few.txt"), 20);
  ASSERT_EQ(run_process(binary() + " prepare --input " + run("few.txt") + " --output " + run("few.h5")).exit_code, 0);
  expect_refused(train("x", "--data.valid " + run("few.h5")), "fewer than one window");
}

TEST_F(BadInput, Directories) {
  std::ofstream(run("file")) << "in the way";
  expect_refused(train("x", "--checkpoint.directory " + run("file/run")), "file/run", 1);
  expect_refused(train("x", "--checkpoint.directory /proc/lexring"), "/proc/lexring", 1);
  expect_refused(train("x", "--resume " + run("nowhere")), "there is no checkpoint");
}

TEST_F(BadInput, RunsThatWouldDestroyOthers) {
  for (const char* name : {"one", "two"}) ASSERT_EQ(run_process(train(name, "--train.steps 2")).exit_code, 0);
  expect_refused(train("two", "--train.steps 4 --resume " + run("one")), "of another run");
  expect_refused(train("two", "--train.steps 4 --resume none"), "already holds");
  expect_refused(train("two", "--train.steps 4 --data.documents ignore"), "data.documents");
  expect_refused(train("two", "--train.steps 4 --data.end_of_document none"), "data.end_of_document");
  EXPECT_EQ(metrics("two").size(), 2U);
  // Another process holds the directory.
  expect_refused("flock " + run("two") + "/.lock " + train("two", "--train.steps 4"),
                 "is being trained by another lexring");
  EXPECT_EQ(run_process(train("two", "--train.steps 4 --resume " + run("two"))).exit_code, 0);
}

TEST_F(BadInput, Evaluations) {
  ASSERT_EQ(run_process(train("run", "--train.steps 2")).exit_code, 0);
  const std::string evaluate = binary() + " evaluate --checkpoint " + run("run") + " --data " + data() +
                               " --resolution 0 --output " + run("results") + " ";
  for (const char* key : {"attention.block", "attention.window", "attention.sinks", "tokens", "watchdog.seconds"}) {
    expect_refused(evaluate + fmt::format("--{} -3", key), fmt::format("{} = -3 is impossible", key));
  }
  expect_refused(mpirun(2) + evaluate + "--lengths 1000000000000 --mesh.cp 2",
                 "tokens");  // before anything of that size is made
}

/// Numbers that make no sense are known before anything is opened: neither checkpoint nor data exist.
TEST_F(BadInput, OwnNumbersOfCommands) {
  const std::string largest = "9223372036854775807";
  struct Case {
    std::string command;
    std::vector<std::string> keys, values;
  };
  const std::vector<Case> cases = {
      {"bench", {"steps"}, {"-1", "0", largest, "nan", "''"}},
      {"bench", {"warmup"}, {"-1", largest}},
      {"bench", {"ceiling"}, {"-1", "1e-300", "1e300", "inf"}},
      {"generate --checkpoint none --prompt a", {"tokens", "chunk"}, {"-1", "0", largest}},
      {"generate --checkpoint none --prompt a", {"temperature"}, {"-1", "1e300", "nan"}},
      {"generate --checkpoint none --prompt a", {"top-k"}, {"-1", "''"}},
      {"evaluate --checkpoint none --data none", {"lengths"}, {"-1", "0", "64,0", "nan"}},
      {"evaluate --checkpoint none --data none", {"tokens", "resolution"}, {"-1", "''"}},
      {"evaluate --checkpoint none --data none", {"chunk"}, {"-1", "0", largest}},
      {"evaluate --checkpoint none --data none",
       {"watchdog.seconds", "attention.sinks", "position.original_length"},
       {"-1", largest}},
      {"evaluate --checkpoint none --data none", {"attention.block", "attention.window"}, {"-1", "0", "16," + largest}},
      {"evaluate --checkpoint none --data none", {"position.scaling_factor"}, {"-1", "0", "1e-300", "1e300"}},
      {"evaluate --checkpoint none --data none", {"position.beta_fast", "position.beta_slow"}, {"-1", "1e300"}}};
  for (const Case& one : cases) {
    for (const std::string& key : one.keys) {
      for (const std::string& value : one.values) {
        expect_refused(binary() + " " + one.command + fmt::format(" --{} {}", key, value), key + " ");
      }
    }
  }
}

TEST_F(BadInput, OneMessageForTwoRanks) {
  expect_refused(mpirun(2) + train("x", "--model.layrs 3"), "nearest is 'model.layers'");
  expect_refused(mpirun(2) + train("x", "--data.train " + run("missing.h5")), "missing.h5 ", 1);
  expect_refused(mpirun(2) + train("x", "--train.batch 5"), "multiple of 2, e.g. 6");
  expect_refused(mpirun(2) + train("x", "--checkpoint.directory /proc/lexring"), "/proc/lexring", 1);
}

TEST_F(BadInput, NoSpaceForACheckpointLeavesNone) {
  // A limit on the size of files stands for a full disk: the same call fails, and no mount is needed. It leaves room
  // for MPI's own files.
  const std::string limited = "trap '' XFSZ; ulimit -f 30000; ";
  const ProcessResult result = run_process(limited + train("full", "--train.steps 2 --model.width 512"));
  EXPECT_EQ(result.exit_code, 1) << result.output;
  EXPECT_GE(occurrences(result.output, run("full")), 1) << result.output;
  for (const auto& entry : std::filesystem::directory_iterator(run("full"))) {
    EXPECT_FALSE(entry.path().filename() == "step-00000002") << "an unfinished checkpoint has a final name";
  }
}

TEST_F(BadInput, DamagedCheckpointsAreRefused) {
  ASSERT_EQ(run_process(train("good", "--train.steps 2")).exit_code, 0);
  const std::filesystem::path checkpoint = run("good") + "/step-00000002";
  const auto damaged = [&](const std::string& name) {
    std::filesystem::copy(checkpoint, run(name), std::filesystem::copy_options::recursive);
    return std::filesystem::path(run(name));
  };
  const auto flipped = damaged("flipped");
  {
    std::fstream shard(flipped / "shard-0000.h5", std::ios::in | std::ios::out | std::ios::binary);
    shard.seekg(-100, std::ios::end);
    const char byte = static_cast<char>(shard.peek() ^ 1);
    shard.seekp(-100, std::ios::end);
    shard.put(byte);
  }
  expect_refused(train("x", "--resume " + flipped.string()), "shard-0000.h5", 1);
  const auto missing = damaged("missing");
  std::filesystem::remove(missing / "shard-0000.h5");
  expect_refused(train("x", "--resume " + missing.string()), "shard-0000.h5", 1);
  expect_refused(binary() + " generate --checkpoint " + missing.string() + " --prompt a", "shard-0000.h5", 1);
  expect_refused(binary() + " generate --checkpoint " + flipped.string() + " --prompt a", "shard-0000.h5", 1);
  expect_refused(train("x", "--model.layers 3 --resume " + checkpoint.string()), "model.layers = 3");
  expect_refused(train("x", "--train.seed 9 --resume " + checkpoint.string()), "train.seed");
  write_text(shared() / "other.txt", 30000);
  ASSERT_EQ(
      run_process(binary() + " prepare --input " + (shared() / "other.txt").string() + " --output " + run("other.h5"))
          .exit_code,
      0);
  expect_refused(train("x", "--data.train " + run("other.h5") + " --resume " + checkpoint.string()),
                 "another data set");
  expect_refused(train("good", "--resume none"), "already holds");
}

}  // namespace
}  // namespace lexring
