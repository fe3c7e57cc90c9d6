// Jobs of jobs/slurm/ on a Slurm cluster of two hosts, n1 and n2: the same numbers as without Slurm, and launches that
// cannot be right are refused. Started by cluster.sh.
#include <map>

#include "tests/slurm/slurm_fixture.h"

namespace lexring {
namespace {

TEST_F(Slurm, PretrainsOnTwoHostsAsWithoutSlurm) {
  const Job job = run_job(four_ranks, pretrain("two_hosts"));
  ASSERT_EQ(job.exit_code, 0) << job.log;
  EXPECT_NE(job.log.find("2 nodes (n[1-2]) x 2 ranks x 1 threads, by srun"), std::string::npos) << job.log;
  EXPECT_NE(job.log.find("ranks 0-1 on n1, 2-3 on n2"), std::string::npos) << job.log;
  expect_same_losses("two_hosts", "four", 0);
  expect_same_losses("two_hosts", "one", 1e-5);
}

TEST_F(Slurm, RanksAndThreadsComeFromTheSiteUnlessSbatchIsToldThem) {
  write_site("two_ranks.env", "LEXRING_RANKS_PER_NODE=2\nLEXRING_LAUNCHER=mpirun\n");
  const Job job = run_job("-N 2", pretrain("mpirun"), "two_ranks.env");
  ASSERT_EQ(job.exit_code, 0) << job.log;
  EXPECT_NE(job.log.find("2 nodes (n[1-2]) x 2 ranks x 1 threads, by mpirun"), std::string::npos) << job.log;
  expect_same_losses("mpirun", "four", 0);
}

TEST_F(Slurm, AJobWithGpusHasARankForEach) {
  const Job job = run_job("-N 2 --gpus-per-node 2", pretrain("gpus") + " --train.steps 2");
  ASSERT_EQ(job.exit_code, 0) << job.log;
  EXPECT_NE(job.log.find("2 nodes (n[1-2]) x 2 ranks x 1 threads"), std::string::npos) << job.log;
}

TEST_F(Slurm, EvaluatesOnTwoHostsAsWithoutSlurm) {
  const std::string evaluation = fmt::format("--data {} --lengths 64,256 --tokens 4096 --resolution 0", data());
  const Job job = run_job(four_ranks, fmt::format("jobs/slurm/evaluate.sbatch {} {} {} --output {}", directory("four"),
                                                  evaluation, mesh, directory("by_slurm")));
  ASSERT_EQ(job.exit_code, 0) << job.log;
  const auto alone = run_process(fmt::format("{} evaluate --checkpoint {} {} --output {}", binary(), directory("four"),
                                             evaluation, directory("by_hand")));
  ASSERT_EQ(alone.exit_code, 0) << alone.output;
  const auto read = [](const std::string& name) {
    return json::parse(std::ifstream(directory(name) + "/results.json"));
  };
  const json ours = read("by_slurm"), expected = read("by_hand");
  ASSERT_EQ(ours["ranks"], 4);
  ASSERT_EQ(ours["series"].size(), 2U);
  for (std::size_t p = 0; p < 2; ++p) {
    ASSERT_EQ(ours["series"][p]["cells"].size(), 2U);
    for (std::size_t c = 0; c < 2; ++c) {
      const double loss = ours["series"][p]["cells"][c]["loss"], other = expected["series"][p]["cells"][c]["loss"];
      EXPECT_NEAR(loss, other, 1e-5 * other);
    }
  }
}

/// From its parts, although the command says to begin anew.
TEST_F(Slurm, AnEvaluationThatWasStoppedGoesOnByItself) {
  const std::string output = directory("stopped_evaluation");
  const std::string id =
      submit(four_ranks, fmt::format("jobs/slurm/evaluate.sbatch {} --data {} --lengths 64,256,1024 --tokens 38912 "
                                     "--chunk 128 --resolution 0 {} --output {} --overwrite",
                                     directory("four"), data(), mesh, output));
  const auto parts = [&] {
    std::ifstream stream(output + "/evaluation.parts");
    return std::count(std::istreambuf_iterator<char>(stream), {}, '\n');
  };
  wait_until([&] { return parts() > 3 || ended(id); }, "no part was kept");
  EXPECT_EQ(run_process("scancel --batch --signal=USR1 " + id).exit_code, 0);
  const Job job = finish(id);
  ASSERT_EQ(job.state, "COMPLETED") << job.log;
  EXPECT_EQ(field(id, "Restarts"), "1") << job.log;
  EXPECT_EQ(occurrences(job.log, "stopped, to be continued\n"), 1) << job.log;
  EXPECT_EQ(occurrences(job.log, "were there already"), 1) << job.log;
  EXPECT_TRUE(std::filesystem::exists(output + "/results.json"));
  EXPECT_FALSE(std::filesystem::exists(output + "/turn-evaluate"));
}

/// Stops that are to be followed by going on, without a hand, to the numbers of a run that nobody stopped.
TEST_F(Slurm, GoesOnByItself) {
  const std::vector<std::pair<std::string, std::function<void(const std::string& id)>>> stops = {
      // What Slurm does for --signal=B:USR1@300, which counts in minutes.
      {"time_limit", [](const std::string& id) { run_process("scancel --batch --signal=USR1 " + id); }},
      {"terminated", [](const std::string& id) { run_process("scancel --signal=TERM " + id); }},
      {"requeued", [](const std::string& id) { run_process("scontrol requeue " + id); }},
      {"preempted",
       [](const std::string&) {
         const std::string urgent = submit("--partition urgent -N 2 --exclusive", "--wrap 'sleep 1'");
         EXPECT_EQ(finish(urgent).state, "COMPLETED");
       }},
  };
  for (const auto& [name, stop] : stops) {
    SCOPED_TRACE(name);
    const Job job = stopped_midway(name, stop, "", name == "terminated" ? " --resume none" : "");
    ASSERT_EQ(job.state, "COMPLETED") << job.log;
    EXPECT_GE(std::atoi(field(job.id, "Restarts").c_str()), 1) << job.log;
    EXPECT_EQ(field(job.id, "Comment"), "finished") << job.log;
    EXPECT_GE(occurrences(job.log, "resumed from"), name == "requeued" ? 0 : 1) << job.log;
    EXPECT_FALSE(std::filesystem::exists(directory(name) + "/turn"));
    expect_same_losses(name, "four", 0);
  }
}

TEST_F(Slurm, WithoutRequeueingItStopsBeforeTheTimeIsUpAndGoesOnByTheSameCommand) {
  const auto stop = [](const std::string& id) {
    EXPECT_EQ(run_process("scancel --batch --signal=USR1 " + id).exit_code, 0);
  };
  const Job stopped = stopped_midway("stopped", stop, "--no-requeue");
  ASSERT_EQ(stopped.exit_code, 75) << stopped.log;
  ASSERT_LT(steps_of("stopped").size(), static_cast<std::size_t>(steps)) << "too fast to be stopped";
  const Job resumed = run_job(four_ranks, pretrain("stopped"));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.log;
  EXPECT_NE(resumed.log.find("resumed from"), std::string::npos) << resumed.log;
  expect_same_losses("stopped", "four", 0);
}

TEST_F(Slurm, CancelledByHandItGoesOnToo) {
  const Job cancelled =
      stopped_midway("cancelled", [](const std::string& id) { EXPECT_EQ(run_process("scancel " + id).exit_code, 0); });
  ASSERT_LT(steps_of("cancelled").size(), static_cast<std::size_t>(steps)) << "too fast to be cancelled";
  EXPECT_EQ(cancelled.state, "CANCELLED") << cancelled.log;
  const Job resumed = run_job(four_ranks, pretrain("cancelled"));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.log;
  EXPECT_NE(resumed.log.find("resumed from"), std::string::npos) << cancelled.log << resumed.log;
  expect_same_losses("cancelled", "four", 0);
}

/// At once and on the same nodes, without a turn in the queue.
TEST_F(Slurm, AfterTheDeathOfARankItStartsAgain) {
  const Job job = stopped_midway("killed", [](const std::string& id) { signal_rank(id, 3, "KILL"); });
  ASSERT_EQ(job.state, "COMPLETED") << job.log;
  EXPECT_NE(job.log.find("n2: task 3: Killed"), std::string::npos) << job.log;
  EXPECT_NE(job.log.find("failed with exit code 137, started again"), std::string::npos) << job.log;
  EXPECT_EQ(field(job.id, "Restarts"), "0");
  expect_same_losses("killed", "four", 0);
}

void controller(const std::string& word) {
  const auto done = run_process(fmt::format("{}/tests/slurm/cluster.sh controller {}", LEXRING_SOURCE_DIR, word));
  EXPECT_EQ(done.exit_code, 0) << done.output;
}

/// How many restarts in a row without progress the job has counted. Before the second it pauses for ten seconds.
std::string counted(const std::string& run) {
  std::string job, first, last, count;
  std::ifstream(run + "/turn") >> job >> first >> last >> count;
  return count;
}

/// It is not forgotten, and nothing is started for it.
TEST_F(Slurm, ASignalBetweenTwoStartsStopsTheJob) {
  write_site("thrice.env", "LEXRING_RESTARTS=3\n");
  const std::string id =
      submit(four_ranks, fmt::format("{} --data.train {}", pretrain("between"), directory("later.h5")), "thrice.env");
  wait_until([&] { return counted(directory("between")) == "2" || ended(id); }, "it did not fail again");
  EXPECT_EQ(run_process("scancel --batch --signal=USR1 " + id).exit_code, 0);
  std::filesystem::copy(data(), directory("later.h5"));
  const Job job = finish(id);
  ASSERT_EQ(job.state, "COMPLETED") << job.log;
  EXPECT_EQ(field(id, "Restarts"), "1");
  const auto stopped = job.log.find("stopped, to be continued from the start");
  ASSERT_NE(stopped, std::string::npos) << job.log;
  EXPECT_EQ(occurrences(job.log.substr(0, stopped), "\nlexring train "), 2) << job.log;
  expect_same_losses("between", "four", 0);
}

TEST_F(Slurm, AStartWithoutTheControllerIsTriedAgain) {
  write_site("four_times.env", "LEXRING_RESTARTS=4\n");
  const std::string id =
      submit(four_ranks, fmt::format("{} --data.train {}", pretrain("lonely"), directory("late.h5")), "four_times.env");
  wait_until([&] { return counted(directory("lonely")) == "2" || ended(id); }, "it did not fail again");
  controller("stop");
  std::filesystem::copy(data(), directory("late.h5"));
  // srun, then the job's script.
  wait_until([&] { return occurrences(log_of(id), "Unable to contact slurm controller") >= 2; }, "nobody asked for it");
  controller("start");
  const Job job = finish(id);
  ASSERT_EQ(job.state, "COMPLETED") << job.log;
  expect_same_losses("lonely", "four", 0);
}

/// A rank dies while nobody can be asked what to do: srun cannot end the others then, but the watchdog does.
TEST_F(Slurm, WhileTheControllerIsAwayItWaitsForIt) {
  const auto stop = [](const std::string& id) {
    controller("stop");
    signal_rank(id, 3, "KILL");
    std::this_thread::sleep_for(std::chrono::seconds(30));
    controller("start");
  };
  const Job job = stopped_midway("alone", stop, "", " --watchdog.seconds 20");
  ASSERT_EQ(job.state, "COMPLETED") << job.log;
  EXPECT_EQ(field(job.id, "Restarts"), "0") << job.log;
  EXPECT_GE(occurrences(job.log, "started again on n[1-2]"), 1) << job.log;
  expect_same_losses("alone", "four", 0);
}

TEST_F(Slurm, NumbersThatWentWrongForGoodEndTheJob) {
  write_stand_in("wrong", "exit 3");
  const Job job = run_job(four_ranks, pretrain("wrong"), "wrong.env");
  EXPECT_EQ(job.state, "FAILED") << job.log;
  EXPECT_EQ(job.exit_code, 3) << job.log;
  EXPECT_EQ(starts(job.id), 1) << job.log;
  EXPECT_EQ(occurrences(job.log, "the numbers went wrong for good"), 1) << job.log;
}

TEST_F(Slurm, WhatFailsAgainAndAgainIsGivenUp) {
  write_site("twice.env", "LEXRING_RESTARTS=2\n");
  const std::string script = pretrain("gone");
  const Job job = run_job(four_ranks, script + " --data.train " + directory("gone.h5"), "twice.env");
  EXPECT_EQ(job.state, "FAILED") << job.log;
  EXPECT_EQ(occurrences(job.log, "failed with exit code 1, started again"), 2) << job.log;
  EXPECT_EQ(occurrences(job.log, "given up after 2 restarts in a row without progress"), 1) << job.log;
  EXPECT_FALSE(std::filesystem::exists(directory("gone")));
}

TEST_F(Slurm, ARankThatIsStoppedEndsTheJobAndIsNamed) {
  write_site("never.env", "LEXRING_RESTARTS=0\n");
  const std::string id =
      submit(four_ranks, pretrain("held") + " --train.steps 1000000 --watchdog.seconds 10", "never.env");
  wait_until([&] { return !steps_of("held").empty() || ended(id); }, "no step was written");
  signal_rank(id, 3, "STOP");
  const auto start = std::chrono::steady_clock::now();
  const Job job = finish(id);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(200));
  EXPECT_NE(job.exit_code, 0);
  EXPECT_NE(job.log.find("Rank 3 does not answer"), std::string::npos) << job.log;
}

/// Two methods, of which one begins with the other's weights, and one whose training fails, for a file is in its way.
TEST_F(Slurm, AStudyIsJobsThatWaitForWhatTheyNeed) {
  const std::string file = (shared() / "study.ini").string(), out = directory("study");
  std::ofstream(file) << "[study]\nseeds = 1\n[model]\nlayers = 1\nwidth = 32\nheads = 2\n[train]\nlength = 32\n"
                         "batch = 4\nsteps = 8\nprecision = fp32\n[evaluate]\nlengths = 32,64\ntokens = 1024\n"
                         "resolution = 0\n[method.rope]\nposition.kind = rope\n[method.tuned]\ninit = rope\n"
                         "position.kind = rope\n[method.broken]\nposition.kind = none\n";
  std::filesystem::create_directories(out + "/runs");
  std::ofstream(out + "/runs/broken-seed1") << "in the way";
  const std::string command = fmt::format(
      "cd {} && LEXRING_SITE={} {} study {} --data.train {} --data.valid {} --output {} --submit "
      "--sbatch='--ntasks-per-node=1 --exclusive --hold'",
      LEXRING_SOURCE_DIR, site("site.env"), binary(), file, data(), data(), out);
  const auto submitted = run_process(command);
  ASSERT_EQ(submitted.exit_code, 0) << submitted.output;
  std::map<std::string, std::string> ids;
  const std::regex line("([0-9]+)  ([a-z0-9-]+)\n");
  for (std::sregex_iterator at(submitted.output.begin(), submitted.output.end(), line); at != std::sregex_iterator();
       ++at)
    ids[(*at)[2]] = (*at)[1];
  ASSERT_EQ(ids.size(), 7U) << submitted.output;
  const auto again = run_process(command);  // Slurm has them all still
  EXPECT_EQ(occurrences(again.output, "  (submitted before)"), 7) << again.output;
  for (const auto& [name, id] : ids) EXPECT_EQ(run_process("scontrol release " + id).exit_code, 0) << name;

  const auto log = [&](const std::string& name) {
    std::ifstream stream(out + "/logs/" + name + ".log");
    return std::string(std::istreambuf_iterator<char>(stream), {});
  };
  wait_until([&] { return ended(ids["tables"]); }, "the last job did not end");
  EXPECT_EQ(field(ids["tables"], "ExitCode"), "0:0") << log("tables");
  EXPECT_NE(log("train-tuned-seed1").find("runs/rope-seed1"), std::string::npos) << log("train-tuned-seed1");
  EXPECT_NE(field(ids["train-broken-seed1"], "ExitCode"), "0:0") << log("train-broken-seed1");
  EXPECT_EQ(field(ids["evaluate-broken-seed1"], "JobState"), "CANCELLED");
  std::ifstream table(out + "/table.csv");
  const std::string rows(std::istreambuf_iterator<char>(table), {});
  EXPECT_NE(rows.find("rope"), std::string::npos) << rows;
  EXPECT_NE(rows.find("tuned"), std::string::npos) << rows;

  // The same command submits what failed, and nothing else.
  const auto failed = run_process(command);
  EXPECT_NE(failed.output.find("train-broken-seed1"), std::string::npos) << failed.output;
  EXPECT_EQ(failed.output.find("rope"), std::string::npos) << failed.output;
}

TEST_F(Slurm, TensorParallelRanksAcrossNodesAreRefused) {
  const Job job =
      run_job(four_ranks, fmt::format("--wrap 'srun --mpi=pmix --distribution=cyclic {} train --config {} {}'",
                                      binary(), config(), keys("scattered")));
  EXPECT_NE(job.exit_code, 0);
  EXPECT_NE(job.log.find("ranks of one group are on different nodes"), std::string::npos) << job.log;
  EXPECT_TRUE(steps_of("scattered").empty());
}

TEST_F(Slurm, ALaunchThatMakesSingletonsIsRefused) {
  write_site("no_pmix.env", "LEXRING_MPI_PLUGIN=none\n");
  const Job job = run_job(four_ranks, pretrain("singletons"), "no_pmix.env");
  EXPECT_NE(job.exit_code, 0);
  EXPECT_NE(job.log.find("srun --mpi=pmix"), std::string::npos) << job.log;
  EXPECT_TRUE(steps_of("singletons").empty());
}

TEST_F(Slurm, ANumberOfRanksUnlikeSlurmsIsRefused) {
  const Job tasks = run_job("-N 2 -n 3", pretrain("unlike"));
  EXPECT_EQ(tasks.exit_code, 2);
  EXPECT_NE(tasks.log.find("the job has 3 tasks"), std::string::npos) << tasks.log;
  const Job fewer = run_job(
      four_ranks, fmt::format("--wrap 'mpirun -n 2 {} train --config {} {}'", binary(), config(), keys("unlike")));
  EXPECT_NE(fewer.exit_code, 0);
  EXPECT_NE(fewer.log.find("SLURM_NTASKS"), std::string::npos) << fewer.log;
  EXPECT_TRUE(steps_of("unlike").empty());
}

TEST_F(Slurm, MistakesAreNamedInTheLog) {
  const auto says = [](const std::string& script, const std::string& message, const std::string& site_file) {
    const Job job = run_job("-N 1", script, site_file);
    EXPECT_EQ(job.exit_code, 2);
    EXPECT_NE(job.log.find(message), std::string::npos) << job.log;
  };
  says(pretrain("mistake"), "copy jobs/slurm/site.env.example", "missing.env");
  says("jobs/slurm/pretrain.sbatch configs/none.ini", "there is no configuration configs/none.ini", "site.env");
  says("jobs/slurm/evaluate.sbatch --data x.h5", "the first argument is the run's directory", "site.env");
  says(pretrain("mistake") + " --model.layrs 3", "model.layers", "site.env");
  write_site("often.env", "LEXRING_RESTARTS=often\n");
  says(pretrain("mistake"), "LEXRING_RESTARTS = often is not a whole number", "often.env");
}

}  // namespace
}  // namespace lexring
