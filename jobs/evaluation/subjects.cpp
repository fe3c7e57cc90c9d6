#include "jobs/evaluation/subjects.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "framework/base/counted.h"
#include "framework/base/error.h"
#include "jobs/evaluation/tables.h"
#include "jobs/launch/stored_tokenizer.h"

namespace lexring {
namespace {

void require_same_tokens(const CheckpointReader& reader, std::int64_t vocab, const Dataset& dataset) {
  require(dataset.vocab() == vocab,
          "{} has a vocabulary of {} and the model of {} one of {}; evaluate on data prepared with the tokenizer of "
          "the training",
          dataset.path().string(), dataset.vocab(), reader.path().string(), vocab);
  require_same_tokenizer(reader, dataset);
}

void require_bytes(const CheckpointReader& reader, std::int64_t vocab) {
  const std::string kind = make_tokenizer(reader, vocab)->kind();
  require_usage(kind == "bytes", "tasks are texts of bytes, and the model of {} reads tokens of kind {}",
                reader.path().string(), kind);
}

}  // namespace

std::vector<CheckpointReader> open_checkpoints(const std::vector<std::string>& given, Communicator& world) {
  std::vector<CheckpointReader> readers;
  std::vector<std::filesystem::path> seen;
  for (const std::string& path : given) {
    CheckpointReader reader(world, path);
    const auto canonical = std::filesystem::canonical(reader.path());
    if (std::find(seen.begin(), seen.end(), canonical) != seen.end()) continue;
    seen.push_back(canonical);
    readers.push_back(std::move(reader));
  }
  return readers;
}

std::vector<Subject> read_subjects(const std::vector<CheckpointReader>& readers, const Overrides& changes,
                                   const Dataset* dataset) {
  std::vector<std::string> paths;
  for (const CheckpointReader& reader : readers) paths.push_back(std::filesystem::canonical(reader.path()).string());
  const std::vector<std::string> names = checkpoint_names(paths);
  std::vector<Subject> subjects;
  for (std::size_t i = 0; i < readers.size(); ++i) {
    const std::string path = readers[i].path().string();
    Options options = parse_ini_text(readers[i].state().configuration, path + " (stored configuration)");
    if (changes.precision) use_precision(options, *changes.precision);
    options.data.documents = changes.documents.value_or(options.data.documents);
    if (options.data.documents == Documents::ignore) options.data.end_of_document = EndOfDocument::token;
    options.data.end_of_document = changes.end_of_document.value_or(options.data.end_of_document);
    options.sequence = changes.sequence;
    use_last_id_for_landmarks(options.model);
    const Objective objective = options.train.objective;
    if (dataset != nullptr) {
      require_same_tokens(readers[i], options.model.vocab - options.own_ids(), *dataset);
      require_usage(objective == Objective::causal || dataset->answers().empty(),
                    "{} says which tokens are answers, but {} was trained for hidden ones (train.objective = mlm); "
                    "evaluate it on text",
                    dataset->path().string(), path);
    } else {
      require_usage(objective == Objective::causal,
                    "{} was trained for hidden tokens (train.objective = mlm) and tells no next one, as the answers of "
                    "a task are; evaluate it on --data",
                    path);
      require_bytes(readers[i], options.model.vocab - options.own_ids());
    }
    const Options& other = i == 0 ? options : subjects[0].options;
    require_usage(objective == other.train.objective && options.mlm == other.mlm,
                  "{} and {} were trained with other settings of train.objective or mlm.*, so that they would score "
                  "different tokens; evaluate them one by one",
                  readers[0].path().string(), path);
    const Documents documents = i == 0 ? options.data.documents : subjects[0].options.data.documents;
    require_usage(options.data.documents == documents,
                  "{} was trained with data.documents = {} and {} with {}, so that they would score different tokens; "
                  "choose one for both with --data.documents",
                  readers[0].path().string(), name_of(documents), path, name_of(options.data.documents));
    const std::int64_t every = landmark_every_of(options.model), other_every = landmark_every_of(other.model);
    require_usage(
        dataset == nullptr || every == other_every,
        "{} reads a landmark after every {} and {} after every {} (attention.landmark_every; 0: none), so that "
        "windows of the same length would hold different tokens; evaluate them one by one",
        readers[0].path().string(), counted(other_every, "token"), path, counted(every, "token"));
    const EndOfDocument end = i == 0 ? options.data.end_of_document : subjects[0].options.data.end_of_document;
    require_usage(options.data.end_of_document == end,
                  "{} was trained with data.end_of_document = {} and {} with {}, so that they would score different "
                  "tokens; choose one for both with --data.end_of_document, none for what both have learned",
                  readers[0].path().string(), name_of(end), path, name_of(options.data.end_of_document));
    require_usage(end == EndOfDocument::token || options.data.documents == Documents::mask,
                  "data.end_of_document = none has an effect only with data.documents = mask; leave it out, or change "
                  "data.documents");
    subjects.push_back({names[i], options});
  }
  return subjects;
}

MeasuredModel describe(const CheckpointReader& reader, const Subject& subject) {
  const Options& o = subject.options;
  const ModelConfig& m = o.model;
  MeasuredModel model;
  model.name = subject.name;
  model.checkpoint = reader.path().string();
  model.run = std::filesystem::canonical(reader.path()).parent_path().filename().string();
  model.model = fmt::format("{}, width {}, {}, vocabulary {}", counted_with_commas(m.layers, "layer"), m.width,
                            counted_with_commas(m.heads, "head"), m.vocab);
  model.positions = position_name(m.position);
  const std::string decay =
      o.optimizer.schedule == Decay::constant ? "" : fmt::format(" to {:g} %", 100 * o.optimizer.final_fraction);
  model.training =
      fmt::format("{} of {} of {}, learning rate {:g} ({}{}), seed {}", counted_with_commas(o.train.steps, "step"),
                  counted_with_commas(o.train.batch, "sequence"), counted_with_commas(o.train.length, "token"),
                  o.optimizer.lr, name_of(o.optimizer.schedule), decay, o.train.seed);
  model.precision = name_of(o.train.precision);
  model.step = reader.state().step;
  model.train_length = o.train.length;
  return model;
}

}  // namespace lexring
