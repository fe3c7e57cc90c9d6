/// Which keys were given where: by files, later ones winning, and by the command line, which wins over all.
///
/// A key that has no effect where it is given, nor with what comes later, is an error: whoever gives it expects
/// something of it. One that has an effect in its file, or gets it later, is none: a later source may well take it
/// away, `--config xpos.ini --position.kind rope`.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "jobs/config/keys.h"

namespace lexring {

class KeySources {
 public:
  /// What stands before an error about a key: "run.ini:3: ".
  using Origin = std::function<std::string(const std::string& name)>;

  explicit KeySources(const KeyTable& table) : table_(table) {}
  /// The names that one source gave, once its values are in their places.
  void add(const std::set<std::string>& given, const Origin& origin);
  const std::set<std::string>& given() const { return given_; }
  /// Throws UsageError, once all sources are read.
  void refuse_without_effect() const;

 private:
  const KeyTable& table_;
  std::set<std::string> given_;
  std::map<std::string, std::string> idle_;  ///< those without effect where they are given: name -> origin
};

}  // namespace lexring
