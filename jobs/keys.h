/// Keys with names, units and defaults: what a command reads from its command line and from INI files.
///
/// `--model.layers 12` and `[model] layers = 12` are the same key. Errors are UsageErrors that name the key, the value, what is expected,
/// the nearest known key, and file:line where the key came from a file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <variant>
#include <vector>

namespace lexring {

/// Where a value goes; its contents when the table is made are the default. Lists: `--lengths 256,512` (numbers, and names with choices) or
/// `--input a b` (strings).
using KeyTarget = std::variant<std::int64_t*, double*, bool*, std::string*, std::vector<std::int64_t>*, std::vector<std::string>*>;

struct Key {
  std::string name;  ///< "model.layers"; without a dot: top level
  KeyTarget target;
  std::string meaning;
  std::string unit = "";                  ///< "tokens", "steps"; empty: none
  std::string default_text = "";          ///< shown instead of the value: "4 x model.width"
  std::vector<std::string> choices = {};  ///< allowed values; empty: any
  bool flag = false;                      ///< a bool without a value on the command line: `--strict`
};

class KeyTable {
 public:
  void add(Key key) { keys_.push_back(std::move(key)); }
  void add(const std::vector<Key>& keys) { keys_.insert(keys_.end(), keys.begin(), keys.end()); }
  const std::vector<Key>& keys() const { return keys_; }
  const Key* find(const std::string& name) const;

  /// Reads `args` (without program and command); returns the names that were given.
  std::set<std::string> parse_arguments(const std::vector<std::string>& args) const;
  /// Reads INI text; `source` is named in errors.
  std::set<std::string> parse_ini(const std::string& text, const std::string& source) const;
  /// All keys with their values; reading it back gives the same values.
  std::string to_ini() const;
  /// Keys grouped by section, with units and defaults.
  std::string help() const;
  /// The known key nearest to `name` by edit distance.
  std::string nearest(const std::string& name) const;

 private:
  void assign(const Key& key, const std::vector<std::string>& values, const std::string& origin) const;
  [[noreturn]] void unknown(const std::string& name, const std::string& origin) const;

  std::vector<Key> keys_;
};

/// A value as INI text; the same value for reading it back.
std::string text_of(const KeyTarget& target);
/// True when the arguments ask for help.
bool asks_help(const std::vector<std::string>& args);
/// The whole text of an INI file. Throws UsageError that names what cannot be read.
std::string read_ini_file(const std::filesystem::path& path);

}  // namespace lexring
