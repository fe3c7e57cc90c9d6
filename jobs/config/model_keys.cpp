#include "jobs/config/model_keys.h"

namespace lexring {
namespace {

std::vector<std::string> positions(bool PositionMethod::*are) {
  return names_where<PositionKind>([&](const PositionKind& kind) { return (*kind).*are; });
}
/// That read a size.
std::vector<std::string> patterns(bool PatternMethod::*size) {
  return names_where<PatternKind>([&](const PatternKind& kind) { return (*kind).*size; });
}

}  // namespace

std::vector<Key> model_keys(ModelConfig& m) {
  std::vector<Key> keys;
  const auto add = [&](std::string name, KeyTarget target, std::string meaning, std::string unit = "",
                       std::string default_text = "") -> Key& {
    return keys.emplace_back(
        Key{std::move(name), std::move(target), std::move(meaning), std::move(unit), std::move(default_text)});
  };
  add("model.vocab", &m.vocab, "vocabulary", "tokens", "the dataset's").at_least(0);
  add("model.layers", &m.layers, "layers").at_least(1);
  add("model.width", &m.width, "width of the residual stream", "channels").at_least(1);
  add("model.heads", &m.heads, "query heads; must divide model.width, or have a model.head_width").at_least(1);
  add("model.kv_heads", &m.kv_heads, "key and value heads; must divide model.heads", "", "model.heads").at_least(1);
  add("model.head_width", &m.head_width, "width of a head", "channels", "model.width / model.heads").at_least(0);
  add("model.ffn", &m.ffn, "feed-forward block; gelu_tanh is GPT-2's approximation");
  add("model.ffn_width", &m.ffn_width, "inner width of the feed-forward block", "channels", "4 x model.width")
      .at_least(1);
  add("model.norm", &m.norm, "normalisation");
  add("model.norm_eps", &m.norm_eps, "added to the variance").between(0, 1);
  add("model.bias", &m.bias, "biases on every linear layer but the output projection", "true|false");
  add("model.qkv_bias", &m.qkv_bias, "biases on query, key and value alone", "true|false")
      .only_with("model.bias", {"false"});
  add("model.qk_norm", &m.qk_norm, "RMS norm of each query and key head before it is turned", "true|false");
  add("model.parallel", &m.parallel, "attention and feed-forward block read the same stream: x + attention + block",
      "true|false");
  add("model.sub_norm", &m.sub_norm, "one more norm before the attention output and the last feed-forward matrix",
      "true|false");
  add("model.tied", &m.tied, "output projection = token embedding", "true|false");
  add("model.max_length", &m.max_length, "rows of the learned position table", "tokens",
      "train.length, or what sampling.limit reaches")
      .at_least(0)
      .only_with("position.kind", positions(&PositionMethod::bounded));

  add("model.logit_softcap", &m.logit_softcap, "logits become cap x tanh(logits / cap); 0: no cap").between(0, 1e6);

  add("adapter.rank", &m.adapter.rank,
      "rank of additions to weights, which then stay as they are (LoRA); 0: none, everything is trained")
      .between(0, 1 << 20);
  const auto add_for_adapters = [&](std::string name, KeyTarget target, std::string meaning) -> Key& {
    return add(std::move(name), std::move(target), std::move(meaning)).not_with("adapter.rank", {"0"});
  };
  add_for_adapters("adapter.alpha", &m.adapter.alpha, "additions are multiplied by alpha / rank").between(0, 1e6);
  add_for_adapters("adapter.targets", &m.adapter.targets, "linear layers with an addition, with commas between");
  add_for_adapters("adapter.trainable", &m.adapter.trainable,
                   "parameters that are trained too: whose names contain one of these, with commas between; LongLoRA: "
                   "embedding,norm");

  auto& s = m.position;
  add("position.kind", &s.kind, "how the model knows where a token stands");
  add("position.theta", &s.theta, "rotary base")
      .between(0, 1e15)
      .only_with("position.kind", positions(&PositionMethod::rotary));
  for (const PositionMethod& method : PositionMethod::table()) {
    for (const PositionSetting& of : method.settings) {
      const KeyTarget target = of.whole ? KeyTarget(&s.own.whole(of.name)) : KeyTarget(&s.own.number(of.name));
      add(std::string("position.") + of.name, target, of.meaning, of.unit)
          .between(of.least, of.most)
          .only_with("position.kind", {method.name});
    }
  }
  add("position.scaling", &s.scaling, "rescaling of rotary angles")
      .only_with("position.kind", positions(&PositionMethod::rotary));
  add("position.scaling_factor", &s.scaling_factor, "new length / training length")
      .between(1e-3, 1e6)
      .only_with("position.scaling", names_where<Scaling>(reads_factor));
  add("position.original_length", &s.original_length,
      "training length: yarn's and llama3's ramp, modulo's period, where dynamic and longrope begin", "tokens",
      "train.length")
      .between(0, most_tokens_at_once)
      .only_with("position.scaling", names_where<Scaling>(reads_original_length));
  add("position.beta_fast", &s.beta_fast, "rotations above which angles are kept")
      .between(0, 1e6)
      .only_with("position.scaling", names_where<Scaling>(reads_ramp));
  add("position.beta_slow", &s.beta_slow, "rotations below which angles are interpolated")
      .between(0, 1e6)
      .only_with("position.scaling", names_where<Scaling>(reads_ramp));

  add("position.low_freq_factor", &s.low_freq_factor,
      "turns within original_length below which angles are interpolated")
      .between(0, 1e6)
      .only_with("position.scaling", names_where<Scaling>(reads_band));
  add("position.high_freq_factor", &s.high_freq_factor, "turns within original_length above which angles are kept")
      .between(0, 1e6)
      .only_with("position.scaling", names_where<Scaling>(reads_band));
  add("position.short_factor", &s.short_factor,
      "what the frequency of each turned channel pair is divided by up to original_length; separated by commas")
      .between(0, 1e9)
      .only_with("position.scaling", names_where<Scaling>(reads_divisors));
  add("position.long_factor", &s.long_factor, "the same in longer sequences")
      .between(0, 1e9)
      .only_with("position.scaling", names_where<Scaling>(reads_divisors));
  add("position.attention_factor", &s.attention_factor,
      "what turned queries and keys are multiplied by; 0: the method's own")
      .between(0, 1e6)
      .only_with("position.scaling", names_where<Scaling>(reads_magnitude));
  add("position.partial_rotary_factor", &s.partial_rotary_factor, "share of a head's channels that is turned")
      .between(0, 1)
      .only_with("position.kind", positions(&PositionMethod::rotary));
  add("position.p_rope", &s.p_rope, "share of the turned channel pairs, the fastest, that has a frequency")
      .between(0, 1)
      .only_with("position.kind", positions(&PositionMethod::rotary));

  auto& a = m.attention;
  add("attention.pattern", &a.pattern,
      "which keys a query sees; full: those after it too; shifted: LongLoRA's, for training");
  add("attention.window", &a.window, "keys a query sees, itself included", "tokens")
      .between(0, most_tokens_at_once)
      .only_with("attention.pattern", patterns(&PatternMethod::window));
  add("attention.block", &a.block,
      "size of blocks; blockwise sees the own and the one before, chunked and shifted the own alone", "tokens",
      "train.length / 2")
      .between(0, most_tokens_at_once)
      .only_with("attention.pattern", patterns(&PatternMethod::block));
  add("attention.sinks", &a.sinks, "first tokens that stay visible", "tokens")
      .between(0, most_tokens_at_once)
      .only_with("attention.pattern", patterns(&PatternMethod::sinks));
  add("attention.cache_positions", &a.cache_positions,
      "distances are those within the cache of sinks and window, as in StreamingLLM, not those in the text",
      "true|false")
      .only_with("attention.pattern", patterns(&PatternMethod::sinks));
  add("attention.logn_base", &a.logn_base,
      "scores of the query at i are multiplied by log(i + 1) / log(base); e.g. the training length; 0: not", "tokens")
      .between(0, most_tokens_at_once);
  add("attention.logn_clip", &a.logn_clip, "log-n's factor is at least 1; false: as Su's hybrids are trained",
      "true|false");
  add("attention.temperature", &a.temperature, "what scores are divided by").between(1e-6, 1e6);
  add("attention.floor_scale", &a.floor_scale,
      "scores are multiplied by 1 + attn_scale x log(1 + floor((i + 1) / floor_scale)); 0: not", "tokens")
      .between(0, most_tokens_at_once);
  add("attention.attn_scale", &a.attn_scale, "strength of attention.floor_scale").between(0, 1e6);
  add("attention.forget_gate", &a.forget_gate,
      "added to scores: log sigmoid(w x + b) of each token after the key, up to the query; w and b learned per layer "
      "and head",
      "true|false");
  add("attention.ssmax", &a.ssmax,
      "scores are multiplied by s x log(keys that the query sees), s learned per layer and head", "true|false");
  add("attention.softcap", &a.softcap, "scores, before the bias, become cap x tanh(score / cap); 0: no cap")
      .between(0, 1e6);
  add("attention.clamp", &a.clamp,
      "keys whose score is below it disappear, but for the query's own token; for evaluation; -1e6: none do")
      .between(AttentionConfig::no_clamp, 1e6);
  add("attention.normalizer", &a.normalizer,
      "what makes weights of scores; landmark: softmax in blocks, each weighed by the landmark token that closes it");
  add("attention.relu_gamma", &a.relu_gamma, "weights are max(score, 0) / (gamma x sqrt(keys that the query sees / 2))")
      .between(1e-6, 1e6)
      .only_with("attention.normalizer", {"relu"});
  add("attention.landmark_every", &a.landmark_every,
      "a landmark token stands after so many tokens of a document; it is put there as data are read, and counts as a "
      "token of the window",
      "tokens")
      .between(0, most_tokens_at_once)
      .only_with("attention.normalizer", {"landmark"});
  add("attention.landmark_token", &a.landmark_token, "id of the landmark token", "", "the one behind the data's")
      .between(0, 2147483647)
      .only_with("attention.normalizer", {"landmark"});
  return keys;
}

}  // namespace lexring
