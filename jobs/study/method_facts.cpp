#include "jobs/study/method_facts.h"

#include <algorithm>
#include <span>

namespace lexring {
namespace {

const MethodFact scalings[] = {
    {"linear", "position / s",
     "Chen et al. 2023, Extending Context Window of Large Language Models via Positional "
     "Interpolation"},
    {"ntk", "θ' = θ s^(R/(R − 2))", "bloc97 2023, NTK-Aware Scaled RoPE"},
    {"dynamic", "NTK with s' = s n/L − (s − 1) in sequences of n > L tokens", "emozilla 2023, Dynamically Scaled RoPE"},
    {"yarn",
     "f' = f between β_fast and more turns within L, f/s below β_slow, a ramp between; q and k × (0.1 ln s + 1)",
     "Peng et al. 2024, YaRN: Efficient Context Window Extension of Large Language Models"},
    {"llama3", "f' = f above high_freq_factor turns within L, f/s below low_freq_factor, a ramp between",
     "Grattafiori et al. 2024, The Llama 3 Herd of Models"},
    {"longrope", "f' = f / divisor of each channel pair; q and k × √(1 + ln s / ln L)",
     "Ding et al. 2024, LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens"},
    {"modulo", "position mod L", "kaiokendev 2023, on extending context to 8k"},
    {"repeat", "floor(position / s)", "kaiokendev 2023, on extending context to 8k"},
};

MethodFact find(std::span<const MethodFact> facts, const std::string& name) {
  const auto at = std::find_if(facts.begin(), facts.end(), [&](const MethodFact& fact) { return fact.name == name; });
  return at == facts.end() ? MethodFact{name, "", ""} : *at;
}

/// The value of a key in the evaluation of a method; empty: not given.
std::string given(const StudyMethod& method, const std::string& key) {
  for (const auto& [name, value] : method.evaluation) {
    if (name == key) return value;
  }
  return "";
}

}  // namespace

MethodFact scaling_fact(const std::string& scaling) { return find(scalings, scaling); }

std::vector<MethodFact> facts_of(const StudyMethod& method) {
  const ModelConfig& model = method.options.model;
  const PositionMethod& position = *model.position.kind;
  std::vector<MethodFact> facts = {{position.name, position.formula, position.source}};
  const std::string asked = given(method, "position.scaling");
  const std::string scaling = asked.empty() ? name_of(model.position.scaling) : asked;
  if (position.rotary && scaling != "none") facts.push_back(scaling_fact(scaling));
  const AttentionConfig& a = model.attention;
  if (a.logn_base > 0 || !given(method, "attention.logn_base").empty())
    facts.push_back({"log-n", "score × log(n + 1) / log(base)",
                     "Chiang and Cholak 2022, Overcoming a Theoretical Limitation of Self-Attention; Su 2021"});
  if (a.forget_gate)
    facts.push_back({"forget gate", "score += Σ log σ(w x_l + b) over the tokens m < l ≤ n, w and b learned per head",
                     "Lin et al. 2025, Forgetting Transformer: Softmax Attention with a Forget Gate"});
  if (a.ssmax)
    facts.push_back({"ssmax", "score × s log(number of keys), s learned per layer and head",
                     "Nakanishi 2025, Scalable-Softmax Is Superior for Attention"});
  if (a.cache_positions || given(method, "attention.cache_positions") == "true")
    facts.push_back({"positions in the cache", "distances as if sinks and window were all of the text",
                     "Xiao et al. 2024, Efficient Streaming Language Models with Attention Sinks"});
  if (a.floor_scale > 0 || !given(method, "attention.floor_scale").empty())
    facts.push_back({"floor scale", "score × (1 + a log(1 + floor((n + 1) / floor_scale)))", "Meta 2025, Llama 4"});
  return facts;
}

}  // namespace lexring
