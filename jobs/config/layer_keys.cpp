#include "jobs/config/layer_keys.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "framework/base/error.h"
#include "jobs/config/model_keys.h"

namespace lexring {
namespace {

/// The keys that a layer has of its own, bound to `model`, whose position and attention are the layer's.
KeyTable keys_of_layer(ModelConfig& model) {
  KeyTable table;
  for (const Key& key : model_keys(model)) {
    if (!key.name.starts_with("model.")) table.add(key);
  }
  return table;
}

ModelConfig alike(const LayerConfig& layer) {
  ModelConfig model;
  model.position = layer.position;
  model.attention = layer.attention;
  return model;
}

std::optional<std::int64_t> number_in(const std::string& text) {
  std::int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && last == end ? std::optional(number) : std::nullopt;
}

/// The layers that a section names, of a model of so many; nullopt: it is no name of layers.
std::optional<std::vector<std::int64_t>> layers_of(const std::string& section, std::int64_t layers) {
  constexpr std::string_view one = "layer.", every = "layers.every.";
  std::int64_t first = layers - 1, step = layers;
  if (section.starts_with(every)) {
    const auto number = number_in(section.substr(every.size()));
    if (!number || *number < 1) return std::nullopt;
    first = *number - 1;
    step = *number;
  } else if (section != "layer.last") {
    const auto number = section.starts_with(one) ? number_in(section.substr(one.size())) : std::nullopt;
    if (!number || *number < 0) return std::nullopt;
    first = *number;
  }
  std::vector<std::int64_t> named;
  for (std::int64_t n = first; n >= 0 && n < layers; n += step) named.push_back(n);
  return named;
}

/// Of a section that has been checked.
std::vector<std::int64_t> named_layers(const std::string& section, std::int64_t layers) {
  return layers_of(section, layers).value();
}

}  // namespace

LayerSettings::LayerSettings(const ModelConfig& model) {
  ModelConfig common = alike({model.position, model.attention});
  const KeyTable theirs = keys_of_layer(common);
  for (const auto& [number, layer] : model.override) {
    ModelConfig own = alike(layer);
    const KeyTable keys = keys_of_layer(own);
    for (const Key& key : keys.keys()) {
      if (!keys.has_effect(key)) continue;
      const Key& other = *theirs.find(key.name);
      // What has no effect in the model is not written with it, and follows from other keys when it is read.
      if (theirs.has_effect(other) && text_of(key.target) == text_of(other.target)) continue;
      all_.push_back({fmt::format("layer.{}", number), key.name, text_of(key.target), ""});
    }
  }
}

void LayerSettings::read_with(KeyTable& table) {
  for (const char* prefix : {"layer.", "layers."})
    table.forward(prefix,
                  [this](const auto& name, const auto& value, const auto& origin) { add(name, value, origin); });
}

void LayerSettings::add(const std::string& name, const std::string& value, const std::string& origin) {
  const std::size_t section_ends =
      name.find('.', std::string_view(name.starts_with("layer.") ? "layer." : "layers.every.").size());
  const std::string section = name.substr(0, section_ends);
  require_usage(layers_of(section, 1).has_value(),
                "{}'{}' names no layers; write layer.0 (the first), layer.last or layers.every.4 (every fourth: 3, 7, "
                "...)",
                origin, shown(section));
  const std::string key = section_ends == std::string::npos ? "" : name.substr(section_ends + 1);
  ModelConfig scratch;
  const KeyTable keys = keys_of_layer(scratch);
  const Key* found = keys.find(key);
  require_usage(found != nullptr,
                "{}{} cannot have a '{}' of its own, only keys of the sections position and attention; the nearest is "
                "'{}'",
                origin, section, shown(key), keys.nearest(key));
  Key named = *found;
  named.name = name;
  assign(named, {value}, origin);
  all_.push_back({section, key, value, origin});
}

void LayerSettings::apply(ModelConfig& model) const {
  const LayerConfig common = {model.position, model.attention};
  model.override.clear();
  for (const Setting& setting : all_) {
    for (const std::int64_t n : named_layers(setting.section, model.layers)) {
      LayerConfig& layer = model.override.try_emplace(n, common).first->second;
      ModelConfig own = alike(layer);
      assign(*keys_of_layer(own).find(setting.key), {setting.value}, setting.origin);
      layer = {own.position, own.attention};
    }
  }
  std::erase_if(model.override, [&](const auto& entry) { return entry.second == common; });
}

std::map<std::size_t, std::string> LayerSettings::without_effect(ModelConfig model) const {
  apply(model);
  std::map<std::size_t, std::string> idle;
  for (std::size_t i = 0; i < all_.size(); ++i) {
    const Setting& setting = all_[i];
    std::string why = fmt::format("there are layers 0 to {}; leave it out, or change model.layers", model.layers - 1);
    for (const std::int64_t n : named_layers(setting.section, model.layers)) {
      ModelConfig own = alike(model.layer(n));
      const KeyTable keys = keys_of_layer(own);
      why = keys.why_without_effect(*keys.find(setting.key));
      if (why.empty()) break;
    }
    if (!why.empty())
      idle[i] = fmt::format("{}{}.{} changes nothing: {}", setting.origin, setting.section, setting.key, why);
  }
  return idle;
}

std::map<std::string, std::string> LayerSettings::values() const {
  std::map<std::string, std::string> values;
  for (const Setting& setting : all_) values[setting.section + "." + setting.key] = setting.value;
  return values;
}

std::string LayerSettings::to_ini() const {
  std::string out, section;
  for (const Setting& setting : all_) {
    if (setting.section != section) out += fmt::format("\n[{}]\n", section = setting.section);
    out += fmt::format("{} = {}\n", setting.key, setting.value);
  }
  return out;
}

}  // namespace lexring
