#include "framework/attention/form.h"

#include <algorithm>
#include <cmath>

#include "framework/base/error.h"

namespace lexring {

void check(const AttentionForm& form) {
  require(form.heads > 0 && form.kv_heads > 0 && form.heads % form.kv_heads == 0,
          "attention with {} heads and {} key and value heads: the latter must divide the former", form.heads,
          form.kv_heads);
  require(form.head_width > 0 && form.head_width % 2 == 0,
          "attention with heads of width {}: choose an even width, channels come in pairs", form.head_width);
  require(form.normalizer != Normalizer::landmark, "landmark attention is made of calls with softmax");
  require(std::isfinite(form.scale), "the scale of the attention scores is not finite");
  if (!form.log_decay.empty()) {
    require(form.rotary,
            "decay by channel pair is given without rotation; set AttentionForm::rotary (angles may be 0)");
    require(static_cast<std::int64_t>(form.log_decay.size()) == form.head_width / 2,
            "{} decays are given for {} channel pairs; there must be one for each", form.log_decay.size(),
            form.head_width / 2);
    bool falls = false, rises = false;
    for (const double d : form.log_decay) {
      require(std::isfinite(d), "the log of a decay is {}; it must be finite", d);
      falls = falls || d < 0, rises = rises || d > 0;
    }
    require(!falls || !rises, "some channels decay towards earlier keys and others towards later ones");
  }
  require(std::isfinite(form.softcap) && form.softcap >= 0,
          "the soft cap of the attention scores is {}; it must be finite and positive, or 0 for none", form.softcap);
  require(std::isfinite(form.clamp) || form.clamp == AttentionForm::no_clamp,
          "attention scores are clamped at {}, below which no score is seen; choose a finite number", form.clamp);
}

AttentionForm mirrored(AttentionForm form) {
  for (double& d : form.log_decay) d = -d;
  return form;
}

std::int64_t decay_span(const AttentionForm& form) {
  constexpr double largest_exponent =
      40.0;                             // f32 reaches e^88: products of two factors stay below, even of masked pairs
  constexpr double farthest = 1 << 22;  // distances between bases are exact in f32
  if (!form.decays()) return no_decay_span;
  double steepest = 0;
  for (const double d : form.log_decay) steepest = std::max(steepest, std::abs(d));
  return 2 * static_cast<std::int64_t>(std::min(std::floor(largest_exponent / steepest), farthest)) + 1;
}

}  // namespace lexring
