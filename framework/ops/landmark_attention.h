/// Landmark attention (framework/attention/landmarks.h), made of calls of ordinary attention.
///
/// Of a query, with s the scores, block b before its own and landmark t_b of it:
///   lse_b = log sum over b of e^s,  o_b = sum over b of e^(s - lse_b) v
///   o = (sum over its own block of e^s v + sum over b of e^(s(t_b)) o_b) / e^lse
///   e^lse = sum over its own block of e^s + sum over b of e^(s(t_b))
/// Each round (landmarks.h) is a call whose keys are a block of every document, and one whose only key is the landmark,
/// so that its log-sum-exp is the landmark's score; the two are merged into the state of the whole. The last call meets
/// the own block. In backward a round's two calls are made again; then the weight of a key of b is
/// e^(s - (lse + lse_b - s(t_b))) and its delta that of o_b, do o_b; the weight of a landmark is e^(s(t_b) - lse), and
/// the gradient of its score that times (do o_b - do o). So all position methods, caps and biases are the kernels' own.
///
/// The statistics of a block are held while it is met, and never together. Memory: beside output and lse, two states
/// [N, H E] f32 forward; backward 3 x [N, H E] of the working dtype, and f32 accumulators of dq, dk, dv. Time: rounds
/// as many as blocks; in each the queries meet a block and a landmark, forward by one call each and backward by two,
/// and where a block is short beside a kernel's tile of keys, each call costs what a tile does.
#pragma once

#include "framework/attention/landmarks.h"
#include "framework/ops/attention.h"

namespace lexring {

/// N queries, M keys.
struct LandmarkCall {
  const AttentionForm& form;  ///< softmax
  const ScoreBias& bias;
  const LandmarkRows& queries;
  SharedRows keys;  ///< of all that the queries see, landmarks too
  Columns q;        ///< [N, H E]
  Columns k, v;     ///< [M, K E]
};

struct LandmarkResult {
  Tensor output;  ///< [N, H E] working dtype
  Tensor lse;     ///< [N, H] f32 (f64): of the own block and the landmarks before it
};
LandmarkResult landmark_forward(Backend& backend, const LandmarkCall& call);

/// Results, as in AttentionBackward.
struct LandmarkGradients {
  Columns dq, dk, dv;
  Tensor dby_distance;  ///< +=; undefined where the bias has no table
};
void landmark_backward(Backend& backend, const LandmarkCall& call, const LandmarkResult& result, const Tensor& doutput,
                       const LandmarkGradients& gradients);

/// [N, H E] = attention of rows to themselves; `keys`: all of them. Adjoint: dqkv, and the gradient of the bias's
/// table.
Var landmark_attention(Tape& tape, const AttentionForm& form, const std::shared_ptr<const LandmarkRows>& queries,
                       const SharedRows& keys, const BiasTerms& bias, const Var& qkv);

}  // namespace lexring
