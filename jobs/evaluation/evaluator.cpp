#include "jobs/evaluation/evaluator.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <numeric>
#include <span>
#include <utility>

#include "framework/base/counted.h"
#include "jobs/evaluation/window_sums.h"

namespace lexring {
namespace {

std::int64_t divided_up(std::int64_t count, std::int64_t by) { return (count + by - 1) / by; }

/// Windows [first, last) of `windows` that a rank computes.
std::pair<std::int64_t, std::int64_t> share(std::int64_t windows, const Communicator& ranks) {
  return {windows * ranks.rank() / ranks.size(), windows * (ranks.rank() + 1) / ranks.size()};
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// One length under one pattern.
class CellMeasurement {
 public:
  CellMeasurement(Transformer& model, const Context& context, const Dataset& dataset, const TokenStream& stream,
                  std::int64_t length, const CellWork& work)
      : model_(model),
        context_(context),
        dataset_(dataset),
        stream_(stream),
        length_(length),
        work_(work),
        parts_(work.parts != nullptr ? *work.parts : nothing_),
        ends_(stream.ends()),
        windows_(model, dataset, stream, length) {
    // A window of exactly a chunk is streamed too: its time and memory are those of every longer one. Ranks that share
    // sequences hold a part of a long window each instead; angles that follow the length, and tokens that see those
    // after them, need it whole.
    const std::int64_t shared = context.axis(Axis::cp).size(), tokens = stream.chunk * shared;
    const bool whole =
        length < stream.chunk || shared > 1 || model.config().follows_length() || model.config().sees_later();
    together_ = whole ? std::max<std::int64_t>(tokens / length, 1) : 0;
    const std::int64_t of_a_pass = std::max<std::int64_t>(together_, 1);
    of_a_part_ = std::max<std::int64_t>(passes_of_a_part * tokens / (of_a_pass * length), 1) * of_a_pass *
                 context.axis(Axis::dp).size();
  }

  Cell run() {
    const std::int64_t windows = stream_.tokens / length_;
    WindowSums sums(dataset_, ends_, length_, 0, windows);
    for (const Part& part : parts_.of(work_.name)) sums.add(part);
    for (std::int64_t first = parts_.reach(work_.name); first < windows;) {
      const std::int64_t last = std::min(first + of_a_part_, windows);
      const Part part = measure(first, last);
      parts_.add(part);
      sums.add(part);
      first = last;
    }
    return sums.cell();
  }

 private:
  Part measure(std::int64_t first, std::int64_t last) {
    Communicator& ranks = context_.axis(Axis::dp);
    Runtime& runtime = model_.backend().runtime();
    const auto [begin, end] = share(last - first, ranks);
    WindowSums sums(dataset_, ends_, length_, first, last);
    StopPoints stops(parts_, together_ > 0 ? divided_up(end - begin, together_)
                                           : (end - begin) * divided_up(length_, stream_.chunk));
    ranks.barrier();
    runtime.reset_peak();
    const auto start = std::chrono::steady_clock::now();
    std::int64_t own = 0;
    const auto progress = [&](std::int64_t tokens) {
      own += tokens;
      if (work_.progress) work_.progress(std::min(first * length_ + own * ranks.size(), last * length_));
    };
    for (std::int64_t window = first + begin; window < first + end;) {
      if (together_ == 0) {
        windows_.streamed(
            window++, sums, [&] { stops.before_pass(); }, progress);
        continue;
      }
      const std::int64_t count = std::min(together_, first + end - window);
      stops.before_pass();
      windows_.together(window, count, sums);
      window += count;
      progress(count * length_);
    }
    runtime.synchronise();
    std::array<double, 2> worst = {seconds_since(start), static_cast<double>(runtime.memory().peak) / (1 << 20)};
    stops.wait_for_others();
    context_.world().all_reduce(std::span<double>(worst), Reduce::max);
    sums.reduce(ranks);
    return sums.part(work_.name, worst[0], worst[1]);
  }

  Transformer& model_;
  const Context& context_;
  const Dataset& dataset_;
  const TokenStream& stream_;
  std::int64_t length_;
  const CellWork& work_;
  KeptParts nothing_;
  KeptParts& parts_;
  std::vector<std::int64_t> ends_;
  Windows windows_;
  std::int64_t together_ = 0;  ///< windows of one forward pass; 0: one by one, chunk after chunk
  std::int64_t of_a_part_ = 1;
};

/// Sums of scores and numbers of pairs, by layer and distance.
struct ScoreSums {
  std::vector<std::vector<double>> sums;
  std::vector<std::vector<std::int64_t>> counts;

  ScoreSums(std::int64_t layers, std::int64_t length)
      : sums(static_cast<std::size_t>(layers), std::vector<double>(static_cast<std::size_t>(length))),
        counts(static_cast<std::size_t>(layers), std::vector<std::int64_t>(static_cast<std::size_t>(length))) {}

  AttentionProbe probe(Backend& backend) {
    return [&](std::int64_t layer, const AttentionForm& form, const ScoreBias& bias, const SharedRows& rows, Columns q,
               Columns k) {
      const auto n = static_cast<std::size_t>(layer);
      std::vector<std::int64_t> pairs(counts[n].size());
      backend.attention_score_sums({form, rows, std::move(q), std::move(k), sums[n], pairs});
      add_bias(bias, form.heads, pairs, sums[n]);
      for (std::size_t d = 0; d < pairs.size(); ++d) counts[n][d] += pairs[d];
    };
  }
  /// Of each layer, over all texts and heads. Collective.
  std::vector<double> resolutions(const Context& context) {
    std::vector<double> by_layer;
    for (std::size_t n = 0; n < sums.size(); ++n) {
      for (const Axis axis : {Axis::dp, Axis::tp}) {  // texts, heads
        context.axis(axis).all_reduce(std::span<double>(sums[n]), Reduce::sum);
        context.axis(axis).all_reduce(std::span<std::int64_t>(counts[n]), Reduce::sum);
      }
      for (std::size_t d = 0; d < sums[n].size(); ++d)
        sums[n][d] /= static_cast<double>(std::max<std::int64_t>(counts[n][d], 1));
      by_layer.push_back(attention_resolution(sums[n]));
    }
    return by_layer;
  }
};

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
             std::int64_t length, const CellWork& work) {
  require_usage(stream.chunk >= 1, "--chunk {} is impossible; give 1 token or more, e.g. 4096", stream.chunk);
  return CellMeasurement(model, context, dataset, stream, length, work).run();
}

Resolution measure_resolution(Transformer& model, const Context& context, const Dataset& dataset,
                              const TokenStream& stream, std::int64_t length, std::int64_t texts,
                              const CellWork& work) {
  KeptParts nothing;
  KeptParts& parts = work.parts != nullptr ? *work.parts : nothing;
  const std::int64_t windows = stream.tokens / length, layers = model.config().layers;
  texts = std::min(texts, windows);
  std::vector<double> by_layer;
  if (parts.reach(work.name) > 0) {
    by_layer = parts.of(work.name)[0].numbers;
  } else {
    ScoreSums scores(layers, length);
    const AttentionProbe probe = scores.probe(model.backend());
    const auto [first, last] = share(texts, context.axis(Axis::dp));
    const std::vector<std::int64_t> ends = stream.ends();
    WindowSums ignored(dataset, ends, length, 0, windows);
    Windows reader(model, dataset, stream, length);
    StopPoints stops(parts, last - first);
    for (std::int64_t text = first; text < last; ++text) {
      stops.before_pass();
      reader.together(text * windows / texts, 1, ignored, probe);
    }
    stops.wait_for_others();
    by_layer = scores.resolutions(context);
    parts.add({work.name, 0, texts, by_layer, {}});
  }
  Resolution resolution{"", length, 0, by_layer};
  for (const double value : by_layer) resolution.value += value / static_cast<double>(layers);
  return resolution;
}

}  // namespace lexring
