#include "jobs/evaluation/measurement.h"

#include <algorithm>

#include <fmt/format.h>

#include "framework/base/console.h"
#include "jobs/evaluation/evaluator.h"
#include "jobs/launch/devices.h"
#include "jobs/launch/model_state.h"
#include "models/layer_configs.h"

namespace lexring {
namespace {

constexpr std::int64_t resolution_texts = 16;

/// Whether scores have a mean at each distance, and softmax makes weights of them.
bool has_resolution(const ModelConfig& model) {
  for (std::int64_t n = 0; n < model.layers; ++n) {
    const LayerConfig layer = model.layer(n);
    if (layer.attention.normalizer != Normalizer::softmax || layer.position.kind->relative) return false;
  }
  return true;
}

/// One checkpoint: its model on its mesh, and its series.
class Measurement {
 public:
  Measurement(EvaluationResults& results, std::size_t index, const Subject& subject, const CheckpointReader& reader,
              const Dataset& dataset, const MeasurementKeys& keys, KeptParts& parts)
      : results_(results),
        keys_(keys),
        parts_(parts),
        options_(subject.options),
        reader_(reader),
        index_(index),
        dataset_(dataset),
        stream_{results.tokens, options_.data.use(), keys.chunk, results.segment_ends, masking_of(options_)} {}

  /// Fills the cells of the checkpoint's series and its resolutions. Collective.
  void run(const RunDevice& device, EvaluationProgress& progress) {
    const RunMesh mesh = mesh_for(device);
    if (index_ == 0 && device.world->rank() == 0 && device.world->size() > 1) say("{}\n", mesh.description);
    Transformer model(options_.model, runtime_of(options_), mesh.context, *device.backend);
    load_parameters(reader_, model);
    results_.models[index_].parameters = model.parameter_count();
    for (std::size_t s = 0; s < results_.series.size(); ++s) {
      if (results_.series[s].model == index_) measure_series(s, model, mesh.context, progress);
    }
    measure_resolutions(device, mesh.context.mesh().size(Axis::tp));
  }

 private:
  /// The mesh, for the longest windows and the pattern that sees most.
  RunMesh mesh_for(const RunDevice& device) const {
    ModelConfig model = options_.model;
    const auto mine = std::find_if(results_.series.begin(), results_.series.end(),
                                   [&](const Series& s) { return s.model == index_; });
    const AttentionConfig* most = &mine->attention;
    for (const Series& series : results_.series) {
      if (series.model == index_ && series.attention.pattern->sees_all()) most = &series.attention;
    }
    use_attention(model, *most);
    return make_run_mesh(device.world, keys_.mesh, keys_.sequence, model,
                         {1, results_.lengths.back(), options_.train.precision == PrecisionChoice::bf16 ? 2 : 4});
  }

  void measure_series(std::size_t index, Transformer& model, const Context& context, EvaluationProgress& progress) {
    Series& series = results_.series[index];
    model.set_attention(series.attention);
    for (const std::int64_t length : results_.lengths) {
      Cell cell;
      cell.length = length;
      cell.not_measured = why_not_measured(options_.model, length);
      if (cell.measured()) {
        const std::string note = fmt::format("{} {}", series.name, length);
        const PositionConfig position = position_at(series, length);
        model.set_position(position);
        cell =
            measure(model, context, dataset_, stream_, length,
                    {part_name(index, length), &parts_, [&](std::int64_t tokens) { progress.update(tokens, note); }});
        cell.scaling_factor = position.scaling == Scaling::none ? 1 : position.scaling_factor;
      }
      series.cells.push_back(std::move(cell));
      progress.cell_done();
    }
  }

  /// Attention resolution compares all tokens of a text, so ranks that share sequences elsewhere take texts of their
  /// own here. It does not depend on the pattern, and is one of exponentials of scores by distance: with ReLU, and with
  /// a bias that depends on more than the distance, there is none.
  void measure_resolutions(const RunDevice& device, int tp) {
    if (keys_.resolution.empty() || !has_resolution(options_.model)) return;
    const Context context(device.world, make_mesh(device.world->size(), 0, 1, tp));
    Transformer model(options_.model, runtime_of(options_), context, *device.backend);
    load_parameters(reader_, model);
    const Series* last = nullptr;
    for (std::size_t s = 0; s < results_.series.size(); ++s) {
      const Series& series = results_.series[s];
      if (series.model != index_ || (last != nullptr && last->position_part == series.position_part)) continue;
      last = &series;
      for (const std::int64_t length : keys_.resolution) {
        if (!why_not_measured(options_.model, length).empty()) continue;
        model.set_position(position_at(series, length));
        Resolution resolution = measure_resolution(model, context, dataset_, stream_, length, resolution_texts,
                                                   {"resolution, " + part_name(s, length), &parts_});
        resolution.name = series.position_part;
        results_.resolution.push_back(std::move(resolution));
      }
    }
  }

  EvaluationResults& results_;
  const MeasurementKeys& keys_;
  KeptParts& parts_;
  const Options& options_;
  const CheckpointReader& reader_;
  std::size_t index_;
  const Dataset& dataset_;
  TokenStream stream_;
};

/// Tokens of all cells that were there.
std::uint64_t tokens_there(const EvaluationResults& results, const KeptParts& parts) {
  std::int64_t tokens = 0;
  for (std::size_t s = 0; s < results.series.size(); ++s)
    for (const std::int64_t length : results.lengths) tokens += parts.reach(part_name(s, length)) * length;
  return static_cast<std::uint64_t>(tokens);
}

}  // namespace

std::string part_name(std::size_t series, std::int64_t length) {
  return fmt::format("series {}, length {}", series, length);
}

EvaluationProgress::EvaluationProgress(const EvaluationResults& results, const KeptParts& parts, bool shown)
    : tokens_(results.tokens),
      bar_("evaluate", "token",
           static_cast<std::uint64_t>(results.tokens) * results.lengths.size() * results.series.size(),
           tokens_there(results, parts)) {
  if (!shown) bar_.silence();
  bar_.update(tokens_there(results, parts));  // the clock starts before the first cell
}

std::string why_not_measured(const ModelConfig& model, std::int64_t length) {
  if (model.position.kind->bounded && length > model.max_length) {
    return fmt::format("beyond max_length = {} of the learned positions", model.max_length);
  }
  return "";
}

void measure(EvaluationResults& results, std::size_t index, const Subject& subject, const CheckpointReader& reader,
             const Dataset& dataset, const MeasurementKeys& keys, const RunDevice& device, KeptParts& parts,
             EvaluationProgress& progress) {
  Measurement(results, index, subject, reader, dataset, keys, parts).run(device, progress);
}

}  // namespace lexring
