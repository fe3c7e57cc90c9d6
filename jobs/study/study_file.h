/// A study file: what all trainings share, and what each method changes of it.
///
///     [study]                      # title, seeds, baseline
///     [data] [model] [train] ...   # any key of `lexring train`
///     [evaluate]                   # any key of `lexring evaluate`: lengths, patterns, tokens, ...
///     [method.NAME]                # keys that differ; `evaluate.KEY` differs in the evaluation alone
///
/// A method is trained from the start, or begins with the weights of another (`init = NAME`), or is another use of
/// another's checkpoint (`checkpoint_of = NAME`; its keys are then those of `lexring evaluate`).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "jobs/config/ini_file.h"
#include "jobs/config/options.h"

namespace lexring {

/// Keys with their values as text, in the order in which they were given; of two of one name the later one counts.
using KeyTexts = std::vector<std::pair<std::string, std::string>>;

struct StudyMethod {
  std::string name;           ///< of directories
  std::string label;          ///< of tables and figures
  std::string init;           ///< the method whose weights its training begins with; empty: none
  std::string checkpoint_of;  ///< the method whose checkpoint it is another use of; empty: it has its own
  KeyTexts training;          ///< of `lexring train`, beside the study's
  KeyTexts evaluation;        ///< of `lexring evaluate`, with the study's
  Options options;            ///< of its training with the first seed, or of the training that it uses

  bool trained() const { return checkpoint_of.empty(); }
  /// The method whose runs hold its checkpoints.
  const std::string& run_of() const { return trained() ? name : checkpoint_of; }
};

struct Study {
  std::string name;   ///< the file's, without ".ini"
  std::string file;   ///< as it was given
  std::string title;  ///< what the report says it is about
  std::string task;   ///< that models are scored on; empty: they are read for their loss
  std::vector<std::int64_t> seeds;
  std::string baseline;  ///< differences are to this method
  KeyTexts training;     ///< what all trainings share
  std::vector<StudyMethod> methods;

  const StudyMethod& method(const std::string& name) const;
};

/// Reads a study file; `given` are keys of its first three kinds from the command line ("train.steps", "study.seeds",
/// "evaluate.tokens"), which take the place of the file's, but not of a method's. Every training is checked as its
/// command will check it, but for what only data can tell. Throws UsageError that names file, line and method.
Study read_study(const std::filesystem::path& file, const KeyTexts& given);
/// That every training and evaluation has a text, and evaluations will not be refused; tables of what is there already
/// need neither. Throws UsageError that names file and method.
void check_work(const Study& study);

/// "--train.steps 100 ...": the words of a command line.
std::vector<std::string> words_of(const KeyTexts& keys);

}  // namespace lexring
