/// Small models and batches for tests of models.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/transformer.h"

namespace lexring {

/// 2 layers, width 16, 4 heads of 4, 23 tokens.
ModelConfig small_config(const std::string& position = "xpos", const std::string& pattern = "causal");

/// Causal attention with landmarks, which one token in five is.
ModelConfig landmark_config(const std::string& position = "rope");

/// Tokens and targets without structure, some targets not counted. With `documents`, some begin inside the sequences.
ModelBatch small_batch(std::int64_t sequences, std::int64_t length, std::int64_t vocab, bool documents,
                       std::int64_t sinks = 0);

/// A model with the context and backend it lives on; weights larger than a real initialisation, so that everything
/// matters.
struct SmallModel {
  SmallModel(const ModelConfig& config, const ModelRuntime& how,
             std::unique_ptr<Backend> device = make_reference_backend());
  Context context;
  std::unique_ptr<Backend> backend;
  Transformer model;
};

void zero_gradients(Transformer& model);

std::vector<double> host_values(const Tensor& tensor);

}  // namespace lexring
