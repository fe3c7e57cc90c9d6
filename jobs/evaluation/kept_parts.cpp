#include "jobs/evaluation/kept_parts.h"

#include <array>
#include <span>

namespace lexring {
namespace {

/// What rank 0 has, on every rank.
std::vector<Part> share(Communicator& world, const std::vector<Part>& of_rank_0) {
  std::string lines;
  for (const Part& part : of_rank_0) lines += line_of(part) + "\n";
  std::array<std::int64_t, 1> size = {std::ssize(lines)};
  world.broadcast(std::as_writable_bytes(std::span(size)), 0);
  lines.resize(static_cast<std::size_t>(size[0]));
  world.broadcast(std::as_writable_bytes(std::span(lines)), 0);
  return parts_of(lines);
}

}  // namespace

KeptParts::KeptParts(Communicator& world, PartsFile* file) : world_(&world), file_(file) {
  stop_.emplace();
  for (Part& part : share(world, file != nullptr ? file->parts() : std::vector<Part>())) {
    if (part.first != reach(part.of)) continue;
    reach_[part.of] = part.last;
    there_[part.of].push_back(std::move(part));
  }
}

const std::vector<Part>& KeptParts::of(const std::string& cell) const {
  static const std::vector<Part> none;
  const auto found = there_.find(cell);
  return found == there_.end() ? none : found->second;
}

std::int64_t KeptParts::reach(const std::string& cell) const {
  const auto found = reach_.find(cell);
  return found == reach_.end() ? 0 : found->second;
}

void KeptParts::add(const Part& part) {
  reach_[part.of] = part.last;
  if (file_ != nullptr) file_->add(part);
}

void KeptParts::may_stop() const {
  if (world_ == nullptr) return;
  std::array<std::int64_t, 1> wishes = {stop_->received() ? 1 : 0};
  world_->all_reduce(std::span<std::int64_t>(wishes), Reduce::max);
  if (wishes[0] > 0) throw EvaluationStopped();
}

std::int64_t KeptParts::largest(std::int64_t number) const {
  if (world_ == nullptr) return number;
  std::array<std::int64_t, 1> most = {number};
  world_->all_reduce(std::span<std::int64_t>(most), Reduce::max);
  return most[0];
}

}  // namespace lexring
