#include "jobs/evaluation/window_sums.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <span>

#include "framework/base/error.h"

namespace lexring {
namespace {

std::size_t segment_at(const std::vector<std::int64_t>& ends, std::int64_t token) {
  return static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), token) - ends.begin());
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& values) {
  to.insert(to.end(), values.begin(), values.end());
}

/// Adds the values at `from` on, one to each of `to`; where they end.
template <class T, class Values>
Values add_to(std::vector<T>& to, std::size_t first, std::size_t count, Values from) {
  for (std::size_t i = 0; i < count; ++i) to[first + i] += *from++;
  return from;
}

}  // namespace

WindowSums::WindowSums(const Dataset& dataset, const std::vector<std::int64_t>& segment_ends, std::int64_t length,
                       std::int64_t first, std::int64_t last)
    : dataset_(&dataset),
      ends_(&segment_ends),
      length_(length),
      first_(first),
      last_(last),
      first_segment_(segment_at(segment_ends, first * length)),
      buckets_(position_buckets(length)),
      bucket_nll_(buckets_.size()),
      bucket_tokens_(buckets_.size()) {
  const std::size_t segments = segment_at(segment_ends, last * length - 1) + 1 - first_segment_;
  segment_nll_.resize(segments);
  segment_tokens_.resize(segments);
}

void WindowSums::add(std::int64_t token, std::int64_t position, const double* row_nll, const std::int32_t* targets,
                     std::int64_t rows) {
  auto bucket = static_cast<std::size_t>(std::upper_bound(buckets_.begin(), buckets_.end(), position,
                                                          [](std::int64_t p, const auto& b) { return p < b.second; }) -
                                         buckets_.begin());
  std::size_t segment = segment_at(*ends_, token);
  for (std::int64_t i = 0; i < rows; ++i) {
    if (token + i >= (*ends_)[segment]) ++segment;
    if (position + i >= buckets_[bucket].second) ++bucket;
    if (targets[i] < 0) continue;
    segment_nll_[segment - first_segment_] += row_nll[i];
    segment_tokens_[segment - first_segment_] += 1;
    bucket_nll_[bucket] += row_nll[i];
    bucket_tokens_[bucket] += 1;
    nll_ += row_nll[i];
    bytes_ += dataset_->token_bytes()[static_cast<std::size_t>(targets[i])];
    if (!std::isfinite(row_nll[i])) not_finite_ += 1;
  }
}

void WindowSums::reduce(Communicator& ranks) {
  Part part = this->part("", 0, 0);
  ranks.all_reduce(std::span<double>(part.numbers), Reduce::sum);
  ranks.all_reduce(std::span<std::int64_t>(part.counts), Reduce::sum);
  WindowSums sum(*dataset_, *ends_, length_, first_, last_);
  sum.add(part);
  *this = std::move(sum);
}

Part WindowSums::part(const std::string& of, double seconds, double peak_mib) const {
  Part part{of, first_, last_, segment_nll_, segment_tokens_};
  append(part.numbers, bucket_nll_);
  append(part.numbers, {nll_, seconds, peak_mib});
  append(part.counts, bucket_tokens_);
  append(part.counts, {bytes_, not_finite_});
  return part;
}

void WindowSums::add(const Part& part) {
  const std::size_t first = segment_at(*ends_, part.first * length_);
  const std::size_t count = segment_at(*ends_, part.last * length_ - 1) + 1 - first;
  require(part.first >= first_ && part.last <= last_ && part.numbers.size() == count + buckets_.size() + 3 &&
              part.counts.size() == count + buckets_.size() + 2,
          "the windows {} to {} of {}, which were kept, are not those that are measured; begin anew with --overwrite",
          part.first, part.last, part.of);
  auto number = add_to(segment_nll_, first - first_segment_, count, part.numbers.begin());
  number = add_to(bucket_nll_, 0, buckets_.size(), number);
  nll_ += *number++;
  seconds_ += *number++;
  peak_mib_ = std::max(peak_mib_, *number);
  auto tally = add_to(segment_tokens_, first - first_segment_, count, part.counts.begin());
  tally = add_to(bucket_tokens_, 0, buckets_.size(), tally);
  bytes_ += *tally++;
  not_finite_ += *tally;
}

Cell WindowSums::cell() const {
  Cell cell;
  cell.length = length_;
  cell.segments = {segment_nll_, segment_tokens_};
  cell.tokens = std::accumulate(segment_tokens_.begin(), segment_tokens_.end(), std::int64_t{0});
  cell.not_finite = not_finite_;
  cell.bits_per_byte =
      bytes_ > 0 ? nll_ / std::numbers::ln2 / static_cast<double>(bytes_) : std::numeric_limits<double>::quiet_NaN();
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    if (bucket_tokens_[i] == 0) continue;
    cell.by_position.push_back({buckets_[i].first, buckets_[i].second, bucket_tokens_[i],
                                bucket_nll_[i] / static_cast<double>(bucket_tokens_[i])});
  }
  cell.seconds = seconds_;
  cell.tokens_per_second = static_cast<double>((last_ - first_) * length_) / seconds_;
  cell.peak_mib = peak_mib_;
  return cell;
}

}  // namespace lexring
