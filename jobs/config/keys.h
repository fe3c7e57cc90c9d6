/// Keys with names, units and defaults: what a command reads from its command line and from INI files.
///
/// `--model.layers 12` and `[model] layers = 12` are the same key. Errors are UsageErrors that name the key, the value,
/// what is expected, the nearest known key, and file:line where the key came from a file.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "jobs/config/key.h"

namespace lexring {

class KeyTable {
 public:
  Key& add(Key key);
  void add(const std::vector<Key>& keys) {
    for (const Key& key : keys) add(key);
  }
  const std::vector<Key>& keys() const { return keys_; }
  const Key* find(const std::string& name) const;
  /// Names that begin with `prefix` are no keys of this table: `take` is given them, in their order, with value and
  /// what an error begins with.
  using Take = std::function<void(const std::string& name, const std::string& value, const std::string& origin)>;
  void forward(std::string prefix, Take take) { forwards_.emplace_back(std::move(prefix), std::move(take)); }
  /// What is given such a name; null: no prefix is of it.
  const Take* taker(const std::string& name) const;

  /// Reads `args` (without program and command); returns the names that were given. Of a value given twice the later
  /// one counts, a list given twice is one list.
  std::set<std::string> parse_arguments(const std::vector<std::string>& args) const;
  /// Reads INI text; `source` is named in errors.
  std::set<std::string> parse_ini(const std::string& text, const std::string& source) const;
  /// All keys that have an effect, with their values; reading it back gives the same values.
  std::string to_ini() const;
  /// Whether the needs of a key hold, and those of the keys they name.
  bool has_effect(const Key& key) const;
  /// "position.gamma has an effect only with position.kind = xpos, but position.kind = rope; ..."; empty: it has an
  /// effect.
  std::string why_without_effect(const Key& key) const;
  /// Keys grouped by section, with units and defaults.
  std::string help() const;
  /// The known key nearest to `name` by edit distance.
  std::string nearest(const std::string& name) const;

 private:
  [[noreturn]] void unknown(const std::string& name, const std::string& origin) const;

  std::vector<Key> keys_;
  std::vector<std::pair<std::string, Take>> forwards_;
};

/// True when the arguments ask for help.
bool asks_help(const std::vector<std::string>& args);

}  // namespace lexring
