#include "jobs/config/keys.h"

#include <algorithm>
#include <cctype>
#include <map>

#include <fmt/format.h>
#include <boost/program_options.hpp>

#include "framework/base/error.h"
#include "jobs/config/ini_file.h"

namespace lexring {
namespace {

namespace po = boost::program_options;

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

std::string section_of(const std::string& name) {
  const auto dot = name.find('.');
  return dot == std::string::npos ? "" : name.substr(0, dot);
}

}  // namespace

Key& KeyTable::add(Key key) {
  const auto* words = std::get_if<WordTarget>(&key.target);
  if (words != nullptr && key.choices.empty()) key.choices = words->names();
  return keys_.emplace_back(std::move(key));
}

const Key* KeyTable::find(const std::string& name) const {
  const auto at = std::find_if(keys_.begin(), keys_.end(), [&](const Key& key) { return key.name == name; });
  return at == keys_.end() ? nullptr : &*at;
}

const KeyTable::Take* KeyTable::taker(const std::string& name) const {
  const auto at = std::find_if(forwards_.begin(), forwards_.end(),
                               [&](const auto& entry) { return name.starts_with(entry.first); });
  return at == forwards_.end() ? nullptr : &at->second;
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
  throw UsageError(fmt::format("{}there is no key '{}'; the nearest is '{}'; --help lists them all", origin,
                               shown(name), nearest(name)));
}

std::set<std::string> KeyTable::parse_arguments(const std::vector<std::string>& args) const {
  po::options_description description;
  for (const Key& key : keys_) {
    auto* semantic = po::value<std::vector<std::string>>();
    if (key.flag) semantic->zero_tokens();
    if (is_list(key.target)) semantic->multitoken();
    description.add_options()(key.name.c_str(), semantic, "");
  }
  for (const auto& [prefix, take] : forwards_)
    description.add_options()((prefix + "*").c_str(), po::value<std::vector<std::string>>(), "");
  const int style = po::command_line_style::allow_long | po::command_line_style::long_allow_adjacent |
                    po::command_line_style::long_allow_next;
  std::vector<po::option> options;
  try {
    options = po::command_line_parser(args).options(description).style(style).allow_unregistered().run().options;
  } catch (const po::error& error) {
    throw UsageError(fmt::format("the command line cannot be read: {}; --help lists the keys", error.what()));
  }
  std::set<std::string> given;
  for (const po::option& option : options) {
    if (option.position_key != -1 || option.string_key.empty()) {
      throw UsageError(fmt::format(
          "'{}' stands alone on the command line; every value needs its key in front, like --train.steps 100",
          option.original_tokens.empty() ? "" : option.original_tokens.front()));
    }
    const std::string& name = option.string_key;
    if (const Take* take = taker(name)) {
      (*take)(name, option.value.empty() ? "" : option.value.front(), "");
      given.insert(name);
      continue;
    }
    const Key* key = option.unregistered ? nullptr : find(name);
    if (key == nullptr) unknown(name, "");
    const std::vector<std::string> values =
        key->flag && option.value.empty() ? std::vector<std::string>{"true"} : option.value;
    assign(*key, values, "", given.count(name) == 0 ? ListValues::replace : ListValues::append);
    given.insert(name);
  }
  return given;
}

std::set<std::string> KeyTable::parse_ini(const std::string& text, const std::string& source) const {
  std::map<std::string, std::size_t> lines;
  for (const IniEntry& entry : ini_entries(text, source)) {
    const std::string origin = origin_in_ini(source, entry.line);
    const Take* take = taker(entry.name);
    const Key* key = find(entry.name);
    if (key == nullptr && take == nullptr) unknown(entry.name, origin);
    const auto [first, is_new] = lines.emplace(entry.name, entry.line);
    require_usage(is_new, "{}{} is given twice in this file, first in line {}; keep one", origin, entry.name,
                  first->second);
    if (take != nullptr) (*take)(entry.name, entry.value, origin);
    else assign(*key, {entry.value}, origin);
  }
  std::set<std::string> given;
  for (const auto& [name, line] : lines) given.insert(name);
  return given;
}

bool KeyTable::has_effect(const Key& key) const { return why_without_effect(key).empty(); }

std::string KeyTable::why_without_effect(const Key& key) const {
  for (const Need& need : key.needs) {
    const Key* other = find(need.key);
    require(other != nullptr, "{} needs a key '{}' that its table does not have", key.name, need.key);
    const std::string value = text_of(other->target);
    const bool found = std::find(need.values.begin(), need.values.end(), value) != need.values.end();
    if (found == need.other) {
      return fmt::format("{0} has an effect only with {1}, but {2} = {3}; leave it out, or change {2}", key.name,
                         text_of(need), need.key, shown(value));
    }
    if (const std::string why = why_without_effect(*other); !why.empty())
      return fmt::format("{} goes with {}; {}", key.name, need.key, why);
  }
  return "";
}

std::string KeyTable::to_ini() const {
  std::string out, section;
  for (const bool top : {true, false}) {  // top-level keys must stand before the first section
    for (const Key& key : keys_) {
      if (!has_effect(key)) continue;
      const std::string mine = section_of(key.name);
      if (mine.empty() != top) continue;
      if (mine != section) out += fmt::format("\n[{}]\n", section = mine);
      const std::string value = text_of(key.target);
      require_usage(value.find_first_of("#\n") == std::string::npos,
                    "{} = '{}' has a '#' or a line break, which an INI file cannot hold; choose another name", key.name,
                    value);
      require_usage(value.empty() || (!std::isspace(static_cast<unsigned char>(value.front())) &&
                                      !std::isspace(static_cast<unsigned char>(value.back()))),
                    "{} = '{}' begins or ends with a space, which an INI file cannot hold; choose another name",
                    key.name, value);
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
    std::string text = description_of(key);
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

}  // namespace lexring
