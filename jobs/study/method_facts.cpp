#include "jobs/study/method_facts.h"

#include <algorithm>
#include <span>

namespace lexring {
namespace {

const MethodFact positions[] = {
    {"none", "nothing: the causal mask alone lets a model count",
     "Haviv et al. 2022, Transformer Language Models without Positional Encodings Still Learn Positional Information"},
    {"sinusoidal", "x_n += (sin(n f_i), cos(n f_i)), f_i = 10000^(−2i/D)",
     "Vaswani et al. 2017, Attention Is All You Need"},
    {"learned", "x_n += table[n]; nothing beyond the table",
     "Radford et al. 2019, Language Models are Unsupervised Multitask Learners"},
    {"rope", "score = Σ_i Re(q_i k_i* e^(i θ_i (n − m))) / √E, θ_i = θ^(−2i/E)",
     "Su et al. 2021, RoFormer: Enhanced Transformer with Rotary Position Embedding"},
    {"xpos", "score = Σ_i ζ_i^((n − m)/S) Re(q_i k_i* e^(i θ_i (n − m))) / √E, ζ_i = (2i/E + γ) / (1 + γ)",
     "Sun et al. 2023, A Length-Extrapolatable Transformer (ACL)"},
    {"alibi", "score −= 2^(−8h/H) (n − m), heads h = 1 … H",
     "Press et al. 2022, Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation"},
    {"t5", "score += table[bucket(n − m), h], learned; buckets grow with the distance",
     "Raffel et al. 2020, Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer"},
    {"sandwich", "score += Σ_i cos((n − m) / 10000^(2i/d)) / (8h/H)",
     "Chi et al. 2023, Dissecting Transformer Length Extrapolation via the Lens of Receptive Field Analysis"},
    {"kerple_log", "score −= r₁ log(1 + r₂ (n − m)), r₁ and r₂ learned per head",
     "Chi et al. 2022, KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation"},
    {"kerple_power", "score −= r₁ (n − m)^r₂, r₁ and r₂ learned per head",
     "Chi et al. 2022, KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation"},
    {"fire", "score += MLP(log(1 + c (n − m)) / log(1 + c max(n, L))), c and L learned",
     "Li et al. 2024, Functional Interpolation for Relative Positions Improves Long Context Transformers"},
};

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

const MethodFact patterns[] = {
    {"causal", "a query sees every earlier position", ""},
    {"window", "a query sees the last w positions, its own included",
     "Beltagy et al. 2020, Longformer: The Long-Document Transformer"},
    {"blockwise", "a query sees its own block, causally, and the whole block before it",
     "Sun et al. 2023, A Length-Extrapolatable Transformer (ACL)"},
    {"chunked", "a query sees its own block, causally, and nothing before it",
     "Meta 2025, Llama 4 (the layers with positions)"},
    {"sink_window", "a window, and the first tokens of the document",
     "Xiao et al. 2024, Efficient Streaming Language Models with Attention Sinks"},
    {"shifted", "a query sees its own block, causally; for half of the heads blocks lie half a block further back",
     "Chen et al. 2024, LongLoRA: Efficient Fine-tuning of Long-Context Large Language Models"},
    {"full", "a query sees the whole document, what comes after it too; decay and biases are of |n − m|",
     "Vaswani et al. 2017, Attention Is All You Need (the encoder); XPOS by |n − m| is an extension"},
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

MethodFact position_fact(const std::string& kind) { return find(positions, kind); }
MethodFact scaling_fact(const std::string& scaling) { return find(scalings, scaling); }
MethodFact pattern_fact(const std::string& pattern) { return find(patterns, pattern); }

std::vector<MethodFact> facts_of(const StudyMethod& method) {
  const ModelConfig& model = method.options.model;
  std::vector<MethodFact> facts = {position_fact(model.position.kind->name)};
  const std::string asked = given(method, "position.scaling");
  const std::string scaling = asked.empty() ? name_of(model.position.scaling) : asked;
  if (model.position.kind->rotary && scaling != "none") facts.push_back(scaling_fact(scaling));
  const AttentionConfig& a = model.attention;
  if (a.logn_base > 0 || !given(method, "attention.logn_base").empty())
    facts.push_back({"log-n", "score × log(n + 1) / log(base)",
                     "Chiang and Cholak 2022, Overcoming a Theoretical Limitation of Self-Attention; Su 2021"});
  if (a.forget_gate)
    facts.push_back({"forget gate",
                     "score += Σ log σ(w x_l + b) over the tokens m < l ≤ n, "
                     "w and b learned per head",
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
