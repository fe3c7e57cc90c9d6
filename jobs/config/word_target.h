/// Where a key puts values that are written as words (framework/base/words.h): one value, one or none, or a list.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "framework/base/words.h"

namespace lexring {

class WordTarget {
 public:
  using Texts = std::vector<std::string>;

  template <HasWords T>
  // NOLINTNEXTLINE(google-explicit-constructor)
  WordTarget(T* value)
      : WordTarget(
            std::type_identity<T>(), [value] { return std::vector<T>{*value}; },
            [value](const std::vector<T>& given) { *value = given.back(); }) {}
  template <HasWords T>
  // NOLINTNEXTLINE(google-explicit-constructor)
  requires(!HasWords<std::optional<T>>) WordTarget(std::optional<T>* value)
      : WordTarget(
            std::type_identity<T>(), [value] { return *value ? std::vector<T>{**value} : std::vector<T>(); },
            [value](const std::vector<T>& given) { *value = given.back(); }) {}
  template <HasWords T>
  // NOLINTNEXTLINE(google-explicit-constructor)
  WordTarget(std::vector<T>* values)
      : WordTarget(
            std::type_identity<T>(), [values] { return *values; },
            [values](const std::vector<T>& given) { *values = given; }) {
    is_list_ = true;
  }

  bool is_list() const { return is_list_; }
  /// Of all values.
  const Texts& names() const { return names_; }
  /// The name of the value that a word stands for; empty: none.
  std::string name_for(const std::string& word) const { return name_for_(word); }
  /// The names of what is there.
  Texts get() const { return get_(); }
  /// `names`: at least one, but for a list.
  void set(const Texts& names) const { set_(names); }

 private:
  template <class T, class Get, class Set>
  WordTarget(std::type_identity<T>, Get get, Set set)
      : names_(names_of<T>()),
        name_for_([](const std::string& word) {
          const std::optional<T> value = named<T>(word);
          return std::string(value ? name_of(*value) : "");
        }),
        get_([get] {
          Texts texts;
          for (const T& value : get()) texts.emplace_back(name_of(value));
          return texts;
        }),
        set_([set](const Texts& texts) {
          std::vector<T> values;
          for (const std::string& text : texts) values.push_back(named<T>(text).value());
          set(values);
        }) {}

  Texts names_;
  std::function<std::string(const std::string&)> name_for_;
  std::function<Texts()> get_;
  std::function<void(const Texts&)> set_;
  bool is_list_ = false;
};

}  // namespace lexring
