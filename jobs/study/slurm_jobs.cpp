#include "jobs/study/slurm_jobs.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>

#include <sys/wait.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "framework/base/error.h"

namespace lexring {
namespace {

const char* const script = "jobs/slurm/study.sbatch";

/// For the shell.
std::string shell_word(const std::string& word) {
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

struct Said {
  int exit_code;
  std::string text;  ///< without the end of its last line
};

Said run(const std::string& command) {
  FILE* const pipe = ::popen(command.c_str(), "r");
  require(pipe != nullptr, "{} cannot be started", command);
  Said said{};
  std::array<char, 4096> part{};
  while (std::fgets(part.data(), part.size(), pipe) != nullptr) said.text += part.data();
  const int status = ::pclose(pipe);
  said.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  while (said.text.ends_with('\n')) said.text.pop_back();
  return said;
}

/// The id under which Slurm has this job, if it still has it.
std::string waiting_id(const std::filesystem::path& ticket) {
  std::string id;
  std::getline(std::ifstream(ticket) >> std::ws, id);
  if (id.empty()) return "";
  const Said said = run(fmt::format("squeue --noheader --format=%i --jobs={} 2>/dev/null", shell_word(id)));
  return said.exit_code == 0 && !said.text.empty() ? id : "";
}

}  // namespace

void require_slurm() {
  require_usage(std::filesystem::exists(script), "there is no {} here; submit from the root of the repository", script);
  require_usage(
      run("command -v sbatch").exit_code == 0,
      "there is no sbatch here; submit where Slurm is, or leave out --submit to run the study on this machine");
}

std::vector<Submission> submit_jobs(const std::vector<StudyJob>& jobs, const StudyDirectory& directory,
                                    const std::vector<std::string>& tables, const std::string& options) {
  const auto submit = [&](const std::string& name, const std::vector<std::string>& words, const std::string& after) {
    std::string command = fmt::format("sbatch --parsable --job-name={} --output={}", shell_word(name),
                                      shell_word(std::filesystem::absolute(directory.log(name)).string()));
    if (!after.empty()) command += fmt::format(" --kill-on-invalid-dep=yes --dependency={}", after);
    command += fmt::format(" {} {}", options, script);
    for (const std::string& word : words) command += " " + shell_word(word);
    const Said said = run(command + " 2>&1");
    const std::string id = said.text.substr(0, said.text.find(';'));  // ";CLUSTER" may follow
    require_usage(said.exit_code == 0 && !id.empty() && id.find_first_not_of("0123456789") == std::string::npos,
                  "sbatch does not take {}: {}; the same command goes on from there", name, said.text);
    std::ofstream(directory.ticket(name)) << id << "\n";
    return id;
  };

  std::vector<Submission> all;
  std::vector<std::string> ids(jobs.size());  // of those that Slurm has
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const StudyJob& job = jobs[i];
    if (job.done) continue;
    ids[i] = waiting_id(directory.ticket(job.name));
    const bool waiting = !ids[i].empty();
    if (!waiting) {
      prepare(job, directory);
      ids[i] = submit(job.name, job.words, job.after && !ids[*job.after].empty() ? "afterok:" + ids[*job.after] : "");
    }
    all.push_back({job.name, ids[i], waiting});
  }
  if (all.empty()) return all;
  const std::string name = "tables", before = waiting_id(directory.ticket(name));
  const bool same = !before.empty() && std::all_of(all.begin(), all.end(), [](const auto& one) { return one.waiting; });
  std::string after = "afterany";
  for (const Submission& one : all) after += ":" + one.id;
  if (!before.empty()) after += ":" + before;
  all.push_back({name, same ? before : submit(name, tables, after), same});
  return all;
}

}  // namespace lexring
