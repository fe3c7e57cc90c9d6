#include "jobs/commands/study.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "framework/base/error.h"
#include "jobs/evaluation/output.h"
#include "jobs/launch/exit_codes.h"
#include "jobs/study/processes.h"
#include "jobs/study/slurm_jobs.h"
#include "jobs/study/study_file.h"
#include "jobs/study/study_plan.h"
#include "jobs/study/study_report.h"
#include "jobs/study/study_results.h"
#include "jobs/study/study_tables.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring study: methods x seeds x patterns x lengths, from one file to one table

  lexring study configs/studies/lex.ini --data.train books.h5 --data.valid valid.h5 --output studies/lex --parallel 2

Trains every method with every seed, evaluates each, and writes table.md, table.tex, table.csv and report.html into
--output. Stop it in any way and give the same command again: trainings go on from their checkpoints, and what is
finished is not done twice. --list shows what there is to do, as the commands that it is done with.

  lexring study configs/studies/lex.ini ... --output studies/lex --submit --sbatch='--time=2:00:00 --exclusive'

hands every training and every evaluation to Slurm as a job of its own, after the one that it needs, and a last one
that writes the tables (from the root of the repository, with jobs/slurm/site.env). The options in --sbatch are read by
the shell. The same command again submits what is neither done nor with Slurm.

A study file:

  [study]
  title = Rotary positions beyond the training length
  seeds = 1,2,3                  # a training of every method for each
  baseline = rope                # differences are to this method; default: the first

  [model]                        # any key of `lexring train`: what all trainings share
  layers = 4
  width = 128
  [train]
  length = 256
  steps = 400

  [evaluate]                     # any key of `lexring evaluate`: what all evaluations share
  lengths = 256,1024,4096
  patterns = causal,blockwise
  tokens = 65536

  [method.rope]                  # a method: its name, and the keys that differ
  label = RoPE                   # as tables call it
  position.kind = rope

  [method.yarn]                  # another use of rope's checkpoints; its keys are those of `lexring evaluate`
  checkpoint_of = rope
  position.scaling = yarn

  [method.yarn_tuned]            # a short training at a longer length that begins with rope's weights
  init = rope
  train.length = 1024
  train.steps = 50
  position.scaling = yarn
  position.scaling_factor = 4
  evaluate.patterns = causal     # a key of its evaluation alone

With `task = first`, `sizes = 10,100` and `count = 200` in [evaluate], in place of lengths and tokens, methods are
scored on a task: right answers in percent, by size (`lexring prepare --task first` makes what they train on).

Losses are means over seeds. A difference is paired: the same seed, the same tokens, the same pattern and length; its
standard error is over seeds and texts. train.seed and checkpoint.directory are the study's own; it trains for steps,
not for minutes.

Keys of the command line take the place of the file's first parts, not of a method's:
)";

const char* const files[] = {"table.md", "table.tex", "table.csv", "report.html"};

struct Arguments {
  std::string output;
  std::int64_t parallel = 1;
  bool list = false, tables = false, submit = false;
  std::string sbatch;

  std::vector<Key> keys() {
    return {
        {"output", &output, "where runs, evaluations and tables go", "directory"},
        Key{"parallel", &parallel, "jobs at a time, each with its share of the processors"}.between(1, 1024),
        {"list", &list, "only show what there is to do", "", "", {}, true},
        {"tables", &tables, "only write tables and report of what is there already", "", "", {}, true},
        {"submit", &submit, "hand jobs to Slurm, and a last one for tables and report", "", "", {}, true},
        {"sbatch", &sbatch, "with --submit: options of sbatch, e.g. --sbatch='--time=2:00:00 --exclusive'", "options"}};
  }
};

/// "--train.steps", "100" and "--train.steps=100", but for the command's own keys.
KeyTexts keys_of_study(const std::vector<std::string>& words, const std::vector<Key>& own,
                       std::vector<std::string>& rest) {
  KeyTexts keys;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const auto equals = word.find('=');
    const std::string name =
        word.starts_with("--") ? word.substr(2, equals == std::string::npos ? equals : equals - 2) : "";
    const bool is_own = std::any_of(own.begin(), own.end(), [&](const Key& key) { return key.name == name; });
    if (name.empty() || is_own) {
      rest.push_back(word);
      if (is_own && equals == std::string::npos && i + 1 < words.size() && !words[i + 1].starts_with("--"))
        rest.push_back(words[++i]);
      continue;
    }
    if (equals != std::string::npos) {
      keys.emplace_back(name, word.substr(equals + 1));
    } else {
      require_usage(i + 1 < words.size(), "{} needs a value; give {}=VALUE", word, word);
      keys.emplace_back(name, words[++i]);
    }
  }
  return keys;
}

void list_jobs(const std::vector<StudyJob>& jobs) {
  for (const StudyJob& job : jobs)
    print_result("{}  lexring {}\n", job.done ? "done" : "to do", fmt::join(job.words, " "));
}

void write_tables(const Study& study, const StudyDirectory& directory, const std::string& command) {
  const StudyResults results = read_results(study, directory);
  require(results.evaluations > 0, "there is no evaluation in {} yet; run the study without --tables",
          directory.path().string());
  const OutputDirectory output(directory.path(), {}, Existing::replace);
  const std::string texts[] = {to_markdown(study, results), to_latex(study, results), to_csv(study, results),
                               to_html(study, results, command)};
  for (std::size_t i = 0; i < std::size(files); ++i) output.write(files[i], texts[i]);
  print_result("{}\nreport: {}\n", to_table(study, results), (directory.path() / "report.html").string());
}

void submit(const Study& study, const Arguments& args, const KeyTexts& given) {
  require_slurm();
  const StudyDirectory directory(args.output);
  const StudyLock lock(directory.path());
  const std::vector<StudyJob> jobs = plan_study(study, directory);
  write_shared_config(study, directory);
  std::vector<std::string> tables = {"study", study.file, "--tables", "--output", args.output};
  for (const std::string& word : words_of(given)) tables.push_back(word);
  const std::vector<Submission> submitted = submit_jobs(jobs, directory, tables, args.sbatch);
  for (const Submission& job : submitted)
    print_result("{:>10}  {}{}\n", job.id, job.name, job.waiting ? "  (submitted before)" : "");
  if (submitted.empty()) print_result("nothing to do: {} done\n", counted(std::ssize(jobs), "job"));
  else say("logs: {}; squeue --me shows what is left\n", (directory.path() / "logs").string());
}

int run(const Study& study, const Arguments& args, const std::string& command) {
  const StudyDirectory directory(args.output);
  const StudyLock lock(directory.path());
  std::vector<StudyJob> jobs = plan_study(study, directory);
  write_shared_config(study, directory);
  const auto left = std::count_if(jobs.begin(), jobs.end(), [](const StudyJob& job) { return !job.done; });
  say("{}: {}, {}, {} of {} jobs to do; logs in {}\n", study.title, counted(std::ssize(study.methods), "method"),
      counted(std::ssize(study.seeds), "seed"), left, jobs.size(), (directory.path() / "logs").string());
  StudyEnd end;
  if (left > 0) end = run_jobs(jobs, directory, static_cast<int>(args.parallel));
  const auto done = std::count_if(jobs.begin(), jobs.end(), [](const StudyJob& job) { return job.done; });
  if (end.stopped) {
    say("stopped with {} of {} jobs done; the same command goes on\n", done, jobs.size());
    return exit_code::to_be_continued;
  }
  if (std::any_of(jobs.begin(), jobs.end(), [](const StudyJob& job) { return job.done && !job.training(); }))
    write_tables(study, directory, command);
  for (const JobFailure& failure : end.failures)
    say("failed: {}: {} ({})\n", failure.name, failure.reason, directory.log(failure.name).string());
  if (end.failures.empty()) return 0;
  fail("{} of {} failed; the same command tries again", end.failures.size(), counted(std::ssize(jobs), "job"));
}

}  // namespace

int study_command(const std::vector<std::string>& words) {
  Arguments args;
  const std::vector<Key> own = args.keys();
  KeyTable table;
  table.add(own);
  if (asks_help(words)) {
    print_result("{}{}\n  --study.seeds, --study.baseline, --evaluate.KEY, and any key of `lexring train`\n", usage,
                 table.help());
    return 0;
  }
  require_usage(!words.empty() && !words[0].starts_with("--"),
                "the study file is missing; give it first, e.g. lexring study configs/studies/lex.ini --output DIR");
  std::vector<std::string> rest;
  const KeyTexts given = keys_of_study({words.begin() + 1, words.end()}, own, rest);
  table.parse_arguments(rest);
  require_usage(!args.output.empty(), "output is missing; give --output with a directory for runs and tables");
  require_usage(args.submit || args.sbatch.empty(), "--sbatch is for jobs of Slurm; give --submit too");
  require_usage(!args.submit || args.parallel == 1,
                "--parallel is for jobs of this machine; with --submit Slurm decides how many run at a time");
  const Study study = read_study(words[0], given);
  const std::string command = fmt::format("lexring study {}", fmt::join(words, " "));
  if (args.tables) return write_tables(study, StudyDirectory(args.output), command), 0;
  check_work(study);
  if (args.list) return list_jobs(plan_study(study, StudyDirectory(args.output))), 0;
  if (args.submit) return submit(study, args, given), 0;
  return run(study, args, command);
}

}  // namespace lexring
