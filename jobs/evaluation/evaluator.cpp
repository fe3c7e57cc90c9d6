#include "jobs/evaluation/evaluator.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "framework/base/counted.h"
#include "models/layer_configs.h"

namespace lexring {
namespace {

/// Windows [first, last) of `windows` that rank `rank` of `ranks` computes.
std::pair<std::int64_t, std::int64_t> share(std::int64_t windows, const Communicator& ranks) {
  return {windows * ranks.rank() / ranks.size(), windows * (ranks.rank() + 1) / ranks.size()};
}

std::vector<double> losses(const Tensor& nll) {
  if (nll.dtype() == Dtype::f64) return nll.to_host<double>();
  const auto values = nll.to_host<float>();
  return {values.begin(), values.end()};
}

/// Sums of a cell while it is measured.
struct Sums {
  const Dataset* dataset;
  std::vector<std::int64_t> ends;
  std::vector<std::pair<std::int64_t, std::int64_t>> buckets;
  std::vector<double> segment_nll, bucket_nll;
  std::vector<std::int64_t> segment_tokens_, bucket_tokens;
  double nll = 0;
  std::int64_t bytes = 0, not_finite = 0;

  Sums(const Dataset& data, const TokenStream& stream, std::int64_t length)
      : dataset(&data),
        ends(stream.segment_ends.empty() ? segment_ends(stream.tokens, {segment_tokens}) : stream.segment_ends),
        buckets(position_buckets(length)),
        segment_nll(ends.size()),
        bucket_nll(buckets.size()),
        segment_tokens_(ends.size()),
        bucket_tokens(buckets.size()) {}

  /// Rows of one window from `position` on; the first is token `token` of the stream.
  void add(std::int64_t token, std::int64_t position, const double* row_nll, const std::int32_t* targets,
           std::int64_t rows) {
    auto bucket =
        static_cast<std::size_t>(std::upper_bound(buckets.begin(), buckets.end(), position,
                                                  [](std::int64_t p, const auto& b) { return p < b.second; }) -
                                 buckets.begin());
    auto segment = static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), token) - ends.begin());
    for (std::int64_t i = 0; i < rows; ++i) {
      if (token + i >= ends[segment]) ++segment;
      if (position + i >= buckets[bucket].second) ++bucket;
      if (targets[i] < 0) continue;
      segment_nll[segment] += row_nll[i];
      segment_tokens_[segment] += 1;
      bucket_nll[bucket] += row_nll[i];
      bucket_tokens[bucket] += 1;
      nll += row_nll[i];
      bytes += dataset->token_bytes()[static_cast<std::size_t>(targets[i])];
      if (!std::isfinite(row_nll[i])) not_finite += 1;
    }
  }

  void reduce(Communicator& ranks) {
    std::vector<double> sums = segment_nll;
    sums.insert(sums.end(), bucket_nll.begin(), bucket_nll.end());
    sums.push_back(nll);
    std::vector<std::int64_t> counts = segment_tokens_;
    counts.insert(counts.end(), bucket_tokens.begin(), bucket_tokens.end());
    counts.insert(counts.end(), {bytes, not_finite});
    ranks.all_reduce(std::span<double>(sums), Reduce::sum);
    ranks.all_reduce(std::span<std::int64_t>(counts), Reduce::sum);
    const auto segments = static_cast<std::ptrdiff_t>(segment_nll.size());
    segment_nll.assign(sums.begin(), sums.begin() + segments);
    bucket_nll.assign(sums.begin() + segments, sums.end() - 1);
    nll = sums.back();
    segment_tokens_.assign(counts.begin(), counts.begin() + segments);
    bucket_tokens.assign(counts.begin() + segments, counts.end() - 2);
    bytes = counts[counts.size() - 2];
    not_finite = counts.back();
  }
};

class Windows {
 public:
  Windows(Transformer& model, const Dataset& dataset, const TokenStream& stream, std::int64_t length)
      : model_(model), dataset_(dataset), stream_(stream), length_(length) {}

  /// Windows [first, first + count) in one forward pass.
  void together(std::int64_t first, std::int64_t count, Sums& sums, const AttentionProbe& probe = nullptr) {
    TokenBatch read = read_windows(dataset_, first * length_, count, length_, stream_.documents);
    ModelBatch batch = make_batch(count, length_, std::move(read.tokens), std::move(read.targets),
                                  std::move(read.document_start), sinks_of(model_.config()));
    if (stream_.masking) stream_.masking->hide_tokens(batch, first * length_);
    const std::vector<double> nll = losses(model_.evaluate(batch, nullptr, probe).nll);
    for (std::int64_t w = 0; w < count; ++w) {
      sums.add((first + w) * length_, 0, nll.data() + w * length_, batch.targets.data() + w * length_, length_);
    }
  }

  /// One window, chunk after chunk.
  void streamed(std::int64_t window, Sums& sums, const std::function<void(std::int64_t)>& progress) {
    const auto cache = model_.make_cache();
    for (std::int64_t position = 0; position < length_; position += stream_.chunk) {
      const std::int64_t rows = std::min(stream_.chunk, length_ - position);
      const ModelBatch batch = chunk(window * length_, position, rows);
      const std::vector<double> nll = losses(model_.evaluate(batch, cache.get()).nll);
      sums.add(window * length_ + position, position, nll.data(), batch.targets.data(), rows);
      if (progress) progress(rows);
    }
  }

 private:
  ModelBatch chunk(std::int64_t window_begin, std::int64_t position, std::int64_t rows) const {
    TokenBatch read = read_windows(dataset_, window_begin + position, 1, rows, stream_.documents);
    // Documents begin where they do in the window, not in the chunk.
    std::int64_t start = 0;
    if (stream_.documents.documents == Documents::mask) {
      start = std::max<std::int64_t>(0, dataset_.document_start(window_begin + position) - window_begin);
    }
    for (std::int64_t& place : read.document_start) place = place > 0 ? place + position : start;
    return make_chunk(position, std::move(read.tokens), std::move(read.targets), std::move(read.document_start),
                      sinks_of(model_.config()));
  }

  Transformer& model_;
  const Dataset& dataset_;
  const TokenStream& stream_;
  std::int64_t length_;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::int64_t tokens_to_score(const Dataset& dataset, const std::vector<std::int64_t>& lengths, std::int64_t wanted) {
  require_usage(!lengths.empty(), "there is no length to evaluate at; give --lengths, e.g. 256,512,1024");
  const std::int64_t held = dataset.tokens(), longest = *std::max_element(lengths.begin(), lengths.end());
  std::int64_t step = 1;
  for (const std::int64_t length : lengths) {
    require_usage(length >= 1, "a window of {} tokens is impossible; --lengths must be 1 or more", length);
    require_usage(length <= held,
                  "{} holds {}, less than one window of {}; choose --lengths up to {}, or prepare a longer corpus",
                  dataset.path().string(), counted(held, "token"), length, held);
    require_whole_texts(dataset, length);
    step = std::lcm(step, length);
    require_usage(step <= held,
                  "no stretch of the {} in {} is cut exactly by all of the lengths, so that columns would not compare; "
                  "choose --lengths that "
                  "divide the longest ({}), as powers of two do",
                  counted(held, "token"), dataset.path().string(), longest);
  }
  require_usage(wanted >= 0, "--tokens {} is impossible; give how many tokens to score, or leave it out", wanted);
  require_usage(wanted == 0 || wanted >= step,
                "--tokens {} is less than the {} that every length cuts exactly; give at least {}", wanted, step, step);
  require_usage(wanted <= held, "{} holds {}, less than --tokens {}; choose at most {}", dataset.path().string(),
                counted(held, "token"), wanted, held);
  constexpr std::int64_t usual = 262144;  // 64 segments: an error bar known to a tenth, and minutes on two cores
  const std::int64_t about = wanted > 0 ? wanted : std::min(std::max(usual, step), held);
  return about / step * step;
}

Cell measure(Transformer& model, const Context& context, const Dataset& dataset, const TokenStream& stream,
             std::int64_t length, const std::function<void(std::int64_t)>& progress) {
  require_usage(stream.chunk >= 1, "--chunk {} is impossible; give 1 token or more, e.g. 4096", stream.chunk);
  Communicator& ranks = context.axis(Axis::dp);
  Runtime& runtime = model.backend().runtime();
  const auto [first, last] = share(stream.tokens / length, ranks);
  Sums sums(dataset, stream, length);
  Windows windows(model, dataset, stream, length);
  ranks.barrier();
  runtime.reset_peak();
  const auto start = std::chrono::steady_clock::now();
  // A window of exactly a chunk is streamed too: its time and memory are those of every longer one. Ranks that share
  // sequences hold a part of a long window each instead; angles that follow the length, and tokens that see those after
  // them, need it whole.
  const std::int64_t shared = context.axis(Axis::cp).size();
  const bool whole =
      length < stream.chunk || shared > 1 || model.config().follows_length() || model.config().sees_later();
  const std::int64_t at_once = whole ? std::max<std::int64_t>(stream.chunk * shared / length, 1) : 0;
  for (std::int64_t window = first; window < last;) {
    if (at_once == 0) {
      windows.streamed(window++, sums, progress);
      continue;
    }
    const std::int64_t count = std::min(at_once, last - window);
    windows.together(window, count, sums);
    window += count;
    if (progress) progress(count * length);
  }
  runtime.synchronise();
  std::array<double, 2> worst = {seconds_since(start), static_cast<double>(runtime.memory().peak) / (1 << 20)};
  context.world().all_reduce(std::span<double>(worst), Reduce::max);
  sums.reduce(ranks);

  Cell cell;
  cell.length = length;
  cell.segments = {std::move(sums.segment_nll), std::move(sums.segment_tokens_)};
  cell.tokens = std::accumulate(cell.segments.tokens.begin(), cell.segments.tokens.end(), std::int64_t{0});
  cell.not_finite = sums.not_finite;
  cell.bits_per_byte = sums.bytes > 0 ? sums.nll / std::numbers::ln2 / static_cast<double>(sums.bytes)
                                      : std::numeric_limits<double>::quiet_NaN();
  for (std::size_t i = 0; i < sums.buckets.size(); ++i) {
    if (sums.bucket_tokens[i] == 0) continue;
    cell.by_position.push_back({sums.buckets[i].first, sums.buckets[i].second, sums.bucket_tokens[i],
                                sums.bucket_nll[i] / static_cast<double>(sums.bucket_tokens[i])});
  }
  cell.seconds = worst[0];
  cell.tokens_per_second = static_cast<double>(stream.tokens) / worst[0];
  cell.peak_mib = worst[1];
  return cell;
}

Resolution measure_resolution(Transformer& model, const Context& context, const Dataset& dataset,
                              const TokenStream& stream, std::int64_t length, std::int64_t texts) {
  Communicator& ranks = context.axis(Axis::dp);
  const std::int64_t windows = stream.tokens / length;
  texts = std::min(texts, windows);
  const auto layers = static_cast<std::size_t>(model.config().layers), distances = static_cast<std::size_t>(length);
  std::vector<std::vector<double>> sums(layers, std::vector<double>(distances));
  std::vector<std::vector<std::int64_t>> counts(layers, std::vector<std::int64_t>(distances));
  const AttentionProbe probe = [&](std::int64_t layer, const AttentionForm& form, const ScoreBias& bias,
                                   const SharedRows& rows, Columns q, Columns k) {
    const auto n = static_cast<std::size_t>(layer);
    std::vector<std::int64_t> pairs(distances);
    model.backend().attention_score_sums({form, rows, std::move(q), std::move(k), sums[n], pairs});
    add_bias(bias, form.heads, pairs, sums[n]);
    for (std::size_t d = 0; d < distances; ++d) counts[n][d] += pairs[d];
  };
  const auto [first, last] = share(texts, ranks);
  Sums ignored(dataset, stream, length);
  Windows reader(model, dataset, stream, length);
  for (std::int64_t text = first; text < last; ++text) reader.together(text * windows / texts, 1, ignored, probe);

  Resolution resolution{"", length, 0, {}};
  for (std::size_t n = 0; n < layers; ++n) {
    for (const Axis axis : {Axis::dp, Axis::tp}) {  // texts, heads
      context.axis(axis).all_reduce(std::span<double>(sums[n]), Reduce::sum);
      context.axis(axis).all_reduce(std::span<std::int64_t>(counts[n]), Reduce::sum);
    }
    for (std::size_t d = 0; d < distances; ++d)
      sums[n][d] /= static_cast<double>(std::max<std::int64_t>(counts[n][d], 1));
    resolution.by_layer.push_back(attention_resolution(sums[n]));
    resolution.value += resolution.by_layer.back() / static_cast<double>(layers);
  }
  return resolution;
}

}  // namespace lexring
