#include "jobs/training/stragglers.h"

#include <algorithm>
#include <cstring>
#include <span>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "jobs/launch/nodes.h"

namespace lexring {
namespace {

constexpr std::int64_t first_steps = 2;  // they allocate and compile kernels
constexpr double noticed_share = 0.1;
constexpr std::size_t named = 3;

std::vector<RankTime> gather(Communicator& world, const RankTime& mine) {
  std::vector<RankTime> all;
  for (const auto& bytes : world.all_gather(std::as_bytes(std::span(&mine, 1))))
    std::memcpy(&all.emplace_back(), bytes.data(), sizeof(RankTime));
  return all;
}

}  // namespace

std::vector<SlowRank> slow_ranks(const std::vector<RankTime>& times) {
  std::vector<double> own;
  for (const RankTime& time : times) own.push_back(time.seconds - time.waited);
  std::vector<double> sorted = own;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>((sorted.size() - 1) / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  std::vector<SlowRank> slow;
  for (std::size_t r = 0; r < times.size(); ++r) {
    const double share = (own[r] - *middle) / times[r].seconds;
    if (share > noticed_share) slow.push_back({static_cast<int>(r), share, own[r] / *middle});
  }
  std::sort(slow.begin(), slow.end(), [](const SlowRank& a, const SlowRank& b) { return a.share > b.share; });
  return slow;
}

StragglerWatch::StragglerWatch(const Context& context, Window window)
    : context_(&context), window_(window), nodes_(gather_nodes(context.world())), steps_(-first_steps) {}

double StragglerWatch::held_up() const {
  double sum = 0;
  for (const Communicator* group : context_->groups()) {
    for (const CommRecord& record : group->records()) sum += record.exposed;
  }
  return sum;
}

std::optional<std::string> StragglerWatch::after_step(std::int64_t step) {
  if (context_->world().size() == 1) return std::nullopt;
  const auto now = std::chrono::steady_clock::now();
  if (++steps_ <= 0) {
    since_ = now, waited_before_ = held_up();
    return std::nullopt;
  }
  if (steps_ % window_.steps != 0) return std::nullopt;
  const double waited = held_up();
  const std::vector<RankTime> times =
      gather(context_->world(), {std::chrono::duration<double>(now - since_).count(), waited - waited_before_});
  if (times[0].seconds < window_.seconds) return std::nullopt;

  const std::vector<SlowRank> slow = slow_ranks(times);
  const std::int64_t first = step - steps_ + 1;
  steps_ = 0, since_ = now, waited_before_ = waited;
  std::vector<int> ranks;
  for (const SlowRank& one : slow) ranks.push_back(one.rank);
  std::sort(ranks.begin(), ranks.end());
  if (ranks == slow_) return std::nullopt;
  slow_ = ranks;
  if (slow.empty()) return fmt::format("in steps {} to {} no rank was slow any more", first, step);
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < std::min(slow.size(), named); ++i) {
    const SlowRank& one = slow[i];
    texts.push_back(
        fmt::format("rank {} on {} took {:.2f} times as long as the median rank, so that others waited {:.0f} "
                    "% of the time",
                    one.rank, nodes_[static_cast<std::size_t>(one.rank)], one.factor, 100 * one.share));
  }
  if (slow.size() > named) texts.push_back(fmt::format("and {} more were slow", slow.size() - named));
  return fmt::format("in steps {} to {} {}", first, step, fmt::join(texts, ", "));
}

}  // namespace lexring
