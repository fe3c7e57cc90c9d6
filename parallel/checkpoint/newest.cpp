#include "parallel/checkpoint/newest.h"

#include <span>
#include <sstream>

#include <fmt/format.h>

#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/manifest.h"
#include "parallel/checkpoint/steps.h"

namespace lexring {
namespace {

/// The newest first.
std::vector<std::filesystem::path> candidates(const std::filesystem::path& directory) {
  const auto newest = find_checkpoint(directory);
  if (!newest) return {};
  std::vector<std::filesystem::path> found = {*newest};
  bool before = false;
  if (*newest == std::filesystem::canonical(directory)) return found;
  for (const auto& [step, path] : complete_steps(newest->parent_path())) {
    if (before) found.push_back(path);
    before = before || path == *newest;
  }
  return found;
}

/// Of rank 0, on all.
std::vector<std::filesystem::path> candidates(Communicator& world, const std::filesystem::path& directory) {
  std::string mine;
  agree(world, [&] {
    if (world.rank() != 0) return;
    for (const auto& path : candidates(directory)) mine += path.string() + '\0';
  });
  const auto all = world.all_gather(std::as_bytes(std::span(mine)));
  std::istringstream text(std::string(reinterpret_cast<const char*>(all[0].data()), all[0].size()));
  std::vector<std::filesystem::path> found;
  for (std::string path; std::getline(text, path, '\0');) found.emplace_back(path);
  return found;
}

/// What lies behind `newest` (or at all) and cannot be read because its manifest is gone.
std::string describe_without_manifest(const std::filesystem::path& directory, const CheckpointReader* newest) {
  std::string text;
  if (!std::filesystem::is_directory(directory)) return text;
  for (const auto& path : steps_without_manifest(directory, newest != nullptr ? newest->state().step : -1))
    text += fmt::format("{}{} has no {}", text.empty() ? "" : ", ", path.string(), manifest_name);
  return text;
}

}  // namespace

std::string damage_of(Communicator& world, const std::function<void()>& work) {
  std::string mine;
  agree(world, [&] {
    try {
      work();
    } catch (const DamagedCheckpoint& damage) {
      mine = damage.what();
    }
  });
  const auto all = world.all_gather(std::as_bytes(std::span(mine)));
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (!all[rank].empty()) return {reinterpret_cast<const char*>(all[rank].data()), all[rank].size()};
  }
  return "";
}

NewestWhole open_newest_whole(Communicator& world, const std::filesystem::path& directory) {
  NewestWhole result;
  for (const auto& path : candidates(world, directory)) {
    std::string damage = damage_of(world, [&] { result.reader.emplace(path); });
    if (damage.empty()) damage = result.reader->damage(world);
    if (damage.empty()) break;
    result.reader.reset();
    result.passed_over.push_back(damage);
  }
  if (!result.reader && !result.passed_over.empty()) throw DamagedCheckpoint(result.passed_over.front());
  agree(world, [&] {
    if (world.rank() != 0) return;
    const std::string lost = describe_without_manifest(directory, result.reader ? &*result.reader : nullptr);
    if (lost.empty()) return;
    require(result.reader.has_value(), "{}, and there is no other checkpoint; move it away to begin anew", lost);
    result.passed_over.push_back(lost);
  });
  return result;
}

std::optional<std::filesystem::path> find_newest_readable(Communicator& world, const std::filesystem::path& directory) {
  std::string found;
  agree(world, [&] {
    if (world.rank() != 0) return;
    const auto paths = candidates(directory);
    for (std::size_t i = 0; i < paths.size() && found.empty(); ++i) {
      try {
        found = CheckpointReader(paths[i]).path().string();
      } catch (const DamagedCheckpoint&) {
        if (i + 1 == paths.size()) throw;
      }
    }
  });
  const auto all = world.all_gather(std::as_bytes(std::span(found)));
  if (all[0].empty()) return std::nullopt;
  return std::string(reinterpret_cast<const char*>(all[0].data()), all[0].size());
}

}  // namespace lexring
