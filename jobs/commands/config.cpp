#include "jobs/commands/config.h"

#include <algorithm>

#include "framework/base/console.h"
#include "framework/base/error.h"
#include "jobs/config/options.h"
#include "jobs/training/run_start.h"
#include "parallel/comm/communicator.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring config: the configuration that files and keys make, as `lexring train` reads them

  lexring config --config configs/lex_paper.ini --data.train pile.h5
  lexring config --config configs/lex_paper.ini --only checkpoint.directory

Prints the whole of it as a file for --config, with the model of --init or --resume; what comes from the data is not
in it.

)";

}  // namespace

int config_command(const std::vector<std::string>& args) {
  std::string only;
  const std::vector<Key> extra = {{"only", &only, "print the value of this key alone, as it is given", "key"}};
  Options defaults;
  if (asks_help(args)) {
    KeyTable own;
    own.add(extra);
    print_result("{}{}{}", usage, own.help(), option_keys(defaults).help());
    return 0;
  }
  const bool asks_one = std::any_of(args.begin(), args.end(), [](const std::string& word) {
    return word == "--only" || word.starts_with("--only=");
  });
  Options asked = peek_options(read_option_texts(args, extra), extra);
  require_usage(!asks_one || !only.empty(), "--only names no key; give one, e.g. --only checkpoint.directory");
  if (!asks_one) {
    print_result("{}", to_ini(read_run_options(args, *make_self_communicator())));
    return 0;
  }
  const KeyTable keys = option_keys(asked);
  const Key* const key = keys.find(only);
  require_usage(key != nullptr, "there is no key '{}'; `lexring train --help` lists them", only);
  print_result("{}\n", text_of(key->target));
  return 0;
}

}  // namespace lexring
