#include "parallel/sequence/exchange_choice.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "parallel/heads.h"

namespace lexring {
namespace {

struct Cost {
  double all_to_all = 0;  ///< seconds, waited for
  double hop = 0;         ///< seconds of a hop's transfer
  double attention = 0;   ///< seconds of the attention it hides behind
  double waiting = 0;
};

/// Of a layer's forward pass under a mask that sees everything before, or everything.
Cost cost(const ExchangeShape& s, const ExchangeSpeeds& speeds, int ulysses) {
  const double tokens = static_cast<double>(s.sequences * s.length), cp = s.cp, u = ulysses, ring = cp / u;
  const double width = static_cast<double>(s.head_width * s.bytes),
               key_heads = std::max(static_cast<double>(s.kv_heads), u);
  const double link = s.cp > s.cp_inside_node ? speeds.network : speeds.node;
  Cost c;
  const double moved = tokens / cp * (2.0 * static_cast<double>(s.heads) + 2.0 * key_heads) * width * (u - 1) / u;
  if (ulysses > 1)
    c.all_to_all = 2 * speeds.latency + moved / (ulysses > s.cp_inside_node ? speeds.network : speeds.node);
  if (ring == 1) return c.waiting = c.all_to_all, c;
  c.hop = speeds.latency + tokens / ring * 2.0 * key_heads / u * width / link;
  c.attention = 2.0 * static_cast<double>(s.heads * s.head_width) * tokens * static_cast<double>(s.length) /
                (cp * ring) / speeds.flops * (s.both_sides ? 2 : 1);
  c.waiting = c.all_to_all + (ring - 1) * std::max(0.0, c.hop - c.attention);
  return c;
}

/// "8.4 ms", "2.8 s", "46 min".
std::string duration(double seconds) {
  const auto [size, unit] = seconds < 1e-3   ? std::pair(1e-6, "µs")
                            : seconds < 1    ? std::pair(1e-3, "ms")
                            : seconds < 100  ? std::pair(1.0, "s")
                            : seconds < 6000 ? std::pair(60.0, "min")
                                             : std::pair(3600.0, "h");
  return fmt::format("{:.{}f} {}", seconds / size, seconds / size < 10 ? 1 : 0, unit);
}

std::string name_of(int cp, int ulysses) {
  return ulysses == 1 ? "ring" : ulysses == cp ? "all-to-all" : "ring x all-to-all";
}

std::string explain(const ExchangeShape& s, const Cost& c, const Cost& ring, int ulysses) {
  const auto hidden = [&](const Cost& of) {
    return fmt::format("a hop takes about {}, {} {} of attention", duration(of.hop),
                       of.hop <= of.attention ? "hidden behind" : "longer than the", duration(of.attention));
  };
  if (ulysses == 1) return hidden(c);
  const std::string inner =
      fmt::format("heads are exchanged between {} ranks in about {}", ulysses, duration(c.all_to_all));
  if (ulysses == s.cp) return fmt::format("{}; in a ring {}", inner, hidden(ring));
  return fmt::format("{}, and {}", inner, hidden(c));
}

}  // namespace

ExchangeChoice choose_exchange(const ExchangeShape& s, const ExchangeSpeeds& speeds, int ulysses) {
  if (s.cp == 1) return {1, "none", "no sequence is shared"};
  const Cost ring = cost(s, speeds, 1);
  if (ulysses > 0) {
    return {ulysses, name_of(s.cp, ulysses),
            "as mesh.ulysses says; " + explain(s, cost(s, speeds, ulysses), ring, ulysses)};
  }
  int best = 1;
  Cost least = ring;
  for (int u = 2; u <= s.cp_inside_node; ++u) {
    if (s.cp % u != 0 || s.cp_inside_node % u != 0 || !heads_fit(s.heads, s.kv_heads, u)) continue;
    const Cost c = cost(s, speeds, u);
    if (c.waiting < least.waiting) best = u, least = c;
  }
  return {best, name_of(s.cp, best), explain(s, least, ring, best)};
}

}  // namespace lexring
