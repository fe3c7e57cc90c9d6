#include "datasets/batches.h"

#include <algorithm>
#include <bit>
#include <span>

#include "framework/base/counted.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

constexpr std::uint64_t golden_ratio = 0x9e3779b97f4a7c15u;

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): every input bit reaches every output bit.
std::uint64_t mix(std::uint64_t x) {
  x += golden_ratio;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Leaves of the tokens first, first + 1, ... only those of answers; others become -1.
void keep_answers(const std::vector<std::uint64_t>& answers, std::int64_t first, std::span<std::int32_t> tokens) {
  const auto begin = static_cast<std::uint64_t>(first), end = begin + tokens.size();
  // Borders rise: an odd number of them up to a token, and it is within an answer.
  auto border = std::upper_bound(answers.begin(), answers.end(), begin);
  for (std::uint64_t token = begin; token < end; ++token) {
    while (border != answers.end() && *border <= token) ++border;
    if ((border - answers.begin()) % 2 == 0) tokens[token - begin] = -1;
  }
}

/// Of a window's tokens and the two behind it, -1 where the stream ends before: the token after each. The one before a
/// landmark has the one after it, and the landmark none, as in the authors' language model.
void fill_targets(const Dataset& dataset, std::int64_t first, const std::vector<std::int32_t>& tokens,
                  std::span<std::int32_t> targets) {
  const bool landmarks = dataset.landmarks().every > 0;
  const auto landmark = static_cast<std::int32_t>(dataset.vocab());
  std::vector<std::int32_t> of_answers;
  if (!dataset.answers().empty()) keep_answers(dataset.answers(), first, of_answers = tokens);
  const std::vector<std::int32_t>& counted = of_answers.empty() ? tokens : of_answers;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    const bool before = landmarks && tokens[t + 1] == landmark, is = landmarks && tokens[t] == landmark;
    targets[t] = is ? -1 : counted[before ? t + 2 : t + 1];
  }
}

/// `count` windows from token `first(i)`.
template <class First>
TokenBatch gather(const Dataset& dataset, std::int64_t count, std::int64_t length, DocumentUse use, First first) {
  TokenBatch batch;
  batch.sequences = count;
  batch.length = length;
  const auto total = static_cast<std::size_t>(count * length);
  batch.tokens.resize(total);
  batch.targets.resize(total);
  batch.document_start.assign(total, 0);
  std::vector<std::int32_t> window(static_cast<std::size_t>(length + 2));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t begin = first(i);
    const auto held = static_cast<std::size_t>(std::min(length + 2, dataset.tokens() - begin));
    dataset.read(begin, std::span(window).first(held));
    std::fill(window.begin() + static_cast<std::ptrdiff_t>(held), window.end(), -1);
    const auto row = i * length;
    std::copy_n(window.begin(), length, batch.tokens.begin() + row);
    fill_targets(dataset, begin, window,
                 std::span(batch.targets).subspan(static_cast<std::size_t>(row), static_cast<std::size_t>(length)));
    if (use.documents == Documents::ignore) continue;
    const auto& offsets = dataset.documents();
    auto document = std::upper_bound(offsets.begin(), offsets.end(), static_cast<std::uint64_t>(begin)) - 1;
    for (std::int64_t t = 0; t < length;) {
      const auto document_begin = static_cast<std::int64_t>(document[0]) - begin,
                 document_end = static_cast<std::int64_t>(document[1]) - begin;
      const std::int64_t start = std::max<std::int64_t>(0, document_begin), end = std::min(length, document_end);
      std::fill(batch.document_start.begin() + row + t, batch.document_start.begin() + row + end, start);
      const LandmarkSpacing& landmarks = dataset.landmarks();
      const std::int64_t tokens = landmarks.tokens_before(document_end - document_begin);
      const auto leave_out = [&](std::int64_t token) {  // of the document
        const std::int64_t at = document_begin + landmarks.place(token);
        if (token >= 0 && at >= 0 && at < length) batch.targets[static_cast<std::size_t>(row + at)] = -1;
      };
      leave_out(tokens - 1);  // has nothing in sight that says what comes next
      if (use.end == EndOfDocument::none) leave_out(tokens - 2);
      t = std::max(t, end);
      ++document;
    }
  }
  return batch;
}

}  // namespace

KeyedPermutation::KeyedPermutation(std::uint64_t size, std::uint64_t key) : size_(size), key_(key) {
  require(size > 0, "a permutation of nothing was asked for; give it at least one element");
  half_bits_ = (std::bit_width(size - 1) + 1) / 2;
}

std::uint64_t KeyedPermutation::operator()(std::uint64_t index) const {
  require(index < size_, "element {} of a permutation of {} was asked for", index, size_);
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  do {
    std::uint64_t left = index >> half_bits_, right = index & mask;
    for (std::uint64_t round = 0; round < 6; ++round) {
      const std::uint64_t next = left ^ (mix(right ^ mix(key_ + round * golden_ratio)) & mask);
      left = right;
      right = next;
    }
    index = left << half_bits_ | right;
  } while (index >= size_);
  return index;
}

void require_whole_texts(const Dataset& dataset, std::int64_t length) {
  require_usage(dataset.window() == 0 || length % dataset.window() == 0,
                "{} holds whole texts in windows of {}, which windows of {} would cut; set train.length = {} (for "
                "evaluate --lengths), or a multiple",
                dataset.path().string(), counted(dataset.window(), "token"), length, dataset.window());
}

Sampler::Sampler(const Dataset& dataset, std::int64_t length, std::uint64_t seed, DocumentUse documents)
    : dataset_(&dataset), length_(length), seed_(seed), documents_(documents) {
  require_usage(length >= 1, "train.length = {}; a window needs at least 1", length);
  require_whole_texts(dataset, length);
  windows_ = (dataset.tokens() - 1) / length;
  require(windows_ >= 1,
          "{} holds {}, less than one window of train.length + 1 = {}; choose train.length at most {}, or prepare a "
          "longer corpus",
          dataset.path().string(), counted(dataset.tokens(), "token"), length + 1, dataset.tokens() - 1);
}

std::int64_t Sampler::window(std::uint64_t sample) const {
  const auto size = static_cast<std::uint64_t>(windows_);
  const KeyedPermutation order(size, mix(mix(seed_) ^ (sample / size)));
  return static_cast<std::int64_t>(order(sample % size));
}

TokenBatch Sampler::batch(std::uint64_t first, std::int64_t count) const {
  return gather(*dataset_, count, length_, documents_,
                [&](std::int64_t i) { return window(first + static_cast<std::uint64_t>(i)) * length_; });
}

TokenBatch read_windows(const Dataset& dataset, std::int64_t first, std::int64_t count, std::int64_t length,
                        DocumentUse documents) {
  require_usage(length >= 1 && count >= 1 && first >= 0,
                "{} windows of {} tokens from token {} were asked for; all must be positive", count, length, first);
  require(first <= dataset.tokens() && count <= (dataset.tokens() - first) / length,
          "{} holds {}, not the {} of {} from token {} that were asked for; choose at most {} in all, or "
          "prepare a longer corpus",
          dataset.path().string(), counted(dataset.tokens(), "token"), counted(count, "window"),
          counted(length, "token"), first, counted(std::max<std::int64_t>(0, dataset.tokens() - first), "token"));
  return gather(dataset, count, length, documents, [&](std::int64_t i) { return first + i * length; });
}

}  // namespace lexring
