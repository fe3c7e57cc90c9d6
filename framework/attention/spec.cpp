#include "framework/attention/spec.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "framework/base/error.h"

namespace lexring {

void check_supported(const AttentionSpec& spec) {
  require(spec.heads > 0 && spec.kv_heads > 0 && spec.heads % spec.kv_heads == 0,
          "attention with {} heads and {} key and value heads: the latter must divide the former", spec.heads,
          spec.kv_heads);
  require(spec.head_width > 0 && spec.head_width % 2 == 0,
          "attention with heads of width {}: choose an even width, channels come in pairs", spec.head_width);
  require(std::isfinite(spec.scale), "the scale of the attention scores is not finite");
  if (!spec.log_decay.empty()) {
    require(spec.rotary,
            "decay by channel pair is given without rotation; set AttentionSpec::rotary (angles may be 0)");
    require(static_cast<std::int64_t>(spec.log_decay.size()) == spec.head_width / 2,
            "{} decays are given for {} channel pairs; there must be one for each", spec.log_decay.size(),
            spec.head_width / 2);
    for (const double d : spec.log_decay)
      require(std::isfinite(d) && d <= 0,
              "the log of a decay is {}: scores would grow with distance; it must be finite and at most 0", d);
  }
  require(spec.slopes.empty() || static_cast<std::int64_t>(spec.slopes.size()) == spec.heads,
          "{} bias slopes are given for {} heads; there must be one for each", spec.slopes.size(), spec.heads);
  require(spec.normalizer == Normalizer::softmax,
          "the ReLU normaliser is not supported yet; choose attention.normalizer = softmax");
  require(spec.query_factor.empty(),
          "a factor per query (log-n scaling) is not supported yet; choose attention.logn_base = 0");
  require(!spec.distance_bias.defined(),
          "a bias by distance (t5, sandwich, kerple) is not supported yet; choose another position.kind, such as alibi "
          "or xpos");
}

TokenTable dense_tokens(std::int64_t count, std::int64_t length) {
  require(count >= 0 && length >= 0, "there cannot be {} sequences of {} tokens", count, length);
  TokenTable tokens;
  tokens.position.resize(static_cast<std::size_t>(count * length));
  for (std::int64_t s = 0; s < count; ++s) {
    tokens.sequences.push_back({s, s * length, length});
    std::iota(tokens.position.begin() + s * length, tokens.position.begin() + (s + 1) * length, std::int64_t{0});
  }
  return tokens;
}

void check(const TokenTable& tokens) {
  std::int64_t covered = 0, last_id = 0;
  for (const auto& s : tokens.sequences) {
    require(s.first == covered && s.count >= 0, "the sequence of id {} has rows [{}, {}) where row {} comes next", s.id,
            s.first, s.first + s.count, covered);
    require(&s == tokens.sequences.data() || s.id > last_id,
            "the sequence of id {} comes after that of id {}; ids must ascend", s.id, last_id);
    require(s.first + s.count <= tokens.rows(), "the sequence of id {} ends at row {} of {}", s.id, s.first + s.count,
            tokens.rows());
    for (std::int64_t row = s.first; row < s.first + s.count; ++row) {
      const auto n = static_cast<std::size_t>(row);
      require(tokens.position[n] >= 0, "row {} has position {}; positions count from 0", row, tokens.position[n]);
      require(row == s.first || tokens.position[n] > tokens.position[n - 1],
              "row {} of the sequence of id {} has position {} after position {}; positions must increase", row, s.id,
              tokens.position[n], row == s.first ? 0 : tokens.position[n - 1]);
    }
    covered += s.count;
    last_id = s.id;
  }
  require(covered == tokens.rows(), "sequences cover {} of {} rows", covered, tokens.rows());
}

std::int64_t diagonal_span(const AttentionSpec& spec) {
  constexpr double largest_exponent = 40.0;  // e^40 times e^-40 stays exact in f32, whose exponents reach 88
  constexpr std::int64_t unlimited = std::int64_t{1} << 40;
  double steepest = 0;
  for (const double d : spec.log_decay) steepest = std::max(steepest, std::abs(d));
  if (steepest * static_cast<double>(unlimited) <= largest_exponent) return unlimited;
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::floor(largest_exponent / steepest)));
}

}  // namespace lexring
