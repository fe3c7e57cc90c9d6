/// Keys of single layers, where layers differ: `[layer.0]`, `[layer.last]` and `[layers.every.4]` (every fourth: layers
/// 3, 7, ...) in INI files, `--layer.0.attention.pattern causal` on the command line. Such a section holds position.*
/// and attention.* keys; what it does not give is the model's. Where several name one layer, the later one wins.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "jobs/config/keys.h"
#include "models/config.h"

namespace lexring {

class LayerSettings {
 public:
  LayerSettings() = default;
  /// Those that make `model` of its layers that are all alike.
  explicit LayerSettings(const ModelConfig& model);
  LayerSettings(const LayerSettings&) = delete;
  LayerSettings& operator=(const LayerSettings&) = delete;

  std::size_t size() const { return all_.size(); }
  /// From now on what `table` reads under such names comes here. `table` must not outlive this.
  void read_with(KeyTable& table);
  /// Makes `model.override` anew. Settings of layers that the model does not have change nothing.
  void apply(ModelConfig& model) const;
  /// The settings that change nothing in `model`: its place among all, and why, beginning with where it stands.
  std::map<std::size_t, std::string> without_effect(ModelConfig model) const;
  /// Values by name, "layer.0.attention.pattern"; the last of each.
  std::map<std::string, std::string> values() const;
  /// As INI sections; nothing where all layers are alike.
  std::string to_ini() const;

 private:
  struct Setting {
    std::string section;  ///< "layer.0"
    std::string key;      ///< "attention.pattern"
    std::string value;
    std::string origin;
  };

  void add(const std::string& name, const std::string& value, const std::string& origin);

  std::vector<Setting> all_;
};

}  // namespace lexring
