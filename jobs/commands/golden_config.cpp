#include "jobs/commands/golden_config.h"

#include <charconv>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.h"
#include "jobs/config/keys.h"
#include "jobs/config/model_keys.h"

namespace lexring {
namespace {

using Json = nlohmann::json;

/// Fields without a key that change nothing: positions that were drawn are in the file.
bool is_idle(const std::string& field) { return field == "sampling"; }

std::vector<std::string> texts_of(const Json& value) {
  if (!value.is_array()) return {value.is_string() ? value.get<std::string>() : value.dump()};
  std::vector<std::string> texts;
  for (const Json& entry : value) texts.push_back(entry.is_string() ? entry.get<std::string>() : entry.dump());
  if (!texts.empty() && value.front().is_string()) texts = {fmt::format("{}", fmt::join(texts, ","))};
  return texts;
}

/// Reads the fields of a section; those of the model have none. The reference writes all of them, so that one that is
/// missing is not left at a default of ours.
void read(ModelConfig& config, const std::string& section, const Json& fields) {
  KeyTable table;
  const std::string prefix = section.empty() ? "model." : section + ".";
  for (const Key& key : model_keys(config)) {
    if (!key.name.starts_with(prefix)) continue;
    static_cast<void>(fields.at(key.name.substr(prefix.size())));
    table.add({key});
  }
  for (const auto& [name, value] : fields.items()) {
    const std::string field = section.empty() ? name : section + "." + name;
    if (const Key* key = table.find(section.empty() ? "model." + name : field)) {
      if (!value.empty()) assign(*key, texts_of(value), "");  // null and an empty list are what the key's default is
    } else {
      require_usage(is_idle(field), "{} = {} is not supported yet", field, value.dump());
    }
  }
}

std::int64_t layer_number(const std::string& text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  require_usage(error == std::errc() && end == text.data() + text.size(),
                "layer '{}' is overridden, which is no number", text);
  return number;
}

ModelConfig read(Json json) {
  ModelConfig config;
  read(config, "position", json.at("position"));
  read(config, "attention", json.at("attention"));
  for (const auto& [layer, fields] : json.at("override").items()) {
    const std::int64_t number = layer_number(layer);
    ModelConfig other;
    read(other, "position", fields.at(0));
    read(other, "attention", fields.at(1));
    config.override[number] = {other.position, other.attention};
  }
  read(config, "adapter", json.at("adapter"));
  for (const char* section : {"position", "attention", "adapter", "override"}) json.erase(section);
  read(config, "", json);
  return config;
}

}  // namespace

ModelConfig golden_config(const std::string& json, const std::string& of) {
  try {
    return read(Json::parse(json));
  } catch (const Json::exception& error) {
    fail("{} has a configuration that cannot be read ({}); is this a golden file?", of, error.what());
  }
}

}  // namespace lexring
