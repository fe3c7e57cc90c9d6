#include "models/masking.h"

#include <span>

#include "framework/base/error.h"
#include "framework/base/random.h"

namespace lexring {

void check(const MaskingConfig& config) {
  require_usage(config.share > 0, "mlm.share = {} leaves nothing to learn; choose e.g. 0.15", config.share);
  require_usage(config.masked + config.random <= 1,
                "mlm.masked = {} and mlm.random = {} are more than all hidden tokens together; choose e.g. 0.8 and 0.1",
                config.masked, config.random);
}

namespace {

/// Tokens first, first + 1, ... of a text whose draws are by `seed`.
void hide(std::span<std::int32_t> ids, std::span<std::int32_t> targets, const Masking& how, std::uint64_t seed,
          std::uint64_t first) {
  const std::uint64_t hidden = stream_id("hidden"), shown = stream_id("shown"), other = stream_id("other");
  const auto mask = static_cast<std::int32_t>(how.vocab - 1);
  for (std::size_t n = 0; n < ids.size(); ++n) {
    const auto draw = [&](std::uint64_t stream) {
      return static_cast<double>(random_bits(seed, stream, first + n) >> 11) * 0x1p-53;
    };
    targets[n] = -1;
    if (draw(hidden) >= how.config.share) continue;
    targets[n] = ids[n];
    const double as = draw(shown);
    if (as < how.config.masked) ids[n] = mask;
    else if (as < how.config.masked + how.config.random)
      ids[n] = static_cast<std::int32_t>(draw(other) * static_cast<double>(mask));
  }
}

}  // namespace

void Masking::hide_samples(ModelBatch& batch, std::uint64_t seed, std::uint64_t first) const {
  for (const TokenTable::Sequence& s : batch.tokens.sequences) {
    const auto at = static_cast<std::size_t>(s.first), count = static_cast<std::size_t>(s.count);
    hide(std::span(batch.ids).subspan(at, count), std::span(batch.targets).subspan(at, count), *this,
         random_bits(seed, stream_id("masking"), first++), 0);
  }
}

void Masking::hide_tokens(ModelBatch& batch, std::int64_t first) const {
  hide(batch.ids, batch.targets, *this, stream_id("masking of an evaluation"), static_cast<std::uint64_t>(first));
}

}  // namespace lexring
