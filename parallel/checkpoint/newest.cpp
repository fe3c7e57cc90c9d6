#include "parallel/checkpoint/newest.h"

#include <span>
#include <sstream>
#include <utility>

#include <fmt/format.h>

#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/files.h"
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

/// Rank 0's, on every rank.
std::string share(Communicator& world, const std::string& text) {
  const auto all = world.all_gather(std::as_bytes(std::span(world.rank() == 0 ? text : std::string())));
  return {reinterpret_cast<const char*>(all[0].data()), all[0].size()};
}

/// Those that rank 0 finds.
std::vector<std::filesystem::path> candidates(Communicator& world, const std::filesystem::path& directory) {
  std::string mine;
  agree(world, [&] {
    if (world.rank() != 0) return;
    for (const auto& path : candidates(directory)) mine += path.string() + '\0';
  });
  std::istringstream text(share(world, mine));
  std::vector<std::filesystem::path> found;
  for (std::string path; std::getline(text, path, '\0');) found.emplace_back(path);
  return found;
}

/// What rank 0 reads of a checkpoint before its tensors.
struct Texts {
  std::string manifest, tokenizer;
};

Texts read_texts(const std::filesystem::path& step) {
  Texts texts{read_text_file(step / manifest_name), ""};
  texts.tokenizer = read_tokenizer_files(step, manifest_from_text(texts.manifest, (step / manifest_name).string()));
  return texts;
}

CheckpointReader share(Communicator& world, const std::filesystem::path& step, const Texts& texts) {
  Manifest manifest = manifest_from_text(share(world, texts.manifest), (step / manifest_name).string());
  manifest.state.tokenizer.files = share(world, texts.tokenizer);
  return {step, std::move(manifest)};
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

CheckpointReader open_for_all(Communicator& world, const std::filesystem::path& step) {
  Texts texts;
  agree(world, [&] {
    if (world.rank() == 0) texts = read_texts(step);
  });
  return share(world, step, texts);
}

NewestWhole open_newest_whole(Communicator& world, const std::filesystem::path& directory) {
  NewestWhole result;
  for (const auto& path : candidates(world, directory)) {
    Texts texts;
    std::string damage = damage_of(world, [&] {
      if (world.rank() == 0) texts = read_texts(path);
    });
    if (damage.empty()) damage = result.reader.emplace(share(world, path, texts)).damage(world);
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

std::optional<std::filesystem::path> newest_readable(const std::filesystem::path& directory) {
  const auto paths = candidates(directory);
  for (std::size_t i = 0; i < paths.size(); ++i) {
    try {
      return CheckpointReader(paths[i]).path();
    } catch (const DamagedCheckpoint&) {
      if (i + 1 == paths.size()) throw;
    }
  }
  return std::nullopt;
}

std::optional<std::filesystem::path> find_newest_readable(Communicator& world, const std::filesystem::path& directory) {
  std::string found;
  agree(world, [&] {
    if (world.rank() == 0) found = newest_readable(directory).value_or("").string();
  });
  found = share(world, found);
  return found.empty() ? std::nullopt : std::optional<std::filesystem::path>(found);
}

}  // namespace lexring
