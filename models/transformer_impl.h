/// What a Transformer consists of.
#pragma once

#include "models/layer.h"
#include "models/parameter_plan.h"
#include "models/transformer.h"

namespace lexring {

struct Transformer::Impl {
  ModelConfig built;   ///< as it was made: its layers that differ say which follow another attention or position
  ModelConfig config;  ///< as it is used now
  LayerRange range;
  ModelRuntime how;
  const Context& context;
  Communicator& tp;
  Backend& backend;
  Dtype working, master, residual;
  std::unique_ptr<PositionEncoding> embedded_position;  ///< the model's own: what is added to embeddings
  AttentionKinds kinds;
  std::vector<ParameterRow> plan;
  ParameterStore store;
  std::vector<Parameter> trained;
  ModelWeights weights;
  std::vector<double> added_at;
  Tensor added;

  Impl(const ModelConfig& model, const ModelRuntime& runtime, const Context& mesh, Backend& device,
       const LayerRange& part);
  const ParameterRow& row(const std::string& name) const;
  void require_all_layers(const char* what) const;

  // The forward pass (transformer_pass.cpp).

  std::shared_ptr<const SequencePass> pass(const ModelBatch& batch, ModelCache* cache);
  Var embed(Tape& tape, const ModelBatch& batch, const RowShards& shards);
  /// The constant of the position method, kept while positions repeat (all steps of a training have the same);
  /// undefined: none.
  Tensor added_positions(const std::vector<double>& coordinates);
  /// The score bias of every kind of layers, for every distance in a batch: which rank attends with which of its rows
  /// differs from layer to layer.
  std::vector<BiasTerms> biases(Tape& tape, const TokenTable& batch) const;
  /// Attention of a layer, whose kinds have these biases.
  Attend attend_of(std::int64_t layer, const std::vector<BiasTerms>& bias,
                   const std::shared_ptr<const SequencePass>& sequence, const AttentionProbe& probe) const;
  /// From the embedding, or from what arrived (`in`), through all layers: this rank's rows of those of its place on cp.
  Stream layers(Tape& tape, const ModelBatch& batch, const std::shared_ptr<const SequencePass>& sequence,
                const RowShards& shards, const AttentionProbe& probe, Stream in);
  LossResult loss(Tape& tape, const ModelBatch& rows, const RowShards& shards, Stream left, double scale) const;
};

}  // namespace lexring
