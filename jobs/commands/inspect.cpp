#include "jobs/commands/inspect.h"

#include <filesystem>

#include <fmt/format.h>

#include "datasets/inspect.h"
#include "framework/base/console.h"
#include "jobs/keys.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/inspect.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring inspect: what is in a data set or a checkpoint

  lexring inspect corpus.h5 --verify
  lexring inspect runs/quickstart
)";

}  // namespace

int inspect_command(const std::vector<std::string>& args) {
  std::string path;
  bool verify = false;
  KeyTable table;
  table.add({{"path", &path, "a data set, a step-* directory or a run's directory; may stand first without its key"},
             {"verify", &verify, "read everything and check its hash", "", "", {}, true}});
  if (asks_help(args)) {
    print_result("{}{}", usage, table.help());
    return 0;
  }
  std::vector<std::string> keyed = args;
  if (!keyed.empty() && !keyed[0].starts_with("--")) keyed.insert(keyed.begin(), "--path");
  table.parse_arguments(keyed);
  require_usage(!path.empty(), "path is missing: lexring inspect PATH [--verify]");
  require_usage(std::filesystem::exists(path), "{} does not exist; give a data set or the directory of a checkpoint", path);
  const Verify how = verify ? Verify::yes : Verify::no;
  if (std::filesystem::is_directory(path)) {
    print_result("{}", describe_checkpoint(path, verify));
  } else {
    print_result("{}", to_text(inspect_dataset(path, how)));
  }
  return 0;
}

}  // namespace lexring
