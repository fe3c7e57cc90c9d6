/// What the parity grid runs: every mesh with every way to share a sequence, documents and optimizer state on it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "jobs/config/options.h"
#include "parallel/mesh.h"

namespace lexring::parity {

inline constexpr std::int64_t steps = 20;

struct Case {
  Mesh mesh;
  std::string partition = "zigzag";  ///< zigzag striped contiguous; "-" where a sequence is not shared
  std::string pattern = "causal";    ///< causal blockwise chunked window sink_window
  std::string far = "ring";          ///< how keys come from other ranks: ring halo
  bool documents = false;            ///< packed documents hide each other, and their last tokens have no target
  std::string shard = "none";        ///< none state gradients
  std::string model = "lex";         ///< a name of models(): what else varies with the cases
  std::int64_t length = 96;
  std::int64_t micro_batch = 0;
  std::string recompute = "none";
  std::string frozen = "";  ///< train.frozen

  /// Sequences per step: 8, or what dp divides.
  std::int64_t batch() const;
  /// "ring", "halo", "ring 2 x ulysses 2", ...; "-" where a sequence is not shared.
  std::string exchange() const;
  /// What one rank is to compute for comparison: the case without mesh, partition, sharding, micro-batches and
  /// recomputation.
  std::string reference() const;
  std::string describe() const;
};

/// Model names; each has 8 heads, 4 key and value heads, 2 layers, width 64, 257 tokens.
std::vector<std::string> models();

/// Every case on meshes of at most `ranks` processes, smaller meshes first.
std::vector<Case> all_cases(int ranks);
/// A selection that covers every mesh axis, partition, pattern, model, way of sharding, and a rank without tokens.
std::vector<Case> quick_cases(int ranks);

/// The configuration of a case's run. Throws UsageError where a key of it does not exist.
Options options_of(const Case& which, const std::string& directory);
/// The same on one rank.
Options reference_options_of(const Case& which, const std::string& directory);

}  // namespace lexring::parity
