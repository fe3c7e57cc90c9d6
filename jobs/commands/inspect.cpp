#include "jobs/commands/inspect.h"

#include <filesystem>

#include <fmt/format.h>

#include "datasets/inspect.h"
#include "datasets/output_target.h"
#include "datasets/partial_file.h"
#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "jobs/config/keys.h"
#include "jobs/config/options.h"
#include "jobs/launch/stored_tokenizer.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/export.h"
#include "parallel/checkpoint/inspect.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring inspect: what is in a data set or a checkpoint

  lexring inspect corpus.h5 --verify
  lexring inspect runs/quickstart
  lexring inspect runs/quickstart --export model.h5

--export writes one HDF5 file that needs no other: every tensor under its name, the configuration as an
attribute. (A checkpoint's own checkpoint.h5 only shows the shards beside it: copied alone, it reads as NaN.)
)";

/// Into a partial file that gets its name when it is whole.
void export_to(const std::string& output, const std::string& checkpoint) {
  const auto status = std::filesystem::status(output);
  require_usage(!std::filesystem::is_directory(status), "--export {} is a directory; name a file in it, e.g. {}",
                output, (std::filesystem::path(output) / "model.h5").string());
  require_usage(!std::filesystem::exists(status), "--export {} exists; choose another name, or delete it first",
                output);
  OutputTarget target(output, Existing::refuse);
  const CheckpointReader reader(checkpoint);
  const std::string name = reader.path().string();
  const Options options = parse_ini_text(reader.state().configuration, name + " (stored configuration)");
  PartialPath partial(target.path().string() + ".partial");
  export_checkpoint(reader.path(), partial.path(), stored_tokenizer(reader, options.model.vocab));
  partial.finish(target.path());
  print_result("{}: step {}, {}, from {}\n", target.path().string(), reader.state().step,
               counted(reader.names().size(), "tensor"), name);
}

}  // namespace

int inspect_command(const std::vector<std::string>& args) {
  std::string path, output;
  bool verify = false;
  KeyTable table;
  table.add({{"path", &path, "a data set, a step-* directory or a run's directory; may stand first without its key"},
             {"verify", &verify, "read everything and check its hash", "", "", {}, true},
             {"export", &output, "write the checkpoint as one HDF5 file that stands alone", "file"}});
  if (asks_help(args)) {
    print_result("{}{}", usage, table.help());
    return 0;
  }
  std::vector<std::string> keyed = args;
  if (!keyed.empty() && !keyed[0].starts_with("--")) keyed.insert(keyed.begin(), "--path");
  table.parse_arguments(keyed);
  require_usage(!path.empty(), "path is missing: lexring inspect PATH [--verify]");
  require_usage(std::filesystem::exists(path), "{} does not exist; give a data set or the directory of a checkpoint",
                path);
  const bool directory = std::filesystem::is_directory(path);
  if (std::filesystem::path(path).filename() == "checkpoint.h5") {
    throw UsageError(fmt::format("{} only shows the shards beside it; give the directory that it is in", path));
  }
  if (!output.empty()) {
    require_usage(
        directory,
        "{} is no directory of a checkpoint, and only checkpoints are exported; give a run's or a step-* directory",
        path);
    export_to(output, path);
    return 0;
  }
  const Verify how = verify ? Verify::yes : Verify::no;
  if (directory) {
    print_result("{}", describe_checkpoint(path, verify));
  } else if (const std::string exported = describe_export(path); !exported.empty()) {
    print_result("{}", exported);
  } else {
    print_result("{}", to_text(inspect_dataset(path, how)));
  }
  return 0;
}

}  // namespace lexring
