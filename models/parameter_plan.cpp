#include "models/parameter_plan.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "models/positions/position.h"

namespace lexring {

namespace {

class Plan {
 public:
  explicit Plan(const ModelConfig& config) : config_(config) {}

  void norm(const std::string& name, std::int64_t width) {
    vector(name + ".weight", width, Initialiser::one, TensorCut::whole);
    if (config_.norm == NormKind::layernorm) vector(name + ".bias", width, Initialiser::zero, TensorCut::whole);
  }
  /// A bias is cut as the rows of its weight are.
  void linear(const std::string& name, std::int64_t out, std::int64_t in, TensorCut cut,
              Initialiser initialiser = Initialiser::normal) {
    linear(name, out, in, cut, config_.bias, initialiser);
  }
  /// Query, key or value.
  void projection(const std::string& name, std::int64_t out, TensorCut cut) {
    linear(name, out, config_.width, cut, config_.bias || config_.qkv_bias, Initialiser::normal);
  }
  /// RMS norm of every head by one weight, whatever the other norms are.
  void head_norm(const std::string& name) {
    vector(name + ".weight", config_.width_of_head(), Initialiser::one, TensorCut::whole);
  }
  /// Every rank of tp has all of it: logits of a rank's rows are few, and go to the ranks that have the heads.
  void forget_gate(const std::string& name) {
    add({name + ".weight", {config_.heads, config_.width}, Initialiser::normal, TensorCut::whole});
    vector(name + ".bias", config_.heads, Initialiser::zero, TensorCut::whole);  // also without model.bias
  }
  void per_head(const std::string& name) { vector(name, config_.heads, Initialiser::one, TensorCut::rows); }
  void matrix(const std::string& name, Shape shape, TensorCut cut, Use use) {
    add({name, std::move(shape), Initialiser::normal, cut, use});
  }
  /// Layers with one method share its parameters.
  void position(ParameterRow row) {
    const auto found =
        std::find_if(rows.begin(), rows.end(), [&](const auto& other) { return other.name == row.name; });
    row.of_position = true;
    if (found == rows.end()) return add(std::move(row));
    require_usage(found->shape == row.shape, "layers disagree about {}: {} and {}; all share one", row.name,
                  to_string(found->shape), to_string(row.shape));
    require_usage(found->domain == row.domain,
                  "layers disagree about where {} may lie; all share one, so choose one position.kind for them",
                  row.name);
  }

  std::size_t section = 0;
  std::vector<ParameterRow> rows;

 private:
  void linear(const std::string& name, std::int64_t out, std::int64_t in, TensorCut cut, bool bias,
              Initialiser initialiser) {
    add({name + ".weight", {out, in}, initialiser, cut});
    if (bias) vector(name + ".bias", out, Initialiser::zero, cut == TensorCut::columns ? TensorCut::whole : cut);
    if (!has_adapter(config_.adapter, name)) return;
    const bool columns = cut == TensorCut::columns;
    adapter(name + ".lora_a", {config_.adapter.rank, in}, Initialiser::normal, columns ? cut : TensorCut::whole);
    adapter(name + ".lora_b", {out, config_.adapter.rank}, Initialiser::zero, columns ? TensorCut::whole : cut);
  }
  void adapter(const std::string& name, Shape shape, Initialiser initialiser, TensorCut cut) {
    ParameterRow row{name, std::move(shape), initialiser, cut};
    row.of_adapter = true;
    add(std::move(row));
  }
  void vector(const std::string& name, std::int64_t size, Initialiser initialiser, TensorCut cut) {
    ParameterRow row{name, {size}, initialiser, cut};
    row.decayed = false;
    add(std::move(row));
  }
  void add(ParameterRow row) {
    row.section = section;
    rows.push_back(std::move(row));
  }

  const ModelConfig& config_;
};

void plan_layer(Plan& plan, const ModelConfig& config, std::int64_t n) {
  const std::int64_t width = config.width, query_width = config.heads * config.width_of_head(),
                     key_width = config.kv_heads * config.width_of_head();
  const std::string layer = fmt::format("layers.{}.", n);
  plan.norm(layer + "attention.norm", width);
  plan.projection(layer + "attention.query", query_width, TensorCut::rows);
  plan.projection(layer + "attention.key", key_width, TensorCut::key_value_rows);
  plan.projection(layer + "attention.value", key_width, TensorCut::key_value_rows);
  if (config.qk_norm) {
    plan.head_norm(layer + "attention.query_norm");
    plan.head_norm(layer + "attention.key_norm");
  }
  if (config.layer(n).attention.forget_gate) plan.forget_gate(layer + "attention.forget");
  if (config.layer(n).attention.ssmax) plan.per_head(layer + "attention.ssmax");
  if (config.sub_norm) plan.norm(layer + "attention.sub_norm", query_width);
  plan.linear(layer + "attention.output", width, query_width, TensorCut::columns, Initialiser::output_side);
  plan.norm(layer + "ffn.norm", width);
  if (config.ffn == Ffn::swiglu) plan.linear(layer + "ffn.gate", config.ffn_width, width, TensorCut::rows);
  plan.linear(layer + "ffn.up", config.ffn_width, width, TensorCut::rows);
  if (config.sub_norm) plan.norm(layer + "ffn.sub_norm", config.ffn_width);
  plan.linear(layer + "ffn.down", width, config.ffn_width, TensorCut::columns, Initialiser::output_side);
}

/// Only adapters, where there are any, and what they leave trainable.
std::vector<ParameterRow> trained_by_adapters(std::vector<ParameterRow> plan, const AdapterConfig& adapter) {
  const std::vector<std::string> also = parts_of_names(adapter.trainable);
  for (ParameterRow& row : plan) {
    const auto contains = [&](const std::string& part) { return row.name.find(part) != std::string::npos; };
    row.trainable = adapter.rank == 0 || row.of_adapter || std::any_of(also.begin(), also.end(), contains);
  }
  return plan;
}

bool names_part_of(const std::string& parts, const std::string& name) {
  return !parts.empty() && ("." + name + ".").find("." + parts + ".") != std::string::npos;
}

}  // namespace

std::vector<ParameterRow> parameter_plan(const ModelConfig& config, const LayerRange& range) {
  Plan plan(config);
  const auto layers = static_cast<std::size_t>(range.count());
  const Shape table = {config.vocab, config.width};
  const bool tied = config.tied && range.head;
  plan.section = range.embedding ? layers + 1 : 0;
  if (range.embedding || tied) {
    plan.matrix("embedding", table, TensorCut::rows, !tied ? Use::lookup : range.embedding ? Use::both : Use::product);
  }
  plan.section = layers + 1;
  const auto positions = [&](const PositionConfig& position) {
    const auto encoding = make_position(config, position);
    for (ParameterRow& row : encoding->parameters(config)) {
      if (range.embedding || row.name != encoding->added_parameter()) plan.position(std::move(row));
    }
  };
  if (range.embedding) positions(config.position);
  for (std::int64_t n = range.first; n < range.last; ++n) positions(config.layer(n).position);
  for (std::int64_t n = range.first; n < range.last; ++n) {
    plan.section = layers - static_cast<std::size_t>(n - range.first);
    plan_layer(plan, config, n);
  }
  if (!range.head) return trained_by_adapters(std::move(plan.rows), config.adapter);
  plan.section = 0;
  plan.norm("norm", config.width);
  if (!config.tied) plan.matrix("output", table, TensorCut::rows, Use::product);
  return trained_by_adapters(std::move(plan.rows), config.adapter);
}

std::vector<ParameterRow> parameter_plan(const ModelConfig& config) {
  return parameter_plan(config, all_layers(config));
}

bool has_adapter(const AdapterConfig& adapter, const std::string& layer) {
  return adapter.rank > 0 && std::any_of(adapter.targets.begin(), adapter.targets.end(), [&](AdapterTarget target) {
           return layer.ends_with(fmt::format(".{}", name_of(target)));
         });
}

std::vector<std::string> parts_of_names(const std::string& text) {
  std::vector<std::string> parts;
  std::string part;
  for (const char c : text + ",") {
    if (c != ',' && c != ' ') part += c;
    else if (!part.empty()) parts.push_back(std::exchange(part, {}));
  }
  return parts;
}

void freeze(std::vector<ParameterRow>& plan, const std::vector<std::string>& frozen) {
  for (ParameterRow& row : plan) {
    const auto names = [&](const std::string& parts) { return names_part_of(parts, row.name); };
    row.trainable = row.trainable && std::none_of(frozen.begin(), frozen.end(), names);
  }
}

void check_frozen(const ModelConfig& config, const std::vector<std::string>& frozen) {
  std::vector<ParameterRow> plan = parameter_plan(config);
  for (const std::string& parts : frozen) {
    require_usage(
        std::any_of(plan.begin(), plan.end(), [&](const auto& row) { return names_part_of(parts, row.name); }),
        "train.frozen = {} names no parameter; give whole parts of their names, such as {} or attention.query", parts,
        plan.front().name);
  }
  freeze(plan, frozen);
  require_usage(std::any_of(plan.begin(), plan.end(), [](const auto& row) { return row.trainable; }),
                "train.frozen = {} leaves nothing to train; leave out something", fmt::join(frozen, ","));
}

}  // namespace lexring
