/// Landmark attention (framework/ops/landmark_attention.h) of rows that are spread over a ring of ranks. A block may
/// lie on several places, and its softmax must know all of it before a value is weighed: keys and values of all places
/// are gathered, and each place attends with its own queries. Any partition will do.
///
/// Of n rows of this place and M of all, W = K E: 2 W (M - n) elements of the working dtype arrive forward, and again
/// backward, where 2 W (M - n) f32 of gradients are sent besides. Memory: 2 W M of the working dtype meanwhile,
/// backward 4 W M f32 more; where memory is short, mesh.ulysses divides all of it.
#pragma once

#include <memory>

#include "framework/ops/landmark_attention.h"
#include "parallel/comm/communicator.h"
#include "parallel/sequence/partition.h"

namespace lexring {

/// What all layers of a kind share on one place of the ring, made once per batch.
struct LandmarkTables {
  std::shared_ptr<const Partition> partition;
  AttentionForm form;  ///< with the heads that this rank has
  LandmarkRows queries;
  SharedRows keys;  ///< the whole batch's
};

/// [N, H E] = attention of this place's rows [N, (H + 2K) E] (query, key, value) to those of all places. Collective
/// over `ring`, also for a place without rows. Adjoint: dqkv, and this place's part of the gradient of
/// bias.by_distance; collective too.
Var sequence_landmark_attention(Tape& tape, Communicator& ring, const std::shared_ptr<const LandmarkTables>& tables,
                                const BiasTerms& bias, const Var& qkv);

}  // namespace lexring
