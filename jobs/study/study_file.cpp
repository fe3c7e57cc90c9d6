#include "jobs/study/study_file.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "framework/base/error.h"
#include "jobs/commands/evaluate.h"
#include "jobs/config/layer_keys.h"

namespace lexring {
namespace {

/// Keys of a training that the study gives itself.
const std::pair<const char*, const char*> own_keys[] = {
    {"checkpoint.directory", "runs lie in the study's --output"},
    {"train.seed", "give study.seeds"},
    {"resume", "runs go on by themselves"},
    {"init", "a method begins with another's weights by init = NAME in its section"},
    {"train.minutes", "it would train methods for different numbers of steps; give train.steps"},
};
/// Keys of an evaluation that the study gives itself.
const std::pair<const char*, const char*> own_evaluation_keys[] = {
    {"checkpoint", "a method is evaluated on its own runs, or on another's by checkpoint_of = NAME"},
    {"output", "evaluations lie in the study's --output"},
    {"overwrite", "an evaluation is repeated where its keys change"},
};

template <std::size_t count>
void refuse_own(const std::pair<const char*, const char*> (&keys)[count], const std::string& name,
                const std::string& origin) {
  for (const auto& [key, instead] : keys)
    require_usage(name != key, "{}{} has no place in a study: {}", origin, name, instead);
}

void put(KeyTexts& keys, const std::string& name, const std::string& value) {
  std::erase_if(keys, [&](const auto& key) { return key.first == name; });
  keys.emplace_back(name, value);
}

bool has(const KeyTexts& keys, const char* name) {
  return std::any_of(keys.begin(), keys.end(), [&](const auto& key) { return key.first == name; });
}

template <class Work>
void explained(const std::string& file, const std::string& method, const Work& work) {
  try {
    work();
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("{}, method {}: {}", file, method, error.what()));
  }
}

class Reader {
 public:
  Reader(const std::filesystem::path& file, const KeyTexts& given)
      : file_(file.string()), training_keys_(option_keys(scratch_)) {
    layers_.read_with(training_keys_);
    study_.name = file.stem().string();
    study_.file = file_;
    study_keys_.add(Key{"study.title", &study_.title, "what the report says it is about"});
    study_keys_.add(Key{"study.seeds", &study_.seeds, "a training of every method for each"}.at_least(0));
    study_keys_.add(Key{"study.baseline", &study_.baseline, "the method that others are compared to"});
    study_.seeds = {1};
    std::set<std::string> seen;
    for (const IniEntry& entry : ini_entries(read_ini_file(file), file_)) {
      const std::string origin = origin_in_ini(file_, entry.line);
      require_usage(seen.insert(entry.name).second, "{}{} is given twice in this file; keep one", origin, entry.name);
      if (entry.name.starts_with("method.")) take_of_method(entry, origin);
      else take(entry.name, entry.value, origin);
    }
    for (const auto& [name, value] : given) take(name, value, "");
  }

  Study finish() {
    require_usage(!study_.methods.empty(),
                  "{} has no method; give each a section [method.NAME] with the keys that differ", file_);
    std::sort(study_.seeds.begin(), study_.seeds.end());
    study_.seeds.erase(std::unique(study_.seeds.begin(), study_.seeds.end()), study_.seeds.end());
    require_usage(!study_.seeds.empty(), "{}: study.seeds is empty; give at least one, e.g. seeds = 1,2,3", file_);
    if (study_.title.empty()) study_.title = study_.name;
    if (study_.baseline.empty()) study_.baseline = study_.methods.front().name;
    find("study.baseline", study_.baseline);
    for (StudyMethod& method : study_.methods) complete(method);
    for (StudyMethod& method : study_.methods) complete_evaluation(method);
    return std::move(study_);
  }

 private:
  void take(const std::string& name, const std::string& value, const std::string& origin) {
    if (const Key* key = study_keys_.find(name)) return assign(*key, {value}, origin);
    if (name.starts_with("evaluate.")) return take_evaluation(evaluation_, name.substr(9), value, origin);
    take_training(study_.training, name, value, origin);
  }

  void take_training(KeyTexts& to, const std::string& name, const std::string& value, const std::string& origin) {
    refuse_own(own_keys, name, origin);
    if (const KeyTable::Take* take = training_keys_.taker(name)) {
      (*take)(name, value, origin);
      return put(to, name, value);
    }
    const KeyTable& table = name.starts_with("study.") ? study_keys_ : training_keys_;
    require_usage(training_keys_.find(name) != nullptr,
                  "{}there is no key '{}'; the nearest is '{}'; `lexring study --help` has the form", origin,
                  shown(name), table.nearest(name));
    assign(*training_keys_.find(name), {value}, origin);  // for a wrong value to be told with its line
    put(to, name, value);
  }

  void take_evaluation(KeyTexts& to, const std::string& name, const std::string& value, const std::string& origin) {
    refuse_own(own_evaluation_keys, name, origin);
    if (name == "task") {
      require_usage(&to == &evaluation_, "{}a task is the whole study's: give it in [evaluate]", origin);
      study_.task = value;
    }
    put(to, name, value);
  }

  /// "method.NAME.KEY".
  void take_of_method(const IniEntry& entry, const std::string& origin) {
    const auto dot = entry.name.find('.', 7);
    const std::string name = entry.name.substr(7, dot == std::string::npos ? dot : dot - 7);
    const bool plain = !name.empty() && name.find_first_not_of(
                                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789_-") == std::string::npos;
    require_usage(
        plain && dot != std::string::npos,
        "{}'{}' is no section of a method: write [method.NAME], NAME of letters, digits, '_' and '-', and its "
        "keys below",
        origin, shown(entry.name));
    StudyMethod& method = named(name);
    const std::string key = entry.name.substr(dot + 1);
    if (key == "label") method.label = entry.value;
    else if (key == "init") method.init = entry.value;
    else if (key == "checkpoint_of") method.checkpoint_of = entry.value;
    else if (key.starts_with("evaluate.")) take_evaluation(method.evaluation, key.substr(9), entry.value, origin);
    else lines_.push_back({name, key, entry.value, origin});  // whose they are depends on checkpoint_of
  }

  StudyMethod& named(const std::string& name) {
    for (StudyMethod& method : study_.methods) {
      if (method.name == name) return method;
    }
    StudyMethod& method = study_.methods.emplace_back();
    method.name = method.label = name;
    return method;
  }

  StudyMethod& find(const std::string& key, const std::string& name) {
    std::vector<std::string> names;
    for (StudyMethod& method : study_.methods) {
      if (method.name == name) return method;
      names.push_back(method.name);
    }
    throw UsageError(fmt::format("{}: {} = {}, but there is no such method; choose one of {}", file_, key, name,
                                 fmt::join(names, ", ")));
  }

  /// The keys of a method that stand in its section, and the options of its training.
  void complete(StudyMethod& method) {
    if (!completed_.insert(method.name).second) return;
    require_usage(method.init.empty() || method.checkpoint_of.empty(),
                  "{}: method {} has init and checkpoint_of; keep the first to train on from those weights, the second "
                  "to evaluate that checkpoint in another way",
                  file_, method.name);
    for (const auto& [name, key, value, origin] : lines_) {
      if (name != method.name) continue;
      if (method.trained()) take_training(method.training, key, value, origin);
      else take_evaluation(method.evaluation, key, value, origin);
    }
    const std::string other = method.init + method.checkpoint_of;
    if (other.empty()) return train_options(method, nullptr);
    StudyMethod& from =
        find(fmt::format("method.{}.{}", method.name, method.init.empty() ? "checkpoint_of" : "init"), other);
    require_usage(&from != &method, "{}: method {} begins with its own weights; name another method", file_,
                  method.name);
    complete(from);
    require_usage(from.trained() && from.init.empty(),
                  "{}: method {} needs the checkpoint of {}, which is not trained from the start; name a method that "
                  "is",
                  file_, method.name, other);
    if (method.trained()) train_options(method, &from.options);
    else method.options = from.options;
  }

  void train_options(StudyMethod& method, const Options* begin) {
    KeyTexts last = method.training;
    put(last, "train.seed", std::to_string(study_.seeds.front()));
    std::string shared;
    for (const auto& [name, value] : study_.training) shared += fmt::format("{} = {}\n", name, value);
    explained(file_, method.name, [&] {
      method.options = parse_options({words_of(last), {{file_, shared}}}, {}, {}, begin);
    });
  }

  void complete_evaluation(StudyMethod& method) {
    KeyTexts all = evaluation_;
    for (const auto& [name, value] : method.evaluation) put(all, name, value);
    if (study_.task.empty() && !has(all, "data") && !method.options.data.valid.empty())
      put(all, "data", method.options.data.valid);
    method.evaluation = std::move(all);
  }

  struct MethodLine {
    std::string method, key, value, origin;
  };

  std::string file_;
  Options scratch_;
  LayerSettings layers_;
  KeyTable training_keys_, study_keys_;
  Study study_;
  KeyTexts evaluation_;
  std::vector<MethodLine> lines_;
  std::set<std::string> completed_;
};

}  // namespace

const StudyMethod& Study::method(const std::string& wanted) const {
  const auto at = std::find_if(methods.begin(), methods.end(), [&](const auto& m) { return m.name == wanted; });
  require(at != methods.end(), "there is no method {} in the study {}", wanted, name);
  return *at;
}

Study read_study(const std::filesystem::path& file, const KeyTexts& given) { return Reader(file, given).finish(); }

void check_work(const Study& study) {
  for (const StudyMethod& method : study.methods) {
    explained(study.file, method.name, [&] {
      require_usage(!method.trained() || !method.options.data.train.empty(),
                    "data.train is missing: there is nothing to train on; make a data set with `lexring prepare` and "
                    "give --data.train corpus.h5");
      require_usage(has(method.evaluation, "data") || !study.task.empty(),
                    "there is no text to evaluate on; give evaluate.data or data.valid, e.g. --data.valid valid.h5");
      check_evaluation(words_of(method.evaluation), method.options);
    });
  }
}

std::vector<std::string> words_of(const KeyTexts& keys) {
  std::vector<std::string> words;
  for (const auto& [name, value] : keys) words.push_back(fmt::format("--{}={}", name, value));
  return words;
}

}  // namespace lexring
