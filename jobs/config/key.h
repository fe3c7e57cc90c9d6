/// One key: its name, unit, default, limits, and when it has an effect; and its values as text.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "jobs/config/word_target.h"

namespace lexring {

/// Where a value goes; its contents when the table is made are the default. Lists: `--lengths 256,512` (numbers and
/// words) or `--input a b` (strings).
using KeyTarget = std::variant<std::int64_t*, double*, bool*, std::string*, std::vector<std::int64_t>*,
                               std::vector<double>*, std::vector<std::string>*, WordTarget>;

/// What another key must be for a key to have an effect.
struct Need {
  std::string key;                  ///< "position.kind"
  std::vector<std::string> values;  ///< one of these, as text_of writes them
  bool other = false;               ///< none of these
};

struct Key {
  std::string name;  ///< "model.layers"; without a dot: top level
  KeyTarget target;
  std::string meaning;
  std::string unit = "";                                    ///< "tokens", "steps"; empty: none
  std::string default_text = "";                            ///< shown instead of the value: "4 x model.width"
  std::vector<std::string> choices = {};                    ///< allowed values; empty: any (of a WordTarget, all)
  bool flag = false;                                        ///< a bool without a value on the command line: `--strict`
  double least = -std::numeric_limits<double>::infinity();  ///< of a number, or of each in a list
  double most = std::numeric_limits<
      double>::infinity();       ///< the largest that makes sense: products of such sizes do not overflow
  std::vector<Need> needs = {};  ///< the key has an effect only where all of them hold

  Key& at_least(double lowest) { return least = lowest, *this; }
  Key& between(double lowest, double highest) { return least = lowest, most = highest, *this; }
  Key& only_with(std::string key, std::vector<std::string> values) {
    needs.push_back({std::move(key), std::move(values)});
    return *this;
  }
  Key& not_with(std::string key, std::vector<std::string> values) {
    needs.push_back({std::move(key), std::move(values), true});
    return *this;
  }
};

/// Gives a key the value, or the values of a list, that a text holds; to a list `append` adds. Throws UsageError that
/// begins with `origin` and names key, value and what is expected.
enum class ListValues { replace, append };
void assign(const Key& key, const std::vector<std::string>& values, const std::string& origin,
            ListValues how = ListValues::replace);
/// Gives a key the value of another of its kind.
void copy_value(const KeyTarget& from, const KeyTarget& to);
/// A value as INI text; the same value for reading it back.
std::string text_of(const KeyTarget& target);
bool is_list(const KeyTarget& target);
/// "linear, ntk or yarn".
std::string either(const std::vector<std::string>& values);
/// "position.kind = rope or xpos".
std::string text_of(const Need& need);
/// Meaning, choices, and with which other keys it has an effect: what help and configs/README.md say.
std::string description_of(const Key& key);
/// A text from outside for a message: cut where it is long, without bytes that are not printable UTF-8.
std::string shown(const std::string& text);

}  // namespace lexring
