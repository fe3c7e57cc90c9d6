/// How the ranks that share a sequence should exchange keys and values: a ring, all-to-all, or ring x all-to-all.
/// (Whether a halo does instead of a ring says parallel/sequence/schedule.h.)
///
/// Arithmetic on shapes. What counts is the time that a layer's forward pass would wait:
/// - a ring of R passes K and V on R - 1 times, each behind the attention that is being computed: only what a hop
///   takes longer is waited for;
/// - all-to-all over U moves queries, keys and values, and outputs, in two exchanges that are waited for whole; it
///   needs U to divide the heads.
/// Sources of the byte counts: Liu et al. 2310.01889 (ring), Jacobs et al. 2309.14509 (all-to-all), Fang and Zhao
/// 2405.07719 (both).
#pragma once

#include <cstdint>
#include <string>

namespace lexring {

/// One attention layer of a replica, as the ranks of its cp group see it.
struct ExchangeShape {
  std::int64_t sequences = 1;  ///< of a micro-batch
  std::int64_t length = 1;     ///< tokens of each
  std::int64_t heads = 1;      ///< of one tp rank
  std::int64_t kv_heads = 1;   ///< of one tp rank
  std::int64_t head_width = 2;
  std::int64_t bytes = 4;   ///< of one element of K and V
  bool both_sides = false;  ///< queries see all keys, not only those before them: twice the attention
  int cp = 1;
  int cp_inside_node = 1;  ///< ranks of a cp group that one node holds; divides cp
};

/// Of one rank.
struct ExchangeSpeeds {
  double flops;    ///< floating-point operations per second of attention
  double node;     ///< bytes per second to a rank of the same node
  double network;  ///< bytes per second to another node
  double latency;  ///< seconds until a message begins to move
};

/// A core of today beside shared memory and a 10 Gbit/s network.
inline constexpr ExchangeSpeeds cpu_speeds = {1e11, 4e9, 1.25e9, 2e-5};

struct ExchangeChoice {
  int ulysses = 1;     ///< of cp = ring x ulysses
  std::string name;    ///< "none", "ring", "all-to-all", "ring x all-to-all"
  std::string reason;  ///< one sentence, with the figures it rests on
};

/// The best of all factors that fit, or the given one (`ulysses` > 0), with the reason. A factor fits when it divides
/// cp and so many ranks can share the heads (parallel/heads.h); what is chosen stays inside a node.
ExchangeChoice choose_exchange(const ExchangeShape& shape, const ExchangeSpeeds& speeds, int ulysses = 0);

}  // namespace lexring
