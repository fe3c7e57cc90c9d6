/// Words for values: what configurations, messages and records call them. One table beside the definition of a type:
///
///   enum class Recompute { none, attention, layer };
///   constexpr auto words(Recompute) {
///     return std::to_array<Word<Recompute>>(
///         {{Recompute::none, "none"}, {Recompute::attention, "attention"}, {Recompute::layer, "layer"}});
///   }
///
/// The table is found by the argument's type; its value does not matter. People choose among the words in the table's
/// order. A value may have more than one: the first is shown and written, the others are only read.
#pragma once

#include <array>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/ranges.h>

#include "framework/base/error.h"

namespace lexring {

template <class T>
struct Word {
  T value;
  const char* text;
};

template <class T>
concept HasWords = requires(const T& value) {
  { words(value)[0] } -> std::convertible_to<Word<T>>;
};

template <HasWords T>
const char* name_of(const T& value) {
  for (const Word<T>& word : words(value)) {
    if (word.value == value) return word.text;
  }
  fail("a value has no name");
}

/// The value that a word stands for, if any.
template <HasWords T>
std::optional<T> named(std::string_view text) {
  for (const Word<T>& word : words(T{})) {
    if (word.text == text) return word.value;
  }
  return std::nullopt;
}

/// The name of every value for which `holds`.
template <HasWords T, class F>
std::vector<std::string> names_where(F holds) {
  std::vector<std::string> names;
  for (const Word<T>& word : words(T{})) {
    if (holds(word.value) && std::string_view(word.text) == name_of(word.value)) names.emplace_back(word.text);
  }
  return names;
}
template <HasWords T>
std::vector<std::string> names_of() {
  return names_where<T>([](const T&) { return true; });
}

/// A row of a table of methods, by its name. Of Row: `name`; `table()`, all rows, which live as long as the program;
/// `key`, what the name is given with.
template <class Row>
class RowNamed {
 public:
  RowNamed() : row_(Row::table().data()) {}  ///< the first
  /// Throws UsageError for a name that no row has.
  // NOLINTNEXTLINE(google-explicit-constructor): a name stands for its row
  RowNamed(const char* name) : RowNamed(std::string_view(name)) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  RowNamed(const std::string& name) : RowNamed(std::string_view(name)) {}
  const Row* operator->() const { return row_; }
  const Row& operator*() const { return *row_; }
  bool operator==(const RowNamed&) const = default;

  friend std::vector<Word<RowNamed>> words(const RowNamed&) {
    std::vector<Word<RowNamed>> all;
    for (const Row& row : Row::table()) all.push_back({RowNamed(row), row.name});
    return all;
  }

 private:
  explicit RowNamed(const Row& row) : row_(&row) {}
  explicit RowNamed(std::string_view name) {
    for (const Row& row : Row::table()) {
      if (row.name == name) row_ = &row;
    }
    if (row_ != nullptr) return;
    throw UsageError(
        fmt::format("{} = {} is not known; choose {}", Row::key, name, fmt::join(names_of<RowNamed>(), ", ")));
  }

  const Row* row_ = nullptr;
};

}  // namespace lexring
