/// Where a model's parameters live: handles into the parameter store, and what each operation reads.
#pragma once

#include <vector>

#include "framework/nn/parameter_store.h"
#include "framework/ops/norm.h"
#include "models/config.h"

namespace lexring {

struct LinearWeights {
  Weight weight;
  Vector bias;  ///< absent without model.bias
};

/// One layer. Absent norms have an undefined weight.
struct LayerWeights {
  Norm attention_norm, attention_sub_norm, ffn_norm, ffn_sub_norm;
  LinearWeights qkv;  ///< rows: query, key, value
  LinearWeights output;
  LinearWeights ffn_in;  ///< gelu: up; swiglu: rows gate, up
  LinearWeights down;
};

struct ModelWeights {
  Vector embedding;  ///< [V, D] as looked up
  Vector learned;    ///< [max_length, D]; absent unless positions are learned
  std::vector<LayerWeights> layers;
  Norm norm;
  Weight output;  ///< [V, D] of the output projection; the embedding when tied
};

/// Declares and allocates all parameters in `store`.
ModelWeights make_weights(const ModelConfig& config, Backend& backend, Dtype master, Dtype working, ParameterStore& store);

}  // namespace lexring
