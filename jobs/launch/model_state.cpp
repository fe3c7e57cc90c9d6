#include "jobs/launch/model_state.h"

#include <algorithm>
#include <optional>

#include <fmt/ranges.h>

#include "framework/base/error.h"
#include "jobs/config/changes.h"
#include "jobs/config/layer_keys.h"
#include "models/config.h"
#include "models/parameter_plan.h"

namespace lexring {
bool may_be_missing(Missing what, const TensorSource& source, const Transformer& model, const Parameter& parameter) {
  return what == Missing::adapters && model.of_adapter(parameter) && !source.info(parameter.name);
}

void load_parameters(const TensorSource& source, Transformer& model, Missing missing) {
  for (const Parameter& parameter : model.parameters()) {
    if (may_be_missing(missing, source, model, parameter)) continue;
    const bool held = parameter.value.defined();
    const Tensor value =
        held ? parameter.value
             : Tensor(model.backend().runtime(), parameter.gradient.shape(), parameter.gradient.dtype());
    source.read({parameter.name, parameter.full_shape, parameter.offset, value});
    if (!held) model.backend().cast(value, parameter.compute);
  }
  model.refresh_compute();
}

void require_fitting_weights(const Options& wanted, const Options& stored, const TensorSource& weights) {
  const std::string name = weights.origin();
  const bool table = wanted.model.position.kind->bounded && stored.model.position.kind->bounded;
  for (const Change& change : changes_between(stored, wanted)) {
    const bool shapes = (change.key.starts_with("model.") && change.key != "model.norm_eps" &&
                         change.key != "model.logit_softcap" && (change.key != "model.max_length" || table)) ||
                        change.key.ends_with("attention.ssmax") || change.key.ends_with("attention.forget_gate");
    require_usage(!shapes, "the weights of {} are of another model: {}; leave {} as it was, or start without --init",
                  name, change.text, change.key);
  }
  const AdapterConfig &learned = stored.model.adapter, &adapter = wanted.model.adapter;
  const auto has = [](const AdapterConfig& of, AdapterTarget target) {
    return std::find(of.targets.begin(), of.targets.end(), target) != of.targets.end();
  };
  const bool all = std::all_of(learned.targets.begin(), learned.targets.end(),
                               [&](AdapterTarget target) { return has(adapter, target); });
  require_usage(
      learned.rank == 0 || (learned.rank == adapter.rank && learned.alpha == adapter.alpha && all),
      "what {} learned is in adapters of rank {}, alpha {}, on {}; leave adapter.rank and adapter.alpha as they "
      "were, and all of these in adapter.targets",
      name, learned.rank, learned.alpha,
      fmt::join(names_where<AdapterTarget>([&](AdapterTarget target) { return has(learned, target); }), ","));
  for (const ParameterRow& needed : parameter_plan(wanted.model)) {
    const std::optional<TensorSource::Info> found = weights.info(needed.name);
    if (needed.of_adapter && !found) continue;
    require_usage(found.has_value(),
                  "position.kind = {} needs {}, which {} has no weights for, as it has position.kind = {}; keep that, "
                  "or start without --init",
                  wanted.model.position.kind->name, needed.name, name, stored.model.position.kind->name);
    require_usage(found->shape == needed.shape,
                  "{} is {} here, but {} in {}; keep the keys of its position method, or start without --init",
                  needed.name, to_string(needed.shape), to_string(found->shape), name);
  }
}

void require_same_model(const Options& wanted, const Options& stored, const std::string& checkpoint) {
  Options a = wanted, b = stored;
  const KeyTable keys = option_keys(a), theirs = option_keys(b);
  for (const Key& key : keys.keys()) {
    const std::string section = key.name.substr(0, key.name.find('.'));
    const bool of_model = section == "model" || section == "position" || section == "attention" || section == "adapter";
    if (!of_model && key.name != "train.frozen") continue;
    if (!keys.has_effect(key)) continue;
    const std::string mine = text_of(key.target), other = text_of(theirs.find(key.name)->target);
    require_usage(mine == other,
                  "{} = {} but {} was trained with {}; give the same, or begin a new run with its weights: --init, in "
                  "another --checkpoint.directory",
                  key.name, mine, checkpoint, other);
  }
  const std::string mine = LayerSettings(wanted.model).to_ini(), other = LayerSettings(stored.model).to_ini();
  require_usage(
      mine == other,
      "the layers that differ from the others are\n{}\nbut {} was trained with\n{}\ngive the same, or begin a "
      "new run with its weights: --init, in another --checkpoint.directory",
      mine.empty() ? "\nnone" : mine, checkpoint, other.empty() ? "\nnone" : other);
}

}  // namespace lexring
