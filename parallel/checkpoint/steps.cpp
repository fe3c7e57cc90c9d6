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
constexpr std::string_view deleted = ".deleted";
constexpr std::string_view abandoned = ".abandoned-at-";  // and the step that the run went back to

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

/// Not there is an answer; not readable is none: a checkpoint must not be passed over in silence.
bool has_manifest(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path / manifest_name, error);
  const bool known = std::filesystem::status_known(status);
  require(known, "{}: cannot be read: {}; see to its permissions, or name another checkpoint", path.string(),
          error.message());
  return std::filesystem::is_regular_file(status);
}

bool is_complete(const std::filesystem::path& path) {
  const auto parsed = parse_name(path.filename().string());
  return !(parsed && (parsed->suffix == partial || parsed->suffix.ends_with(deleted))) && has_manifest(path);
}

std::vector<std::filesystem::path> entries(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::directory_iterator listing(directory, error);
  require(!error, "{}: cannot be listed: {}", directory.string(), error.message());
  return {begin(listing), end(listing)};
}

/// The step that an abandoned checkpoint's run went back to.
std::optional<std::int64_t> fork_of(const StepName& name) {
  if (!name.suffix.starts_with(abandoned)) return std::nullopt;
  std::int64_t fork = 0;
  const auto [rest, error] =
      std::from_chars(name.suffix.data() + abandoned.size(), name.suffix.data() + name.suffix.size(), fork);
  return error == std::errc() ? std::optional(fork) : std::nullopt;
}

/// Whether the steps just before a checkpoint were skipped; nullopt when its manifest cannot be read.
std::optional<bool> ends_in_skipped_steps(const std::filesystem::path& path) {
  try {
    return read_manifest(path).state.skipped_in_a_row > 0;
  } catch (const Error&) {
    return std::nullopt;
  }
}

void name_latest(const std::filesystem::path& directory, const std::string& name) {
  replace_text_file(directory / latest_name, name + "\n");
}

/// `path`, or with -2, -3, ... behind it when there is one of that name.
std::filesystem::path free_name(const std::filesystem::path& path) {
  auto name = path;
  for (int number = 2; std::filesystem::exists(name); ++number) name = path.string() + "-" + std::to_string(number);
  return name;
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

std::vector<std::filesystem::path> steps_without_manifest(const std::filesystem::path& directory, std::int64_t step) {
  std::vector<std::filesystem::path> found;
  for (const auto& path : entries(directory)) {
    const auto parsed = parse_name(path.filename().string());
    if (parsed && parsed->suffix.empty() && parsed->step > step && !has_manifest(path)) found.push_back(path);
  }
  return found;
}

void put_into_place(const std::filesystem::path& directory, std::int64_t step) {
  const auto place = directory / step_name(step);
  auto old = place;
  old += aside;
  name_latest(directory, step_name(step));
  if (std::filesystem::exists(place)) {
    if (std::filesystem::exists(old)) delete_step(old);
    rename_path(place, old);
  }
  rename_path(partial_path(directory, step), place);
  if (std::filesystem::exists(old)) delete_step(old);
}

void delete_step(const std::filesystem::path& step_directory) {
  auto rest = step_directory;
  if (std::filesystem::exists(step_directory / manifest_name)) {
    if (!rest.string().ends_with(deleted))
      rest += deleted;  // should we end while the files go, the name says what they are
    if (rest != step_directory) {
      remove_tree(rest);
      rename_path(step_directory, rest);
    }
    remove_tree(rest / manifest_name);
    sync_path(rest);
  }
  remove_tree(rest);
}

void delete_old_steps(const std::filesystem::path& directory, std::int64_t newest, std::int64_t keep) {
  if (keep == 0) return;
  std::int64_t good = 0;
  for (const auto& [step, path] : complete_steps(directory)) {
    const auto skipped = ends_in_skipped_steps(path);
    if (step > newest || !skipped) continue;
    if (step != newest && (*skipped || good >= keep)) delete_step(path);
    if (!*skipped) ++good;
  }
}

void delete_debris(const std::filesystem::path& directory) {
  for (const auto& path : entries(directory)) {
    const auto parsed = parse_name(path.filename().string());
    if (!parsed) continue;
    const bool replaced = parsed->suffix == aside && is_complete(directory / step_name(parsed->step));
    if (parsed->suffix == partial || parsed->suffix.ends_with(deleted) || replaced) delete_step(path);
  }
}

Branch go_on_from(const std::filesystem::path& checkpoint) {
  const auto directory = checkpoint.parent_path();
  const auto parsed = parse_name(checkpoint.filename().string());
  const std::int64_t step = parsed ? parsed->step : read_manifest(checkpoint).state.step;
  const std::int64_t fork = parsed ? fork_of(*parsed).value_or(step) : step;
  Branch branch{checkpoint, {}, fmt::format("{}{:08}", abandoned, fork)};
  if (parsed) name_latest(directory, checkpoint.filename().string());
  for (const auto& [other, path] : complete_steps(directory)) {
    if (other <= fork || path == checkpoint) continue;
    branch.set_aside.push_back(path.filename().string());
    rename_path(path, free_name(directory / (step_name(other) + branch.set_aside_as)));
  }
  if (!parsed || parsed->suffix.empty()) return branch;
  branch.checkpoint = directory / step_name(step);
  rename_path(checkpoint, branch.checkpoint);
  name_latest(directory, step_name(step));
  return branch;
}

std::optional<std::filesystem::path> find_checkpoint(const std::filesystem::path& given) {
  std::error_code error;
  const auto status = std::filesystem::status(given, error);
  require(std::filesystem::status_known(status), "{}: cannot be read: {}; see to its permissions", given.string(),
          error.message());
  if (!std::filesystem::is_directory(status)) return std::nullopt;
  const auto path =
      std::filesystem::canonical(given);  // "." and "run/step-00000004/" have a last name, and a link the one it means
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
