#include "jobs/config/key.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "framework/base/error.h"

namespace lexring {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;  // which clang before 17 does not deduce itself

const char* expectation(const KeyTarget& target) {
  return std::visit(
      Overloaded{[](const std::int64_t*) { return "a whole number"; }, [](const double*) { return "a number"; },
                 [](const bool*) { return "true or false"; }, [](const std::string*) { return "a text"; },
                 [](const std::vector<std::int64_t>*) { return "whole numbers separated by commas"; },
                 [](const std::vector<double>*) { return "numbers separated by commas"; },
                 [](const std::vector<std::string>*) { return "a list"; },
                 [](const WordTarget& words) { return words.is_list() ? "a list" : "a text"; }},
      target);
}

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// "a, b" as "a" and "b"; "a,,b" has an empty one.
std::vector<std::string> split_commas(const std::vector<std::string>& values) {
  std::vector<std::string> parts;
  for (const std::string& value : values) {
    std::size_t begin = 0;
    for (std::size_t end = 0; end != std::string::npos; begin = end + 1) {
      end = value.find(',', begin);
      parts.push_back(trimmed(value.substr(begin, end - begin)));
    }
  }
  return parts;
}

/// Reads the values of one key; its errors name where they stand.
class Reader {
 public:
  Reader(const Key& key, const std::string& origin) : key_(key), origin_(origin) {}

  template <class Number>
  Number number(const std::string& text) const {
    Number value{};
    const char* end = text.data() + text.size();
    const auto [last, error] = std::from_chars(text.data(), end, value);
    if (last != end || error == std::errc::invalid_argument || !std::isfinite(static_cast<double>(value))) refuse(text);
    if (error == std::errc::result_out_of_range) refuse_range(text);
    const auto wide = static_cast<double>(value);
    require_usage(wide >= key_.least, "{}{} = {} is impossible; give at least {}", origin_, key_.name, text,
                  key_.least);
    require_usage(wide <= key_.most, "{}{} = {} is too large; give at most {}", origin_, key_.name, text,
                  plain(key_.most));
    return value + Number{0};  // -0.0 is 0.0
  }
  bool truth(const std::string& text) const {
    const bool yes = text == "true" || text == "1" || text == "yes" || text == "on";
    if (!yes && text != "false" && text != "0" && text != "no" && text != "off") refuse(text);
    return yes;
  }
  const std::string& name(const std::string& text) const {
    if (!key_.choices.empty()) require_choice(text, text, key_.choices);
    return text;
  }
  std::string name(const WordTarget& target, const std::string& word) const {
    const std::string text = target.name_for(word);
    require_choice(word, text, key_.choices.empty() ? target.names() : key_.choices);
    return text;
  }

 private:
  void require_choice(const std::string& given, const std::string& text,
                      const std::vector<std::string>& choices) const {
    require_usage(std::find(choices.begin(), choices.end(), text) != choices.end(),
                  "{}{} = '{}' is not known; choose {}", origin_, key_.name, shown(given), fmt::join(choices, ", "));
  }
  [[noreturn]] void refuse(const std::string& text) const {
    throw UsageError(fmt::format("{}{} = '{}' is not {}", origin_, key_.name, shown(text), expectation(key_.target)));
  }
  /// A number that its type cannot hold.
  [[noreturn]] void refuse_range(const std::string& text) const {
    const bool whole =
        !std::holds_alternative<double*>(key_.target) && !std::holds_alternative<std::vector<double>*>(key_.target);
    const std::string most = std::isfinite(key_.most) ? plain(key_.most) : "9223372036854775807";
    const std::string range =
        !whole           ? "numbers go from about 1e-308 to 1e308"
        : text[0] == '-' ? fmt::format("give at least {}", std::isfinite(key_.least) ? plain(key_.least) : "-" + most)
                         : fmt::format("give at most {}", most);
    throw UsageError(fmt::format("{}{} = {} is out of range: {}", origin_, key_.name, shown(text), range));
  }
  /// Whole numbers without an exponent.
  static std::string plain(double value) {
    return value == std::floor(value) && std::abs(value) < 1e15 ? fmt::format("{:.0f}", value)
                                                                : fmt::format("{}", value);
  }

  const Key& key_;
  const std::string& origin_;
};

/// The entries of a list; strings, like names of files, may have commas in them.
std::vector<std::string> entries_of(const Key& key, const std::vector<std::string>& values, const std::string& origin) {
  const bool commas = !std::holds_alternative<std::vector<std::string>*>(key.target);
  const std::vector<std::string> entries = commas ? split_commas(values) : values;
  const auto empty = std::find(entries.begin(), entries.end(), "");
  if (empty == entries.end()) return entries;
  if (!commas) {
    throw UsageError(fmt::format(
        "{}{} has an empty entry, number {} of {}; leave it out, or is it a variable of the shell that is not set?",
        origin, key.name, empty - entries.begin() + 1, entries.size()));
  }
  const std::string example = key.choices.size() > 1 ? key.choices[0] + "," + key.choices[1] : "64,128";
  throw UsageError(fmt::format(
      "{}{} = '{}' has an empty entry; put one comma, and no space, between entries and none at the ends, like {}",
      origin, key.name, shown(fmt::format("{}", fmt::join(values, " "))), example));
}

}  // namespace

void assign(const Key& key, const std::vector<std::string>& values, const std::string& origin, ListValues how) {
  const bool nothing = values.empty() || (is_list(key.target) && values == std::vector<std::string>{""});
  require_usage(!nothing, "{}{} is given without a value; expected {}", origin, key.name, expectation(key.target));
  const std::string& value = values.back();
  const Reader read(key, origin);
  std::visit(Overloaded{[&](std::int64_t* to) { *to = read.number<std::int64_t>(value); },
                        [&](double* to) { *to = read.number<double>(value); },
                        [&](bool* to) { *to = read.truth(value); }, [&](std::string* to) { *to = read.name(value); },
                        [&]<class Number>(std::vector<Number>* to) {
                          if (how == ListValues::replace) to->clear();
                          for (const std::string& part : entries_of(key, values, origin))
                            to->push_back(read.number<Number>(part));
                        },
                        [&](std::vector<std::string>* to) {
                          if (how == ListValues::replace) to->clear();
                          for (const std::string& part : entries_of(key, values, origin)) to->push_back(part);
                        },
                        [&](const WordTarget& to) {
                          auto all = how == ListValues::append && to.is_list() ? to.get() : std::vector<std::string>();
                          const std::vector<std::string> words =
                              to.is_list() ? entries_of(key, values, origin) : std::vector<std::string>{value};
                          for (const std::string& word : words) all.push_back(read.name(to, word));
                          to.set(all);
                        }},
             key.target);
}

void copy_value(const KeyTarget& from, const KeyTarget& to) {
  std::visit(Overloaded{[&](const WordTarget& words) { words.set(std::get<WordTarget>(from).get()); },
                        [&](auto* value) { *value = *std::get<decltype(value)>(from); }},
             to);
}

std::string text_of(const KeyTarget& target) {
  return std::visit(
      Overloaded{[](const auto* value) { return fmt::format("{}", *value); },
                 []<class T>(const std::vector<T>* values) { return fmt::format("{}", fmt::join(*values, ",")); },
                 [](const WordTarget& words) { return fmt::format("{}", fmt::join(words.get(), ",")); }},
      target);
}

bool is_list(const KeyTarget& target) {
  if (const auto* words = std::get_if<WordTarget>(&target)) return words->is_list();
  return std::visit(Overloaded{[]<class T>(std::vector<T>*) { return true; }, [](const auto&) { return false; }},
                    target);
}

std::string either(const std::vector<std::string>& values) {
  if (values.size() < 2) return fmt::format("{}", fmt::join(values, ""));
  return fmt::format("{} or {}", fmt::join(values.begin(), values.end() - 1, ", "), values.back());
}

std::string text_of(const Need& need) {
  if (need.other && need.values == std::vector<std::string>{""}) return need.key;
  return fmt::format("{} {} {}", need.key, need.other ? "other than" : "=", either(need.values));
}

std::string description_of(const Key& key) {
  std::string text = key.meaning;
  if (!key.choices.empty()) text += fmt::format(": {}", fmt::join(key.choices, " "));
  for (const Need& need : key.needs) text += fmt::format("; only with {}", text_of(need));
  return text;
}

std::string shown(const std::string& text) {
  constexpr std::size_t most = 100;
  std::string clean;
  for (const char c : text.substr(0, most)) clean += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return text.size() > most ? clean + "..." : clean;
}

}  // namespace lexring
