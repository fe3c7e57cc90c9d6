/// The keys that say which processes do what, and on which device.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "framework/backend/cpu_backend.h"
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
  PartitionKind partition = PartitionKind::automatic;
  Exchange exchange = Exchange::automatic;
};
std::vector<Key> sequence_keys(SequenceKeys& sequence);

enum class DeviceChoice { automatic, reference, cpu, cuda };
constexpr auto words(DeviceChoice) {
  return std::to_array<Word<DeviceChoice>>({{DeviceChoice::automatic, "auto"},
                                            {DeviceChoice::reference, "reference"},
                                            {DeviceChoice::cpu, "cpu"},
                                            {DeviceChoice::cuda, "cuda"}});
}

/// A level of the CPU's kernels; none: the highest that all ranks have.
inline std::vector<Word<std::optional<CpuLevel>>> words(const std::optional<CpuLevel>&) {
  std::vector<Word<std::optional<CpuLevel>>> all = {{std::nullopt, "auto"}};
  for (const Word<CpuLevel>& word : words(CpuLevel())) all.push_back({word.value, word.text});
  return all;
}

/// The working precision that is asked for. automatic: the faster of bf16 and fp32, until the device is open; tf32:
/// fp32 with products in TF32 on a GPU.
enum class PrecisionChoice { automatic, bf16, tf32, fp32, fp64 };
constexpr auto words(PrecisionChoice) {
  return std::to_array<Word<PrecisionChoice>>({{PrecisionChoice::automatic, "auto"},
                                               {PrecisionChoice::bf16, "bf16"},
                                               {PrecisionChoice::tf32, "tf32"},
                                               {PrecisionChoice::fp32, "fp32"},
                                               {PrecisionChoice::fp64, "fp64"}});
}

/// Whose kernels compute attention on a GPU. automatic: own, until a GPU has shown that cuDNN's are right and faster.
enum class AttentionChoice { automatic, own, cudnn, hopper };
constexpr auto words(AttentionChoice) {
  return std::to_array<Word<AttentionChoice>>({{AttentionChoice::automatic, "auto"},
                                               {AttentionChoice::own, "own"},
                                               {AttentionChoice::cudnn, "cudnn"},
                                               {AttentionChoice::hopper, "hopper"}});
}

/// What computes, and how it is looked after.
struct DeviceKeys {
  DeviceChoice device = DeviceChoice::automatic;
  std::optional<CpuLevel> isa = std::nullopt;  ///< of a CPU
  AttentionChoice attention = AttentionChoice::automatic;
  bool check_launches = false;  ///< of a GPU: wait for every kernel, so that errors name theirs
};
std::vector<Key> device_keys(DeviceKeys& device);

/// Sequences that a replica computes at a time and their length: what the choice between exchanges rests on.
struct WorkShape {
  std::int64_t sequences = 1;
  std::int64_t length = 1;
  std::int64_t bytes = 4;  ///< of one element in working precision
};

}  // namespace lexring
