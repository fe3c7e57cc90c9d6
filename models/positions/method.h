/// What a position method is for those who choose, configure and describe one: a row of the table (table.cpp), defined
/// in the method's own file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "framework/base/words.h"

namespace lexring {

class PositionEncoding;
struct ModelConfig;
struct PositionConfig;

/// A number that one method has and no other: the key position.NAME, which has an effect with that method only.
struct PositionSetting {
  const char* name;
  double value;        ///< unless given
  double least, most;  ///< what is read
  const char* meaning;
  const char* unit = "";
  bool whole = false;
};

struct PositionMethod {
  const char* name;
  /// Throws UsageError when the values make no sense.
  std::unique_ptr<PositionEncoding> (*make)(const ModelConfig&, const PositionConfig&);
  const char* formula;  ///< in text; n: the query's position, m: the key's
  const char* source;   ///< authors, year, title
  std::span<const PositionSetting> settings = {};
  bool rotary = false;     ///< turns queries and keys by angles, which `scaling` rescales
  bool bounded = false;    ///< has rows for the first max_length positions, and nothing beyond
  bool relative = false;   ///< its bias depends on where the query stands, beside the distance
  bool fractions = false;  ///< coordinates need not be whole numbers

  static constexpr const char* key = "position.kind";
  static std::span<const PositionMethod> table();
};
using PositionKind = RowNamed<PositionMethod>;

/// The settings of all methods; of other methods than the chosen one they have no effect.
class PositionSettings {
 public:
  PositionSettings();
  /// Of a setting that is `whole`, and of one that is not. Throws Error where no method has it.
  std::int64_t& whole(std::string_view name) { return values_[index(name)].whole; }
  double& number(std::string_view name) { return values_[index(name)].number; }
  std::int64_t whole(std::string_view name) const { return values_[index(name)].whole; }
  double number(std::string_view name) const { return values_[index(name)].number; }
  bool operator==(const PositionSettings&) const = default;

 private:
  struct Value {
    std::string_view name;
    double number;
    std::int64_t whole;
    bool operator==(const Value&) const = default;
  };
  std::size_t index(std::string_view name) const;

  std::vector<Value> values_;
};

}  // namespace lexring
