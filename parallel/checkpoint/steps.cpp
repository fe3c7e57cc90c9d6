#include "parallel/checkpoint/steps.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <span>
#include <system_error>

#include "framework/base/error.h"
#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/files.h"
#include "parallel/checkpoint/manifest.h"

namespace lexring {
namespace {

constexpr std::string_view prefix = "step-";
constexpr std::string_view aside = ".old";
constexpr std::string_view partial = ".partial";

struct StepName {
  std::int64_t step;
  std::string suffix;
};

std::optional<StepName> parse_name(const std::string& name) {
  if (!name.starts_with(prefix)) return std::nullopt;
  StepName parsed{};
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + prefix.size(), end, parsed.step);
  if (error != std::errc() || parsed.step < 0) return std::nullopt;
  parsed.suffix.assign(rest, end);
  return parsed;
}

bool is_complete(const std::filesystem::path& path) {
  std::error_code error;
  const auto parsed = parse_name(path.filename().string());
  return !(parsed && parsed->suffix == partial) && std::filesystem::is_regular_file(path / manifest_name, error);
}

std::vector<std::filesystem::path> entries(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::directory_iterator listing(directory, error);
  require(!error, "{}: cannot be listed: {}", directory.string(), error.message());
  return {begin(listing), end(listing)};
}

}  // namespace

std::string step_name(std::int64_t step) { return fmt::format("{}{:08}", prefix, step); }

std::filesystem::path partial_path(const std::filesystem::path& directory, std::int64_t step) {
  return directory / (step_name(step) + std::string(partial));
}

std::vector<std::pair<std::int64_t, std::filesystem::path>> complete_steps(const std::filesystem::path& directory) {
  std::vector<std::pair<std::int64_t, std::filesystem::path>> steps;
  for (const auto& path : entries(directory)) {
    const auto parsed = parse_name(path.filename().string());
    if (!parsed || !is_complete(path) || (!parsed->suffix.empty() && parsed->suffix != aside)) continue;
    if (parsed->suffix == aside && is_complete(directory / step_name(parsed->step))) continue;
    steps.emplace_back(parsed->step, path);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

void put_into_place(const std::filesystem::path& directory, std::int64_t step) {
  const auto place = directory / step_name(step);
  auto old = place;
  old += aside;
  if (std::filesystem::exists(place)) {
    if (std::filesystem::exists(old)) delete_step(old);
    rename_path(place, old);
  }
  rename_path(partial_path(directory, step), place);
  replace_text_file(directory / latest_name, step_name(step) + "\n");
  if (std::filesystem::exists(old)) delete_step(old);
}

void delete_step(const std::filesystem::path& step_directory) {
  if (std::filesystem::exists(step_directory / manifest_name)) {
    remove_tree(step_directory / manifest_name);
    sync_path(step_directory);
  }
  remove_tree(step_directory);
}

void delete_old_steps(const std::filesystem::path& directory, std::int64_t newest, std::int64_t keep) {
  for (const auto& path : entries(directory)) {
    const auto parsed = parse_name(path.filename().string());
    if (parsed && parsed->suffix == partial) delete_step(path);
  }
  if (keep == 0) return;
  std::int64_t others = 0;
  for (const auto& [step, path] : complete_steps(directory)) {
    if (step != newest && ++others >= keep) delete_step(path);
  }
}

std::optional<std::filesystem::path> find_checkpoint(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return std::nullopt;
  if (is_complete(path)) return path;
  if (std::filesystem::is_regular_file(path / latest_name, error)) {
    std::string name = read_text_file(path / latest_name);
    name.erase(name.find_last_not_of(" \r\n") + 1);
    if (parse_name(name) && name.find('/') == std::string::npos && is_complete(path / name)) return path / name;
  }
  const auto steps = complete_steps(path);
  if (steps.empty()) return std::nullopt;
  return steps.front().second;
}

std::optional<std::filesystem::path> find_checkpoint(Communicator& world, const std::filesystem::path& path) {
  std::string found;
  agree(world, [&] {
    if (world.rank() == 0) found = find_checkpoint(path).value_or("").string();
  });
  const auto all = world.all_gather(std::as_bytes(std::span(found)));
  if (all[0].empty()) return std::nullopt;
  return std::string(reinterpret_cast<const char*>(all[0].data()), all[0].size());
}

}  // namespace lexring
