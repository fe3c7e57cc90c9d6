/// What a run goes on from, what it says of it, and what stays in its directory.
#include <algorithm>

#include "framework/io/hdf5_file.h"
#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class Resume : public JobTest {
 protected:
  using Names = std::vector<std::string>;

  static std::string done(const std::string& command) {
    const ProcessResult result = run_process(command);
    EXPECT_EQ(result.exit_code, 0) << command << "\n" << result.output;
    return result.output;
  }
  /// The step-* directories of a run.
  static Names steps(const std::string& name) {
    Names names;
    for (const auto& entry : std::filesystem::directory_iterator(run(name))) {
      const std::string file = entry.path().filename().string();
      if (file.starts_with("step-")) names.push_back(file);
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  static std::string text_of(const std::string& path) {
    std::ifstream stream(path);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
};

TEST_F(Resume, ARunThatGoesBackKeepsItsStartAndItsNewSteps) {
  done(train("run", "--train.steps 12 --checkpoint.every 4"));
  const std::string keys = "--train.steps 12 --checkpoint.every 1 --train.steps 6 ";
  const std::string said = done(train("run", keys + "--resume " + run("run") + "/step-00000004/"));
  EXPECT_EQ(occurrences(said,
                        "the run goes back to step-00000004: step-00000012, step-00000008 are set aside, as "
                        "step-*.abandoned-at-00000004\n"),
            1)
      << said;
  EXPECT_EQ(steps("run"), (Names{"step-00000004", "step-00000005", "step-00000006",
                                 "step-00000008.abandoned-at-00000004", "step-00000012.abandoned-at-00000004"}));
  EXPECT_EQ(occurrences(done(train("run", "--train.steps 7")), "resumed from " + run("run") + "/step-00000006;"), 1);
  const std::string back =
      done(train("run", "--train.steps 9 --resume " + run("run") + "/step-00000008.abandoned-at-00000004"));
  EXPECT_EQ(occurrences(
                back, "the run goes back to step-00000008: step-00000007, step-00000006, step-00000005 are set aside"),
            1)
      << back;
  EXPECT_EQ(occurrences(done(train("run", "--train.steps 9")), "already trained for 9 steps"), 1);
}

TEST_F(Resume, ADamagedCheckpointIsSetAsideAndTheRunGoesOnFromTheOneBefore) {
  const std::string keys = "--checkpoint.every 4 --optimizer.schedule constant --train.steps 12 ";
  done(train("undisturbed", keys));
  done(train("run", keys + "--train.steps 8"));
  const std::string shard = run("run") + "/step-00000008/shard-0000.h5";
  std::filesystem::resize_file(shard, std::filesystem::file_size(shard) - 1);
  const std::string said = done(train("run", keys));
  EXPECT_EQ(occurrences(said, shard + " is damaged: it has"), 1) << said;
  EXPECT_EQ(occurrences(said, "so the run goes on from the checkpoint before: " + run("run") + "/step-00000004\n"), 1)
      << said;
  EXPECT_EQ(occurrences(said, "resumed from " + run("run") + "/step-00000004;"), 1) << said;
  EXPECT_EQ(steps("run"),
            (Names{"step-00000004", "step-00000008", "step-00000008.abandoned-at-00000004", "step-00000012"}));
  EXPECT_EQ(trajectory("run"), trajectory("undisturbed"));
}

TEST_F(Resume, WhatAStartThatWasKilledLeftIsTakenAway) {
  done(train("run", "--train.steps 2"));
  std::ofstream(run("run") + "/.probe") << "";
  done(train("run", "--train.steps 3"));
  EXPECT_FALSE(std::filesystem::exists(run("run") + "/.probe"));
}

TEST_F(Resume, StepsThatWereSkippedDisplaceNoGoodCheckpoint) {
  const std::string keys =
      "--checkpoint.every 1 --checkpoint.keep 3 --optimizer.schedule constant --optimizer.warmup 0 ";
  done(train("run", keys + "--train.steps 5"));
  const std::string diverging = train("run", keys + "--train.steps 100 --optimizer.lr 1e30");
  expect_refused(diverging, "10 steps in a row", 3);
  EXPECT_EQ(steps("run"), (Names{"step-00000004", "step-00000005", "step-00000006"}));
  expect_refused(diverging, "10 steps in a row", 3);  // as a job that is started again and again does
  EXPECT_EQ(steps("run"), (Names{"step-00000004", "step-00000005", "step-00000006"}));
  done(train("run", keys + "--train.steps 8 --resume " + run("run") + "/step-00000005"));
  const auto lines = metrics("run");
  ASSERT_EQ(lines.size(), 8U);
  EXPECT_EQ(lines.back()["skipped"], false);
  EXPECT_EQ(steps("run"),
            (Names{"step-00000006", "step-00000006.abandoned-at-00000005", "step-00000007", "step-00000008"}));
}

TEST_F(Resume, WhatDeadWritersLeftGoesAndWhatALivingOneWritesStays) {
  done(train("run", "--train.steps 2"));
  const std::filesystem::path partial = run("run") + "/step-00000009.partial";
  std::filesystem::create_directories(partial);
  std::ofstream(partial / "shard-0000.h5") << "half of it";
  expect_refused("flock " + run("run") + "/.lock " + train("run", "--train.steps 4"),
                 "is being trained by another lexring");
  EXPECT_TRUE(std::filesystem::exists(partial / "shard-0000.h5"));
  done(train("run", "--train.steps 2"));  // has nothing to do but this
  EXPECT_EQ(steps("run"), (Names{"step-00000002"}));
}

TEST_F(Resume, ARefusedRunLeavesNothing) {
  std::filesystem::create_directories(run("there"));
  for (const std::string& keys :
       Names{"--train.length 100000", "--model.vocab 100", "--resume " + run("nowhere"), "--model.heads 3",
             "--train.frozen nothing", "--data.valid " + run("missing.h5")}) {
    EXPECT_NE(run_process(train("new", keys)).exit_code, 0) << keys;
    EXPECT_FALSE(std::filesystem::exists(run("new"))) << keys;
    EXPECT_NE(run_process(train("there", keys)).exit_code, 0) << keys;
    EXPECT_TRUE(std::filesystem::is_empty(run("there"))) << keys;
    EXPECT_NE(run_process(mpirun(2) + train("deep/er", keys)).exit_code, 0) << keys;
    EXPECT_FALSE(std::filesystem::exists(run("deep"))) << keys;
  }
  done(train("there", "--train.steps 1"));
}

TEST_F(Resume, WhatIsNotTrainedHasNoMomentsAndStaysSoInTheRun) {
  const std::string keys = "--train.frozen 'embedding, layers.0' --checkpoint.every 2 --train.steps ";
  const std::string said = done(train("run", keys + "4"));
  EXPECT_EQ(occurrences(said, " of them trained, "), 1) << said;
  done(mpirun(2) + train("run", keys + "6 --optimizer.shard gradients"));
  EXPECT_EQ(metrics("run").size(), 6U);
  const std::string names = done(binary() + " inspect " + run("run") + "/step-00000006");
  EXPECT_EQ(occurrences(names, "optimizer.first_moment.layers.0."), 0) << names;
  EXPECT_GT(occurrences(names, "optimizer.first_moment.layers.1."), 0) << names;
  expect_refused(train("run", "--train.steps 8"), "train.frozen =  but");
  expect_refused(train("run", "--train.steps 8 --train.frozen embedding"), "train.frozen = embedding but");
  done(train("other", "--train.steps 2 --init " + run("run")));
}

TEST_F(Resume, AdaptersBeginOnTheWeightsOfAnotherRunAndLeaveThemAsTheyAre) {
  done(train("base", "--train.steps 4"));
  const std::string base =
                        " train --init " + run("base") + " --train.steps 4 --optimizer.warmup 0 --data.train " + data(),
                    lora =
                        " --adapter.rank 2 --adapter.targets attention.query,attention.output,ffn.up,ffn.down"
                        " --adapter.trainable norm --checkpoint.directory ";
  done(binary() + base + " --checkpoint.directory " + run("whole"));
  const std::string said = done(binary() + base + lora + run("lora"));
  EXPECT_EQ(occurrences(said, " of them trained, "), 1) << said;
  const auto whole = metrics("whole"), adapted = metrics("lora");
  EXPECT_EQ(adapted[0]["loss"], whole[0]["loss"]) << "an addition begins with 0";
  EXPECT_NE(adapted[1]["loss"], whole[1]["loss"]);
  EXPECT_LT(adapted[3]["loss"].get<double>(), adapted[0]["loss"].get<double>());

  const auto weights = [&](const std::string& of, const std::string& name) {
    const std::string file = run(of) + ".h5";
    if (!std::filesystem::exists(file)) done(binary() + " inspect " + run(of) + "/step-00000004 --export " + file);
    return Hdf5File(file, Hdf5File::Mode::read).read_all<float>(name);
  };
  for (const char* same : {"embedding", "layers.1.attention.query.weight", "layers.0.ffn.down.weight"})
    EXPECT_EQ(weights("lora", same), weights("base", same)) << same;
  for (const char* moved : {"layers.0.attention.norm.weight", "norm.weight"})
    EXPECT_NE(weights("lora", moved), weights("base", moved)) << moved;
  for (const char* part : {"attention.query.lora_b", "attention.output.lora_b", "ffn.down.lora_b"}) {
    const std::vector<float> b = weights("lora", std::string("layers.0.") + part);
    EXPECT_NE(b, std::vector<float>(b.size())) << part;
  }

  const std::string names = done(binary() + " inspect " + run("lora"));
  EXPECT_EQ(occurrences(names, "optimizer.first_moment.embedding"), 0) << names;
  EXPECT_GT(occurrences(names, ".lora_a"), 0) << names;
  done(mpirun(2) + binary() + base + lora + run("shared") + " --mesh.tp 2");
  done(mpirun(2) + binary() + base + lora + run("sharded") + " --optimizer.shard gradients");
  for (const char* other : {"shared", "sharded"}) {
    for (std::size_t i = 0; i < adapted.size(); ++i)
      EXPECT_NEAR(metrics(other)[i]["loss"].get<double>(), adapted[i]["loss"].get<double>(), 1e-4);
  }
  done(mpirun(2) + binary() + base + lora + run("lora") + " --train.steps 6 --mesh.tp 2");
  EXPECT_EQ(metrics("lora").size(), 6U);
  expect_refused(binary() + base + lora + run("lora") + " --train.steps 8 --adapter.rank 3", "adapter.rank = 3 but");
  expect_refused(binary() + base + lora + run("x") + " --adapter.trainable query", "which has an adapter");
  expect_refused(binary() + base + lora + run("x") + " --adapter.targets ffn.gate", "does not have");
  expect_refused(binary() + base + lora + run("x") + " --adapter.trainable embeding", "is in no parameter's name");
  expect_refused(binary() + base + lora + run("x") + " --adapter.alpha 0", "lets nothing be learned");
  expect_refused(binary() + base + " --adapter.trainable norm --checkpoint.directory " + run("x"),
                 "adapter.trainable has an effect only with adapter.rank other than 0");

  // What adapters learned is not lost without a word.
  const std::string next = binary() + " train --init " + run("lora") + " --train.steps 2 --data.train " + data() +
                           " --checkpoint.directory ";
  done(next + run("next"));
  EXPECT_LT(metrics("next")[0]["loss"].get<double>(), whole[0]["loss"].get<double>());
  expect_refused(next + run("x") + " --adapter.rank 0", "leave adapter.rank and adapter.alpha as they were");
  expect_refused(next + run("x") + " --adapter.rank 3", "learned is in adapters of rank 2");
  expect_refused(next + run("x") + " --adapter.targets ffn.up", "all of these in adapter.targets");
}

TEST_F(Resume, ANameThatAnIniFileCannotHoldIsRefusedBeforeAnythingIsMade) {
  for (const std::string& name : Names{"run ", "run\t", "run#1"}) {
    expect_refused(train("x", "--checkpoint.directory '" + run(name) + "'"), "which an INI file cannot hold");
    EXPECT_FALSE(std::filesystem::exists(run(name)));
  }
  expect_refused("cd " + shared().string() + " && " + train("x", "--checkpoint.directory ' run'"),
                 "begins or ends with a space");
  EXPECT_FALSE(std::filesystem::exists(shared() / " run"));
}

TEST_F(Resume, AnyWayToWriteThePathOfACheckpointMeansTheSame) {
  done(train("run", "--train.steps 4"));
  const std::string step = run("run") + "/step-00000004";
  const std::string generate =
      binary() + " generate --device cpu --temperature 0 --tokens 4 --prompt 'the ring' --checkpoint ";
  const std::string expected = done(generate + run("run"));
  EXPECT_EQ(done(generate + step + "/"), expected);
  EXPECT_EQ(done("cd " + step + " && " + generate + "."), expected);
  EXPECT_EQ(done("cd " + run("run") + " && " + generate + "./step-00000004//"), expected);
  const std::string evaluate =
      binary() + " evaluate --device cpu --lengths 32 --tokens 256 --resolution 0 --data " + data() + " --checkpoint ";
  const auto results = [&](const std::string& name) {
    return nlohmann::json::parse(text_of(run(name) + "/results.json"));
  };
  done(evaluate + run("run") + " --output " + run("a"));
  done(evaluate + step + "/ --output " + run("b"));
  done("cd " + step + " && " + evaluate + ". --output " + run("c"));
  for (const char* name : {"b", "c"}) {
    EXPECT_EQ(results(name)["checkpoint"], results("a")["checkpoint"]);
    EXPECT_EQ(text_of(run(name) + "/report.html").find("step-00000004</title>"), std::string::npos);
  }
  EXPECT_EQ(occurrences(text_of(run("b") + "/report.html"), "<svg"),
            occurrences(text_of(run("a") + "/report.html"), "<svg"))
      << "the training figure is there";
}

TEST_F(Resume, WhatAnotherConfigurationChangesIsSaidAndTheOneBeforeKept) {
  done(train("run", "--train.steps 4 --optimizer.schedule constant"));
  const std::string first = text_of(run("run") + "/config.ini");
  const std::string keys =
      "--train.steps 6 --optimizer.lr 0.02 --optimizer.beta1 0.8 --optimizer.schedule constant --train.batch 4 ";
  const std::string said = done(train("run", keys));
  for (const char* line : {"\ntrain.batch 6 -> 4 from step 5\n", "\ntrain.steps 4 -> 6 from step 5\n",
                           "\noptimizer.lr 0.01 -> 0.02 from step 5\n", "\noptimizer.beta1 0.9 -> 0.8 from step 5\n",
                           "\nthe configuration before step 5 is kept in config.before-step-00000005.ini\n"}) {
    EXPECT_EQ(occurrences(said, line), 1) << line << said;
  }
  EXPECT_EQ(occurrences(said, " from step 5"), 4) << said;
  EXPECT_EQ(text_of(run("run") + "/config.before-step-00000005.ini"), first);
  EXPECT_EQ(occurrences(text_of(run("run") + "/config.ini"), "\nlr = 0.02\n"), 1);
  const std::string again = done(train("run", keys + "--train.steps 8"));
  EXPECT_EQ(occurrences(again, " -> "), 1) << again;
  EXPECT_TRUE(std::filesystem::exists(run("run") + "/config.before-step-00000007.ini"));
  const std::string back = done(train("run", keys + "--train.steps 9 --resume " + run("run") + "/step-00000006"));
  EXPECT_TRUE(std::filesystem::exists(run("run") + "/config.before-step-00000007-2.ini"))
      << "no earlier one is lost: " << back;
  const auto kept_in = [&](const std::string& steps) {
    const std::string text =
        done(train("run", keys + "--train.steps " + steps + " --resume " + run("run") + "/step-00000006"));
    const auto at = text.find("is kept in ");
    return text.substr(at, text.find('\n', at) - at);
  };
  EXPECT_EQ(kept_in("8"), "is kept in config.before-step-00000007-3.ini");
  EXPECT_EQ(kept_in("9"), "is kept in config.before-step-00000007-4.ini");
  EXPECT_EQ(kept_in("8"), "is kept in config.before-step-00000007-3.ini") << "which says the same already";
}

TEST_F(Resume, ARunThatGoesOnElsewhereLeavesTheOtherAsItWas) {
  done(train("run", "--train.steps 12 --checkpoint.every 4"));
  done(train("other", "--train.steps 6 --resume " + run("run") + "/step-00000004"));
  EXPECT_EQ(steps("run"), (Names{"step-00000004", "step-00000008", "step-00000012"}));
  EXPECT_EQ(text_of(run("run") + "/latest"), "step-00000012\n");
  EXPECT_EQ(steps("other"), (Names{"step-00000006"}));
  EXPECT_EQ(occurrences(done(train("run", "--train.steps 12")), "already trained for 12 steps"), 1);
}

TEST_F(Resume, ARunThatGoesOnUnchangedSaysNothing) {
  done(train("run", "--train.steps 4 --checkpoint.every 2"));
  std::filesystem::remove_all(run("run") + "/step-00000004");  // as if it had ended there
  const std::string said = done(train("run", "--train.steps 4 --checkpoint.every 2"));
  EXPECT_EQ(occurrences(said, "resumed from " + run("run") + "/step-00000002"), 1) << said;
  EXPECT_EQ(occurrences(said, "->"), 0) << said;
  EXPECT_EQ(occurrences(said, "kept"), 0) << said;
}

TEST_F(Resume, MoreStepsChangeTheRateAtOnceAndThatIsSaid) {
  done(train("run", "--train.steps 20 --optimizer.schedule linear --optimizer.warmup 0"));
  EXPECT_DOUBLE_EQ(metrics("run").back()["lr"].get<double>(), 0.001) << "the final fraction at the last step";
  const std::string said = done(train("run", "--train.steps 40 --optimizer.schedule linear --optimizer.warmup 0"));
  EXPECT_EQ(
      occurrences(said, "train.steps 20 -> 40 from step 21; the learning rate of that step is 0.00538, not 0.001\n"), 1)
      << said;
}

TEST_F(Resume, ANewRunBeginsWithTheWeightsOfAnother) {
  done(train("old", "--train.steps 40"));
  const double begun = metrics("old").front()["loss"].get<double>(),
               ended = metrics("old").back()["loss"].get<double>();
  ASSERT_LT(ended, 0.8 * begun);
  const std::string step = run("old") + "/step-00000040";
  // The model comes from the checkpoint; train() would name its keys.
  const auto longer = [&](const std::string& name, const std::string& keys) {
    return binary() + " train --init " + run("old") +
           " --train.length 64 --train.batch 4 --train.steps 3 --optimizer.warmup 0 --data.train " + data() +
           " --checkpoint.directory " + run(name) + " " + keys;
  };
  const std::string said = done(longer("new", "--position.scaling linear --position.scaling_factor 2"));
  EXPECT_EQ(occurrences(said, ", a new run with the weights of " + step + "; results in " + run("new")), 1) << said;
  EXPECT_EQ(occurrences(said, "\nother than there: train.length 32 -> 64, "), 1) << said;
  EXPECT_EQ(occurrences(said, "position.scaling none -> linear"), 1) << said;
  EXPECT_EQ(occurrences(text_of(run("new") + "/config.ini"), "\ninit = " + step + "\n"), 1);
  EXPECT_EQ(occurrences(done(binary() + " inspect " + run("new")), "init = " + step + "\n"), 1);
  const auto lines = metrics("new");
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0]["step"], 1);
  EXPECT_DOUBLE_EQ(lines[0]["lr"].get<double>(), 3e-4) << "its own schedule";
  EXPECT_LT(lines[0]["loss"].get<double>(), 0.5 * (begun + ended)) << "its weights are not new";
  // Any mesh takes them, and optimizer.shard.
  done(mpirun(2) + longer("tp", "--position.scaling linear --position.scaling_factor 2 --mesh.tp 2"));
  done(mpirun(2) + longer("dp", "--position.scaling linear --position.scaling_factor 2 --optimizer.shard state"));
  for (const char* other : {"tp", "dp"}) {
    for (int i = 0; i < 3; ++i) {
      EXPECT_NEAR(metrics(other)[static_cast<std::size_t>(i)]["loss"].get<double>(),
                  lines[static_cast<std::size_t>(i)]["loss"].get<double>(), 1e-4);
    }
  }
  // The same command goes on with the new run, also when the old one is gone.
  std::filesystem::remove_all(run("old"));
  const std::string more = done(longer("new", "--position.scaling linear --position.scaling_factor 2 --train.steps 5"));
  EXPECT_EQ(occurrences(more, "resumed from " + run("new") + "/step-00000003;"), 1) << more;
  EXPECT_EQ(metrics("new").size(), 5U);
  done(binary() + " train --config " + run("new") + "/config.ini --train.steps 6");
  done(binary() + " train --config " + run("new") + "/config.ini --train.steps 6 --resume " + run("new") +
       "/step-00000003");
  EXPECT_EQ(occurrences(text_of(run("new") + "/config.ini"), "\ninit = " + step + "\n"), 1);
}

TEST_F(Resume, WeightsOfAnotherModelAreRefusedWithTheReason) {
  done(train("rope", "--train.steps 2 --position.kind rope"));
  done(train("learned", "--train.steps 2 --position.kind learned"));
  const auto init = [&](const std::string& from, const std::string& keys) {
    return binary() + " train --init " + run(from) + " --train.steps 2 --data.train " + data() +
           " --checkpoint.directory " + run("new") + " " + keys;
  };
  expect_refused(init("rope", "--model.width 64"),
                 "are of another model: model.width 32 -> 64; leave model.width as it was");
  expect_refused(init("rope", "--model.layers 3"), "model.layers 2 -> 3");
  expect_refused(init("rope", "--model.heads 4"), "model.heads 2 -> 4");
  expect_refused(init("rope", "--position.kind learned"), "position.kind = learned needs position.learned, which");
  expect_refused(init("learned", "--train.length 32 --model.max_length 64"), "model.max_length 32 -> 64");
  expect_refused(init("learned", "--train.length 64"),
                 "train.length = 64, but there are learned positions for 32 tokens only");
  expect_refused(init("nowhere", ""), "there is no checkpoint");
  expect_refused(init("rope", "--train.length 16 --model.vocab 300"), "of a vocabulary of 300, but");
  std::filesystem::copy_file(data(), run("other.h5"));
  const std::string change =
      "/usr/bin/python3 -c \"import h5py; h5py.File('" + run("other.h5") + "', 'r+').attrs['tokenizer'] = 'pairs'\"";
  done(change);  // Debian's python3-h5py
  expect_refused(init("rope", "--data.train " + run("other.h5")), "were prepared with the tokenizer bytes, but");
  expect_refused(init("rope", "--data.valid " + run("other.h5")),
                 "was prepared with the tokenizer pairs, but data.train = ");
  expect_refused(train("rope", "--position.kind rope --train.steps 9 --data.train " + run("other.h5")),
                 "were prepared with the tokenizer bytes, but");
  expect_refused(binary() + " evaluate --checkpoint " + run("rope") + " --data " + run("other.h5"),
                 "other.h5 with pairs");
  EXPECT_FALSE(std::filesystem::exists(run("new")));
  done(init("rope", "--train.length 64 --position.kind xpos --attention.pattern window --attention.window 16"));
  expect_refused(init("learned", "--train.length 32"),
                 "the run of " + run("new") + "/step-00000002 began with the weights of " + run("rope"));
  expect_refused(train("rope", "--train.steps 4 --position.kind rope --init " + run("learned")),
                 "did not begin with the weights of a checkpoint");
}

TEST_F(Resume, AnotherLengthIsRefusedForWhatItIs) {
  done(train("run", "--train.steps 2 --position.kind rope"));
  const std::string said = expect_refused(train("run", "--train.steps 4 --position.kind rope --train.length 64"),
                                          "train.length = 32, now they are");
  EXPECT_EQ(occurrences(said, "original_length"), 0) << said;
  EXPECT_EQ(occurrences(said, "--init"), 1) << said;
}

TEST_F(Resume, AConfigurationFromAPipeIsReadOnce) {
  const std::string pipe = run("pipe");
  ASSERT_EQ(run_process("mkfifo " + pipe).exit_code, 0);
  done("printf '[train]\nsteps = 3\n' > " + pipe + " & " + train("run", "--config " + pipe));
  EXPECT_EQ(metrics("run").size(), 3U);
}

}  // namespace
}  // namespace lexring
