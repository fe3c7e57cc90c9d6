#include "parallel/comm/gpu/device.h"

#include <sys/utsname.h>

#include <fstream>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "parallel/comm/gpu/cuda_link.h"
#include "parallel/comm/gpu/nccl.h"
#include "parallel/comm/gpu/staged_communicator.h"

namespace lexring {
namespace {

std::vector<std::string> everybodys(Communicator& world, const std::string& own) {
  std::vector<std::string> all;
  for (const auto& bytes : world.all_gather(std::as_bytes(std::span(own)))) {
    all.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return all;
}

/// The same in all containers of a machine, which may have host names of their own.
std::string name_of_machine() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  if (std::getline(file, boot) && !boot.empty()) return boot;
  utsname node{};
  uname(&node);
  return node.nodename;
}

std::string name_of_gpu(const Runtime& runtime) { return fmt::format("{} {}", name_of_machine(), bus_of(runtime)); }

}  // namespace

std::string shared_gpus(const std::vector<std::string>& names) {
  std::map<std::string, std::vector<std::size_t>> ranks_of;
  for (std::size_t rank = 0; rank < names.size(); ++rank) ranks_of[names[rank]].push_back(rank);
  const std::vector<std::size_t>* first = nullptr;
  for (const auto& [name, ranks] : ranks_of) {
    if (ranks.size() > 1 && (first == nullptr || ranks.front() < first->front())) first = &ranks;
  }
  if (first == nullptr) return "";
  const std::size_t shown = first->size() - 1;
  return fmt::format("ranks {} and {} share a GPU",
                     fmt::join(first->begin(), first->begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                     first->back());
}

DeviceWorld make_device_world(const std::shared_ptr<Communicator>& world, Runtime& runtime) {
  if (runtime.device().type == DeviceType::cpu) return {world, ""};
  if (world->size() == 1) return {make_self_communicator(world->name(), &runtime), ""};
  const std::string shared = shared_gpus(everybodys(*world, name_of_gpu(runtime)));
  // A rank without NCCL would leave the others waiting for it.
  std::int64_t built = nccl_version().empty() ? 0 : 1;
  world->all_reduce(std::span(&built, 1), Reduce::min);
  auto own = world->split(world->name(), 0);
  if (shared.empty() && built == 1)
    return {make_nccl_communicator(std::move(own), runtime, stream_of(runtime)),
            fmt::format("messages between GPUs: NCCL {}", nccl_version())};
  auto staging = std::make_shared<DeviceStaging>(runtime, make_side_copies(runtime));
  const std::string why =
      shared.empty() ? "this lexring was built without NCCL" : shared + ", and NCCL takes no two ranks on one";
  return {make_staged_communicator(std::move(own), std::move(staging)),
          fmt::format("messages between GPUs: MPI through host memory, because {}", why)};
}

}  // namespace lexring
