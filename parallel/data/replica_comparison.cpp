#include "parallel/data/replica_comparison.h"

#include <xxhash.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <span>

namespace lexring {
namespace {

using Hashes = std::vector<std::uint64_t>;

struct HashState {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

/// Of memory that the host cannot read, piece by piece.
std::uint64_t hash_on_device(const Tensor& data) {
  constexpr std::size_t piece = std::size_t{8} << 20;
  const std::unique_ptr<XXH3_state_t, HashState> state(XXH3_createState());
  require(state != nullptr && XXH3_64bits_reset(state.get()) == XXH_OK, "no memory for a hash of parameters");
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(std::min(piece, data.bytes()));
  for (std::size_t at = 0; at < data.bytes(); at += piece) {
    const std::size_t bytes = std::min(piece, data.bytes() - at);
    data.runtime().copy_to_host(buffer.get(), data.raw() + at, bytes);
    data.runtime().synchronise();
    XXH3_64bits_update(state.get(), buffer.get(), bytes);
  }
  return XXH3_64bits_digest(state.get());
}

std::uint64_t hash_of(const Tensor& data) {
  const bool host = data.runtime().device().type == DeviceType::cpu;
  return host ? XXH3_64bits(data.raw(), data.bytes()) : hash_on_device(data);
}

std::vector<Hashes> gather(Communicator& world, const Hashes& mine) {
  std::vector<Hashes> all;
  for (const auto& bytes : world.all_gather(std::as_bytes(std::span(mine)))) {
    all.emplace_back(bytes.size() / sizeof(std::uint64_t));
    if (!bytes.empty()) std::memcpy(all.back().data(), bytes.data(), bytes.size());
  }
  return all;
}

/// The ranks of world that hold the same part, of what has so many copies in tp: neighbours there, in every replica.
std::vector<std::vector<int>> holders(const Mesh& mesh, int copies) {
  std::map<int, std::vector<int>> groups;
  for (int rank = 0; rank < mesh.ranks(); ++rank) groups[mesh.coordinate(rank, Axis::tp) / copies].push_back(rank);
  std::vector<std::vector<int>> all;
  for (auto& [part, ranks] : groups) all.push_back(std::move(ranks));
  return all;
}

/// Of some ranks' hashes, the one that more than half of them have.
std::optional<std::uint64_t> majority(const std::vector<int>& ranks, const std::vector<Hashes>& hashes,
                                      std::size_t index) {
  std::map<std::uint64_t, std::size_t> votes;
  for (const int rank : ranks) {
    const std::uint64_t hash = hashes[static_cast<std::size_t>(rank)].at(index);
    if (2 * ++votes[hash] > ranks.size()) return hash;
  }
  return std::nullopt;
}

bool all_equal(const std::vector<int>& ranks, const std::vector<Hashes>& hashes, std::size_t index) {
  return std::all_of(ranks.begin(), ranks.end(), [&](int rank) {
    return hashes[static_cast<std::size_t>(rank)].at(index) ==
           hashes[static_cast<std::size_t>(ranks.front())].at(index);
  });
}

/// Who holds what the others do not.
Drift find_drift(const Mesh& mesh, const std::vector<ReplicatedPart>& parts, const std::vector<Hashes>& hashes) {
  Drift drift;
  std::set<int> outvoted;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    for (const std::vector<int>& ranks : holders(mesh, parts[i].copies)) {
      if (all_equal(ranks, hashes, i)) continue;
      const auto most = majority(ranks, hashes, i);
      if (drift.name.empty()) drift = {parts[i].name, {}, ranks, most.has_value()};
      for (const int rank : ranks) {
        if (most && hashes[static_cast<std::size_t>(rank)][i] != *most) outvoted.insert(rank);
      }
    }
  }
  if (outvoted.empty()) drift.ranks.swap(drift.others);
  else drift.ranks.assign(outvoted.begin(), outvoted.end());
  std::erase_if(drift.others, [&](int rank) { return outvoted.contains(rank); });
  drift.outvoted = !outvoted.empty();
  return drift;
}

}  // namespace

std::vector<ReplicatedPart> replicated_parts(const std::vector<Parameter>& parameters) {
  std::vector<ReplicatedPart> parts;
  for (const Parameter& parameter : parameters) {
    const Tensor &value = parameter.value, &compute = parameter.compute;
    if (value.defined()) parts.push_back({parameter.name, value, parameter.copies});
    const bool rewritten = value.defined() && parameter.gradient.defined();
    const bool own = compute.defined() && !(value.defined() && value.raw() == compute.raw());
    if (own && !rewritten) parts.push_back({parameter.name, compute, parameter.copies});
  }
  return parts;
}

std::optional<Drift> compare_replicas(const Context& context, const std::vector<ReplicatedPart>& all) {
  const Mesh& mesh = context.mesh();
  std::vector<ReplicatedPart> parts;
  for (const ReplicatedPart& part : all) {
    if (context.replicas().size() * part.copies > 1) parts.push_back(part);
  }
  if (parts.empty()) return std::nullopt;
  Hashes hashes;
  std::map<int, Hashes> by_copies;
  for (const ReplicatedPart& part : parts) {
    hashes.push_back(hash_of(part.data));
    by_copies[part.copies].push_back(hashes.back());
  }
  Hashes summary;
  for (const auto& [copies, some] : by_copies)
    summary.push_back(XXH3_64bits(some.data(), some.size() * sizeof(std::uint64_t)));
  const std::vector<Hashes> summaries = gather(context.world(), summary);
  bool same = true;
  std::size_t index = 0;
  for (const auto& [copies, some] : by_copies) {
    for (const std::vector<int>& ranks : holders(mesh, copies)) same = same && all_equal(ranks, summaries, index);
    ++index;
  }
  if (same) return std::nullopt;
  return find_drift(mesh, parts, gather(context.world(), hashes));
}

}  // namespace lexring
