#include "jobs/config/changes.h"

#include <set>

#include <fmt/format.h>

#include "jobs/config/layer_keys.h"

namespace lexring {
namespace {

const std::set<std::string> places = {"resume", "init", "checkpoint.directory"};
const std::set<std::string> of_the_schedule = {"optimizer.warmup", "optimizer.schedule", "optimizer.power",
                                               "optimizer.final_fraction", "train.steps"};

std::string shown(const Key& key) {
  const std::string text = text_of(key.target);
  return text.empty() ? "(none)" : text;
}

void add_layers(std::vector<Change>& changes, const ModelConfig& before, const ModelConfig& now) {
  const auto were = LayerSettings(before).values(), are = LayerSettings(now).values();
  auto names = were;
  names.insert(are.begin(), are.end());
  for (const auto& entry : names) {
    const std::string& name = entry.first;
    const auto in = [&](const auto& values) { return values.contains(name) ? values.at(name) : "the model's"; };
    if (in(were) != in(are)) changes.push_back({name, fmt::format("{} {} -> {}", name, in(were), in(are))});
  }
}

}  // namespace

std::vector<Change> changes_between(const Options& before, const Options& now) {
  Options a = before, b = now;
  const KeyTable were = option_keys(a), are = option_keys(b);
  std::vector<Change> changes;
  for (const Key& key : are.keys()) {
    const std::string old_value = shown(*were.find(key.name)), value = shown(key);
    if (old_value == value || places.contains(key.name) || !are.has_effect(key)) continue;
    changes.push_back({key.name, fmt::format("{} {} -> {}", key.name, old_value, value)});
  }
  add_layers(changes, before.model, now.model);
  return changes;
}

std::vector<std::string> describe_changes(const Options& before, const Options& now, std::int64_t step) {
  std::vector<std::string> lines;
  std::string* last_of_schedule = nullptr;
  const auto changes = changes_between(before, now);
  lines.reserve(changes.size());
  for (const Change& change : changes) {
    lines.push_back(fmt::format("{} from step {}", change.text, step));
    if (of_the_schedule.contains(change.key)) last_of_schedule = &lines.back();
  }
  LrSchedule shape = lr_schedule(now);
  shape.lr = lr_schedule(before).lr;  // another peak is said by its own line
  const double was = learning_rate(lr_schedule(before), step - 1), is = learning_rate(lr_schedule(now), step - 1);
  if (last_of_schedule != nullptr && learning_rate(shape, step - 1) != was) {
    *last_of_schedule += fmt::format("; the learning rate of that step is {:.3g}, not {:.3g}", is, was);
  }
  return lines;
}

}  // namespace lexring
