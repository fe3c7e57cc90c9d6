/// Where a model's parameters live: handles into the parameter store, and what each operation reads.
#pragma once

#include <vector>

#include "framework/nn/parameter_store.h"
#include "framework/ops/head_norm.h"
#include "framework/ops/low_rank.h"
#include "framework/ops/norm.h"
#include "models/layer_range.h"
#include "models/parameter_row.h"
#include "parallel/comm/communicator.h"

namespace lexring {

struct LinearWeights {
  Weight weight;
  Vector bias;      ///< absent without model.bias (or model.qkv_bias)
  LowRank adapter;  ///< absent without one
};

/// One layer, this rank's part. Absent norms have an undefined weight.
struct LayerWeights {
  Norm attention_norm, attention_sub_norm, ffn_norm, ffn_sub_norm;
  LinearWeights qkv;     ///< rows: query, key, value
  HeadNorms head_norms;  ///< absent without model.qk_norm
  LinearWeights forget;  ///< [H, D] of all query heads, whatever is cut; absent without attention.forget_gate
  Vector ssmax;          ///< [H] of queries; absent without attention.ssmax
  LinearWeights output;
  LinearWeights ffn_in;  ///< up; swiglu: rows gate, up
  LinearWeights down;
};

struct ModelWeights {
  Vector embedding;  ///< [V, D] as looked up; absent without the embedding
  PositionParameters positions;
  std::vector<LayerWeights> layers;  ///< of the range
  Norm norm;                         ///< absent without the head, as is
  Weight output;                     ///< [V, D] of the output projection; the embedding when tied
};

/// Throws UsageError, naming what would work, unless `ranks` can share the model's layers: they must be able to
/// share its heads (parallel/heads.h) and divide the feed-forward width.
void check_tensor_parallel(const ModelConfig& config, int ranks);

/// Declares and allocates in `store` this rank's parts of all parameters of the range, whose plan is `plan`, cut over
/// `group` as it says. `held` says what is allocated for all of them at once.
ModelWeights make_weights(const ModelConfig& config, const LayerRange& range, const std::vector<ParameterRow>& plan,
                          const Communicator& group, Backend& backend, Dtype master, Dtype working, Held held,
                          ParameterStore& store);

}  // namespace lexring
