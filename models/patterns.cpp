#include "models/patterns.h"

#include <algorithm>
#include <array>
#include <limits>

namespace lexring {

namespace {

/// All earlier positions.
class Causal : public Pattern {
 public:
  double first_coordinate(double) const override { return -std::numeric_limits<double>::infinity(); }
};

/// The last `window` positions, the own one included (Beltagy et al. 2020).
class Window : public Pattern {
 public:
  explicit Window(std::int64_t window) : window_(window) {}
  double first_coordinate(double coordinate) const override {
    return std::nextafter(coordinate - static_cast<double>(window_), coordinate);  // those at the window's end are out
  }

 private:
  std::int64_t window_;
};

/// The own block of positions, and the whole block before it (Sun et al. 2022, section 3).
class Blockwise : public Pattern {
 public:
  explicit Blockwise(std::int64_t block) : block_(static_cast<double>(block)) {}
  double first_coordinate(double coordinate) const override { return (std::floor(coordinate / block_) - 1) * block_; }

 private:
  double block_;
};

/// The own block of positions alone (Llama 4's local layers): nothing passes from one block to the next. Blocks begin
/// `shift` positions earlier than at multiples of their size, the first one is shorter by that.
class Chunked : public Pattern {
 public:
  explicit Chunked(std::int64_t block, std::int64_t shift = 0) : block_(block), shift_(shift) {}
  double first_coordinate(double coordinate) const override {
    const auto block = static_cast<double>(block_), shift = static_cast<double>(shift_);
    return std::floor((coordinate + shift) / block) * block - shift;
  }

 protected:
  std::int64_t block_, shift_;
};

/// LongLoRA's shifted sparse attention (Chen et al. 2024): the own block, and for the later half of the heads a block
/// that lies half a block further back. As in its authors' flash-attention path nothing wraps around and nothing leaks.
class Shifted : public Chunked {
 public:
  using Chunked::Chunked;
  std::unique_ptr<Pattern> of_later_heads() const override {
    return std::make_unique<Chunked>(block_, block_ - block_ / 2);
  }
};

/// A window, and the first tokens of the document (Xiao et al. 2023; Han et al. 2023).
class SinkWindow : public Window {
 public:
  SinkWindow(std::int64_t window, std::int64_t sinks) : Window(window), sinks_(sinks) {}
  std::int64_t sinks() const override { return sinks_; }

 private:
  std::int64_t sinks_;
};

/// The whole document, before the query and after it (Vaswani et al. 2017, the encoder): for masked-language modelling.
class Full : public Causal {
 public:
  bool sees_later() const override { return true; }
};

std::unique_ptr<Pattern> make_causal(const AttentionConfig&) { return std::make_unique<Causal>(); }

std::unique_ptr<Pattern> make_full(const AttentionConfig&) { return std::make_unique<Full>(); }

std::unique_ptr<Pattern> make_window(const AttentionConfig& config) {
  require_usage(config.window > 0,
                "attention.window = {} shows a query nothing; choose at least 1 with attention.pattern = {}",
                config.window, config.pattern->name);
  return std::make_unique<Window>(config.window);
}

template <class Blocks>
std::unique_ptr<Pattern> make_blocks(const AttentionConfig& config) {
  require_usage(config.block > 0,
                "attention.block = {} with attention.pattern = {}; choose half of the training length", config.block,
                config.pattern->name);
  return std::make_unique<Blocks>(config.block);
}

std::unique_ptr<Pattern> make_sink_window(const AttentionConfig& config) {
  require_usage(config.window > 0,
                "attention.window = {} shows a query nothing; choose at least 1 with attention.pattern = sink_window",
                config.window);
  require_usage(
      config.sinks > 0,
      "attention.sinks = {} with attention.pattern = sink_window; choose at least 1 (4 is usual), or pattern window",
      config.sinks);
  return std::make_unique<SinkWindow>(config.window, config.sinks);
}

constexpr std::array methods = {
    PatternMethod{
        .name = "causal", .make = make_causal, .formula = "a query sees every earlier position", .source = ""},
    PatternMethod{.name = "window",
                  .make = make_window,
                  .formula = "a query sees the last w positions, its own included",
                  .source = "Beltagy et al. 2020, Longformer: The Long-Document Transformer",
                  .window = true},
    PatternMethod{.name = "blockwise",
                  .make = make_blocks<Blockwise>,
                  .formula = "a query sees its own block, causally, and the whole block before it",
                  .source = "Sun et al. 2023, A Length-Extrapolatable Transformer (ACL)",
                  .block = true},
    PatternMethod{.name = "chunked",
                  .make = make_blocks<Chunked>,
                  .formula = "a query sees its own block, causally, and nothing before it",
                  .source = "Meta 2025, Llama 4 (the layers with positions)",
                  .block = true},
    PatternMethod{.name = "sink_window",
                  .make = make_sink_window,
                  .formula = "a window, and the first tokens of the document",
                  .source = "Xiao et al. 2024, Efficient Streaming Language Models with Attention Sinks",
                  .window = true,
                  .sinks = true},
    PatternMethod{
        .name = "full",
        .make = make_full,
        .formula = "a query sees the whole document, what comes after it too; decay and biases are of |n − m|",
        .source = "Vaswani et al. 2017, Attention Is All You Need (the encoder); XPOS by |n − m| is an extension",
        .sees_later = true},
    PatternMethod{
        .name = "shifted",
        .make = make_blocks<Shifted>,
        .formula = "a query sees its own block, causally; for half of the heads blocks lie half a block further back",
        .source = "Chen et al. 2024, LongLoRA: Efficient Fine-tuning of Long-Context Large Language Models",
        .block = true,
        .halves = true},
};

/// The position of the first key that a row's pattern leaves visible.
std::int64_t first_seen(const Pattern& pattern, const TokenTable& tokens, const TokenTable::Sequence& sequence,
                        std::size_t row) {
  if (tokens.coordinate.empty()) return pattern.first_visible(tokens.position[row]);
  const auto begin = tokens.coordinate.begin() + sequence.first, own = tokens.coordinate.begin() + row;
  const auto first = std::lower_bound(begin, own, pattern.first_coordinate(*own));
  return tokens.position[static_cast<std::size_t>(first - tokens.coordinate.begin())];
}

}  // namespace

Visibility Pattern::visibility(const TokenTable& tokens, const std::vector<DocumentPlace>& places) const {
  require(places.size() == tokens.position.size(), "{} document places were given for {} tokens", places.size(),
          tokens.position.size());
  Visibility visible;
  visible.first.reserve(places.size());
  for (const TokenTable::Sequence& sequence : tokens.sequences) {
    for (auto n = static_cast<std::size_t>(sequence.first);
         n < static_cast<std::size_t>(sequence.first + sequence.count); ++n) {
      visible.first.push_back(std::max(first_seen(*this, tokens, sequence, n), places[n].start));
      if (sees_later()) visible.end.push_back(places[n].end);
      if (sinks() == 0) continue;
      visible.sink_begin.push_back(places[n].start);
      visible.sink_end.push_back(places[n].sink_end);
    }
  }
  return visible;
}

CacheKeep Pattern::keep(std::int64_t position, const DocumentPlace& place) const {
  return {.sinks_begin = sinks() > 0 ? place.start : 0,
          .sinks_end = sinks() > 0 ? place.sink_end : 0,
          .first = std::max(first_visible(position), place.start)};
}

std::span<const PatternMethod> PatternMethod::table() { return methods; }

std::unique_ptr<Pattern> make_pattern(const AttentionConfig& config) { return config.pattern->make(config); }

}  // namespace lexring
