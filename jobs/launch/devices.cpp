#include "jobs/launch/devices.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "framework/backend/cuda_backend.h"
#include "framework/base/console.h"
#include "framework/base/error.h"
#include "framework/base/process_memory.h"
#include "jobs/config/mesh_keys.h"
#include "jobs/launch/nodes.h"
#include "jobs/launch/same_program.h"
#include "parallel/comm/gpu/device.h"

namespace lexring {
namespace {

/// The level of `isa`, or the highest that every rank has. Collective.
CpuLevel agree_on_level(const std::optional<CpuLevel>& isa, const std::vector<std::string>& nodes,
                        Communicator& world) {
  if (isa) return *isa;
  const auto own = static_cast<char>(cpu_levels().back());
  const std::vector<std::string> all = gather_texts(world, std::string_view(&own, 1));
  const auto lowest = std::min_element(all.begin(), all.end());
  const auto level = static_cast<CpuLevel>(lowest->front());
  if (world.rank() == 0 && *lowest != *std::max_element(all.begin(), all.end())) {
    const auto rank = static_cast<std::size_t>(lowest - all.begin());
    say("cpu.isa = {} on all ranks: rank {} on {} has no more\n", name_of(level), rank, nodes[rank]);
  }
  return level;
}

CudaAttention attention_of(const DeviceKeys& keys) {
  switch (keys.attention) {
    case AttentionChoice::cudnn:
      return CudaAttention::cudnn;
    case AttentionChoice::hopper:
      return CudaAttention::hopper;
    case AttentionChoice::automatic:
    case AttentionChoice::own:
      break;
  }
  return CudaAttention::own;
}

/// `automatic` becomes bf16 or fp32.
void choose_precision(PrecisionChoice& precision, const Backend& backend, bool speaks) {
  if (precision != PrecisionChoice::automatic) return;
  precision = backend.prefers_bf16() ? PrecisionChoice::bf16 : PrecisionChoice::fp32;
  if (speaks)
    say("train.precision = {}: {} multiplies bf16 {}\n", name_of(precision), backend.describe(),
        backend.prefers_bf16() ? "faster than f32" : "no faster than f32");
}

}  // namespace

std::unique_ptr<Backend> make_backend(const DeviceKeys& keys, PrecisionChoice precision, int local_rank) {
  const auto make_cpu = [&] { return keys.isa ? make_cpu_backend(*keys.isa) : make_cpu_backend(); };
  if (keys.device == DeviceChoice::reference) return make_reference_backend();
  if (keys.device == DeviceChoice::cpu) return make_cpu();
  const CudaDevices devices = cuda_devices();
  if (devices.count > 0)
    return make_cuda_backend(local_rank % devices.count,
                             {.f32 = precision == PrecisionChoice::tf32 ? F32Products::tf32 : F32Products::full,
                              .attention = attention_of(keys),
                              .check_launches = keys.check_launches});
  if (keys.device == DeviceChoice::cuda) return make_cuda_backend(0);  // says why there is none
  if (cuda_is_built_in() && local_rank == 0)
    say("built with CUDA, but no device was found ({}): using cpu\n", devices.why_none);
  return make_cpu();
}

RunDevice open_device(const DeviceKeys& keys, PrecisionChoice& precision, const std::shared_ptr<Communicator>& world) {
  const std::vector<std::string> nodes = gather_nodes(*world);
  const auto own = nodes.begin() + world->rank();
  DeviceKeys agreed = keys;
  if (keys.device != DeviceChoice::reference) agreed.isa = agree_on_level(keys.isa, nodes, *world);
  auto backend = make_backend(agreed, precision, static_cast<int>(std::count(nodes.begin(), own, *own)));
  const std::vector<std::string> backends = gather_texts(*world, backend->name());
  const auto other = std::find_if(backends.begin(), backends.end(),
                                  [&](const std::string& theirs) { return theirs != backends.front(); });
  if (other != backends.end()) {
    const auto rank = static_cast<std::size_t>(other - backends.begin());
    throw UsageError(
        fmt::format("device = {} is {} on {} (rank 0), but {} on {} (rank {}); mend that node, or choose --device cpu",
                    name_of(keys.device), backends.front(), nodes.front(), *other, nodes[rank], rank));
  }
  require_same_program(*world);  // where a device is missing, that has been said
  DeviceWorld device = make_device_world(world, backend->runtime());
  if (world->rank() == 0 && !device.description.empty()) say("{}\n", device.description);
  if (world->rank() == 0 && backend->name() == "cuda") {
    if (attention_of(keys) == CudaAttention::cudnn)
      say("attention: cuDNN's kernels where it has one for a call, else our own\n");
    if (attention_of(keys) == CudaAttention::hopper)
      say("attention: forward by our kernel for Hopper, which has never run on a device, where it computes a call\n");
  }
  choose_precision(precision, *backend, world->rank() == 0);
  return {std::move(backend), std::move(device.world)};
}

double free_memory(const Runtime& runtime, Communicator& world) {
  const Device device = runtime.device();
  const bool gpu = device.type == DeviceType::cuda;
  std::vector<std::string> places = gather_nodes(world);
  if (gpu)
    places = gather_texts(world, fmt::format("{} {}", places[static_cast<std::size_t>(world.rank())], device.index));
  const auto own = places.begin() + world.rank();
  const auto sharing = static_cast<double>(std::count(places.begin(), places.end(), *own));
  const double free = gpu ? static_cast<double>(free_cuda_memory(device.index)) : available_memory_mib() * (1 << 20);
  std::array<double, 1> least = {free / sharing};
  world.all_reduce(std::span<double>(least), Reduce::min);
  return least[0];
}

}  // namespace lexring
