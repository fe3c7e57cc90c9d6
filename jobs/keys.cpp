#include "jobs/keys.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <boost/program_options.hpp>

#include "framework/base/error.h"

namespace lexring {
namespace {

namespace po = boost::program_options;

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::vector<std::string> split_commas(const std::vector<std::string>& values) {
  std::vector<std::string> parts;
  for (const std::string& value : values) {
    std::stringstream stream(value);
    std::string part;
    while (std::getline(stream, part, ',')) parts.push_back(part);
  }
  return parts;
}

template <class T>
bool parse_number(const std::string& text, T& value) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end;
}

const char* expectation(const KeyTarget& target) {
  return std::visit(Overloaded{[](const std::int64_t*) { return "a whole number"; }, [](const double*) { return "a number"; },
                               [](const bool*) { return "true or false"; }, [](const std::string*) { return "a text"; },
                               [](const std::vector<std::int64_t>*) { return "whole numbers separated by commas"; },
                               [](const std::vector<std::string>*) { return "a list"; }},
                    target);
}

bool is_list(const KeyTarget& target) {
  return std::holds_alternative<std::vector<std::int64_t>*>(target) || std::holds_alternative<std::vector<std::string>*>(target);
}

std::string section_of(const std::string& name) {
  const auto dot = name.find('.');
  return dot == std::string::npos ? "" : name.substr(0, dot);
}

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// Line of the last mention of a key in INI text; Boost's parser does not say.
std::size_t line_of(const std::string& text, const std::string& name) {
  std::stringstream stream(text);
  std::string line, section;
  std::size_t number = 0, found = 0;
  while (std::getline(stream, line)) {
    ++number;
    line = trimmed(line.substr(0, line.find('#')));
    if (line.size() > 1 && line.front() == '[' && line.back() == ']') {
      section = trimmed(line.substr(1, line.size() - 2)) + ".";
    } else if (const auto equals = line.find('='); equals != std::string::npos) {
      if (section + trimmed(line.substr(0, equals)) == name) found = number;
    }
  }
  return found;
}

}  // namespace

std::string text_of(const KeyTarget& target) {
  return std::visit(Overloaded{[](const auto* value) { return fmt::format("{}", *value); },
                               [](const std::vector<std::int64_t>* values) { return fmt::format("{}", fmt::join(*values, ",")); },
                               [](const std::vector<std::string>* values) { return fmt::format("{}", fmt::join(*values, ",")); }},
                    target);
}

const Key* KeyTable::find(const std::string& name) const {
  const auto at = std::find_if(keys_.begin(), keys_.end(), [&](const Key& key) { return key.name == name; });
  return at == keys_.end() ? nullptr : &*at;
}

std::string KeyTable::nearest(const std::string& name) const {
  const Key* best = nullptr;
  std::size_t least = 0;
  for (const Key& key : keys_) {
    // Somebody may have left out the section: "layers" is near to "model.layers".
    const std::string last = key.name.substr(key.name.rfind('.') + 1);
    std::size_t distance = 2 * edit_distance(name, key.name);
    if (name.find('.') == std::string::npos) distance = std::min(distance, 2 * edit_distance(name, last) + 1);
    if (best == nullptr || distance < least) best = &key, least = distance;
  }
  return best == nullptr ? "" : best->name;
}

void KeyTable::unknown(const std::string& name, const std::string& origin) const {
  throw UsageError(fmt::format("{}there is no key '{}'; the nearest is '{}'; --help lists them all", origin, name, nearest(name)));
}

void KeyTable::assign(const Key& key, const std::vector<std::string>& values, const std::string& origin) const {
  const auto refuse = [&](const std::string& value) {
    throw UsageError(fmt::format("{}{} = '{}' is not {}", origin, key.name, value, expectation(key.target)));
  };
  const auto allow = [&](const std::string& value) {
    if (key.choices.empty() || std::find(key.choices.begin(), key.choices.end(), value) != key.choices.end()) return;
    throw UsageError(fmt::format("{}{} = '{}' is not known; choose {}", origin, key.name, value, fmt::join(key.choices, ", ")));
  };
  require_usage(!values.empty(), "{}{} is given without a value; expected {}", origin, key.name, expectation(key.target));
  const std::string& value = values.back();
  std::visit(Overloaded{[&](std::int64_t* to) {
                          if (!parse_number(value, *to)) refuse(value);
                        },
                        [&](double* to) {
                          if (!parse_number(value, *to) || !std::isfinite(*to)) refuse(value);
                        },
                        [&](bool* to) {
                          const bool yes = value == "true" || value == "1" || value == "yes" || value == "on";
                          if (!yes && value != "false" && value != "0" && value != "no" && value != "off") refuse(value);
                          *to = yes;
                        },
                        [&](std::string* to) {
                          allow(value);
                          *to = value;
                        },
                        [&](std::vector<std::int64_t>* to) {
                          to->clear();
                          for (const std::string& part : split_commas(values)) {
                            if (!parse_number(part, to->emplace_back())) refuse(part);
                          }
                        },
                        [&](std::vector<std::string>* to) {
                          *to = key.choices.empty() ? values : split_commas(values);
                          for (const std::string& part : *to) allow(part);
                        }},
             key.target);
}

std::set<std::string> KeyTable::parse_arguments(const std::vector<std::string>& args) const {
  po::options_description description;
  for (const Key& key : keys_) {
    auto* semantic = po::value<std::vector<std::string>>();
    if (key.flag) semantic->zero_tokens();
    if (is_list(key.target)) semantic->multitoken();
    description.add_options()(key.name.c_str(), semantic, "");
  }
  const int style =
      po::command_line_style::allow_long | po::command_line_style::long_allow_adjacent | po::command_line_style::long_allow_next;
  std::vector<po::option> options;
  try {
    options = po::command_line_parser(args).options(description).style(style).allow_unregistered().run().options;
  } catch (const po::error& error) {
    throw UsageError(fmt::format("the command line cannot be read: {}; --help lists the keys", error.what()));
  }
  std::set<std::string> given;
  std::set<std::string> lists;
  for (const po::option& option : options) {
    if (option.position_key != -1 || option.string_key.empty()) {
      throw UsageError(fmt::format("'{}' stands alone on the command line; every value needs its key in front, like --train.steps 100",
                                   option.original_tokens.empty() ? "" : option.original_tokens.front()));
    }
    const std::string& name = option.string_key;
    const Key* key = option.unregistered ? nullptr : find(name);
    if (key == nullptr) unknown(name, "");
    // A list given twice is one list.
    if (auto* strings = std::get_if<std::vector<std::string>*>(&key->target); strings != nullptr && lists.count(name) != 0) {
      std::vector<std::string> before = **strings;
      assign(*key, option.value, "");
      (*strings)->insert((*strings)->begin(), before.begin(), before.end());
    } else {
      assign(*key, key->flag && option.value.empty() ? std::vector<std::string>{"true"} : option.value, "");
    }
    lists.insert(name);
    given.insert(name);
  }
  return given;
}

std::set<std::string> KeyTable::parse_ini(const std::string& text, const std::string& source) const {
  const po::options_description none;
  std::vector<po::option> options;
  try {
    std::stringstream stream(text);
    options = po::parse_config_file(stream, none, true).options;
  } catch (const po::error& error) {
    throw UsageError(
        fmt::format("{} cannot be read as INI: {}; lines are 'key = value', '[section]' or '# comment'", source, error.what()));
  }
  std::set<std::string> given;
  for (const po::option& option : options) {
    const std::string origin = fmt::format("{}:{}: ", source, line_of(text, option.string_key));
    const Key* key = find(option.string_key);
    if (key == nullptr) unknown(option.string_key, origin);
    require_usage(given.insert(option.string_key).second, "{}{} is given twice in this file; keep one", origin, option.string_key);
    assign(*key, option.value, origin);
  }
  return given;
}

std::string KeyTable::to_ini() const {
  std::string out, section;
  for (const bool top : {true, false}) {  // top-level keys must stand before the first section
    for (const Key& key : keys_) {
      const std::string mine = section_of(key.name);
      if (mine.empty() != top) continue;
      if (mine != section) out += fmt::format("\n[{}]\n", section = mine);
      const std::string value = text_of(key.target);
      require_usage(value.find_first_of("#\n") == std::string::npos,
                    "{} = '{}' has a '#' or a line break, which an INI file cannot hold; choose another name", key.name, value);
      require_usage(value.empty() || (!std::isspace(static_cast<unsigned char>(value.front())) && !std::isspace(static_cast<unsigned char>(value.back()))),
                    "{} = '{}' begins or ends with a space, which an INI file cannot hold; choose another name", key.name, value);
      out += fmt::format("{} = {}\n", mine.empty() ? key.name : key.name.substr(mine.size() + 1), value);
    }
  }
  return out;
}

std::string KeyTable::help() const {
  std::string out, section = "-";
  for (const Key& key : keys_) {
    if (const std::string mine = section_of(key.name); mine != section) {
      section = mine;
      out += section.empty() ? "\n" : fmt::format("\n[{}]\n", section);
    }
    std::string text = key.meaning;
    if (!key.choices.empty()) text += fmt::format(": {}", fmt::join(key.choices, " "));
    if (!key.unit.empty()) text += fmt::format(" [{}]", key.unit);
    std::string value = key.default_text.empty() ? text_of(key.target) : key.default_text;
    if (!key.flag && !value.empty()) text += fmt::format(" (default {})", value);
    out += fmt::format("  --{:<26} {}\n", key.name, text);
  }
  return out;
}

bool asks_help(const std::vector<std::string>& args) {
  return std::any_of(args.begin(), args.end(), [](const std::string& arg) { return arg == "--help" || arg == "-h"; });
}

std::string read_ini_file(const std::filesystem::path& path) {
  std::error_code error;
  require_usage(!std::filesystem::is_directory(path, error), "{} is a directory, not an INI file", path.string());
  std::ifstream stream(path, std::ios::binary);
  require_usage(stream.good(), "{} cannot be opened; check the path and its permissions", path.string());
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

}  // namespace lexring
