/// The keys that say which processes do what, and on which device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "jobs/config/keys.h"
#include "parallel/sequence/schedule.h"

namespace lexring {

struct MeshKeys {
  std::int64_t dp = 0;  ///< 0: what is left
  std::int64_t cp = 1, tp = 1;
  std::int64_t ulysses = 0;  ///< 0: chosen from the shape
  bool tp_across_nodes = false;
};
std::vector<Key> mesh_keys(MeshKeys& mesh);

struct SequenceKeys {
  std::string partition = "auto";  ///< auto zigzag contiguous striped
  std::string exchange = "auto";   ///< auto ring halo
};
std::vector<Key> sequence_keys(SequenceKeys& sequence);

/// What "auto" means for keys that are given.
PartitionKind partition_named(const std::string& name);
Exchange exchange_named(const std::string& name);

/// What computes: a device, and on a CPU the level of vector instructions.
struct DeviceKeys {
  std::string name = "auto";  ///< auto reference cpu cuda
  std::string isa = "auto";   ///< auto, or a CpuLevel
};
std::vector<Key> device_keys(DeviceKeys& device);

/// Sequences that a replica computes at a time and their length: what the choice between exchanges rests on.
struct WorkShape {
  std::int64_t sequences = 1;
  std::int64_t length = 1;
  std::int64_t bytes = 4;  ///< of one element in working precision
};

}  // namespace lexring
