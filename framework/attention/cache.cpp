#include "framework/attention/cache.h"

#include <algorithm>

namespace lexring {

namespace {

void copy_rows(const Tensor& from, std::int64_t first, const Tensor& to, std::int64_t at, std::int64_t count) {
  if (count == 0) return;
  const Tensor source = from.slice(first, count);
  to.runtime().copy(to.slice(at, count).raw(), source.raw(), source.bytes());
}

}  // namespace

KeyValueCache::KeyValueCache(Runtime& runtime, std::int64_t layers, std::int64_t row_width, Dtype dtype)
    : runtime_(&runtime), row_width_(row_width), dtype_(dtype), layers_(static_cast<std::size_t>(layers)) {}

void KeyValueCache::begin_chunk(const AttentionRows& rows, const CacheKeep& keep) {
  const TokenTable &chunk = rows.tokens, &held = rows_->tokens;
  require(chunk.sequences.size() == 1,
          "a key and value cache holds one sequence, but a chunk of {} came; use one cache per sequence",
          chunk.sequences.size());
  const bool begun = !held.sequences.empty();
  require(
      !begun || (chunk.sequences[0].id == held.sequences[0].id && chunk.position.front() > held.position.back()),
      "a chunk at position {} of sequence {} does not follow what the cache holds; chunks come in order, one cache per "
      "sequence",
      chunk.position.front(), chunk.sequences[0].id);

  held_ = held.rows();
  const auto row_at = [&](std::int64_t position) {
    return std::lower_bound(held.position.begin(), held.position.end(), position) - held.position.begin();
  };
  const std::int64_t tail = row_at(keep.first);
  const std::int64_t sinks_end = std::min(row_at(keep.sinks_end), tail);
  const std::int64_t sinks_begin = std::min(row_at(keep.sinks_begin), sinks_end);
  kept_ = {{sinks_begin, sinks_end - sinks_begin}, {tail, held_ - tail}};
  const std::int64_t forgettable = held_ - kept_[0].count - kept_[1].count;
  if (forgettable == 0 || 3 * forgettable < held_) kept_ = {{0, held_}};

  std::vector<std::int64_t> positions;
  for (const Range& range : kept_) {
    const auto first = held.position.begin() + range.first;
    positions.insert(positions.end(), first, first + range.count);
  }
  past_ = static_cast<std::int64_t>(positions.size());
  positions.insert(positions.end(), chunk.position.begin(), chunk.position.end());
  const auto count = static_cast<std::int64_t>(positions.size());
  TokenTable tokens{{{chunk.sequences[0].id, 0, count}}, std::move(positions)};
  RotaryTable rotary;
  if (rows.rotary.cosine.defined()) {
    rotary_buffer_ = {advance_table(rotary_buffer_.cosine, rows.rotary.cosine, count),
                      advance_table(rotary_buffer_.sine, rows.rotary.sine, count)};
    rotary = {rotary_buffer_.cosine.slice(0, count), rotary_buffer_.sine.slice(0, count)};
  }
  rows_ = make_rows(std::move(tokens), std::move(rotary));
}

Tensor KeyValueCache::advance_table(const Tensor& table, const Tensor& chunk, std::int64_t rows) const {
  Tensor advanced = advance(table, rows, chunk.row_elements(), chunk.dtype());
  copy_rows(chunk, 0, advanced, past_, chunk.rows());
  return advanced;
}

Tensor KeyValueCache::advance(const Tensor& buffer, std::int64_t rows, std::int64_t row_width, Dtype dtype) const {
  if (buffer.defined() && past_ == held_ && buffer.rows() >= rows) return buffer;
  // Half as much again as the past, in steps: chunks of a stream then find the buffers of the chunk before in the
  // runtime's cache.
  constexpr std::int64_t step = 512;
  Tensor roomy(*runtime_, {((rows + past_ / 2) / step + 1) * step, row_width}, dtype);
  std::int64_t at = 0;
  for (const Range& range : kept_) {
    if (range.count > 0) copy_rows(buffer, range.first, roomy, at, range.count);
    at += range.count;
  }
  return roomy;
}

void KeyValueCache::append(std::int64_t layer, Backend& backend, const Columns& k, const Columns& v) {
  const std::int64_t rows = rows_->tokens.rows(), chunk = rows - past_;
  require(
      k.rows() == chunk && v.rows() == chunk && k.width == row_width_ && v.width == row_width_ && k.dtype() == dtype_,
      "cache: keys [{}, {}] do not fit a chunk of [{}, {}]", k.rows(), k.width, chunk, row_width_);
  Layer& held = layers_.at(static_cast<std::size_t>(layer));
  held.keys = advance(held.keys, rows, row_width_, dtype_);
  backend.copy(k, held.keys.slice(past_, chunk));
  held.values = advance(held.values, rows, row_width_, dtype_);
  backend.copy(v, held.values.slice(past_, chunk));
}

/// Two f32 hold 48 bits of a sum: 4e-9 where it is a million, in a stream of a million tokens, each of which may be a
/// chunk of its own and round once. Scores, which differences of near rows' sums are added to, are rounded to 1e-7.
Tensor KeyValueCache::append_gates(std::int64_t layer, Backend& backend, const Tensor& logits) {
  const std::int64_t rows = rows_->tokens.rows(), chunk = rows - past_;
  require(logits.shape().size() == 2 && logits.dim(0) == chunk,
          "cache: logits {} of a forget gate do not fit a chunk of {}", to_string(logits.shape()), chunk);
  Layer& held = layers_.at(static_cast<std::size_t>(layer));
  held.sums = advance(held.sums, rows, 2 * logits.dim(1), master_dtype(logits.dtype()));
  backend.forget_sums(logits, held.last_sum, held.sums.slice(past_, chunk));
  held.last_sum = Tensor(*runtime_, {1, held.sums.dim(1)}, held.sums.dtype());
  copy_rows(held.sums, rows - 1, held.last_sum, 0, 1);
  return held.sums.slice(0, rows);
}

Tensor KeyValueCache::keys(std::int64_t layer) const {
  return layers_.at(static_cast<std::size_t>(layer)).keys.slice(0, rows_->tokens.rows());
}

Tensor KeyValueCache::values(std::int64_t layer) const {
  return layers_.at(static_cast<std::size_t>(layer)).values.slice(0, rows_->tokens.rows());
}

}  // namespace lexring
