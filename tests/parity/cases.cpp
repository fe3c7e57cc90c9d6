#include "tests/parity/cases.h"

#include <array>

#include <fmt/format.h>

#include "framework/base/error.h"

namespace lexring::parity {
namespace {

constexpr int heads = 8;

struct Model {
  const char* name;
  std::int64_t length;
  std::vector<std::string> keys;
  std::string frozen = "";
};

/// Positions that turn queries and keys, that bias scores by head, by distance, or by where the query stands too, that
/// lie in a table; scores with and without a cap, with factors that are the query's alone or learned; halves of a layer
/// side by side, with norms and a width of the heads' own; every kind of norm, feed-forward block and projection. Where
/// a bias has a gradient of 0 in mathematics, as of keys or of all scores, there is none, or it is not trained: AdamW
/// would divide its noise by itself. Sharded optimizers cut parameters from 65,536 elements on by rows: "learned" has
/// some. ReLU is missing: its derivative jumps, and meshes that round otherwise fall on either side.
const std::vector<Model>& table() {
  static const std::vector<Model> models = {
      {"lex", 96, {"--position.kind", "xpos", "--position.scale_base", "64"}},
      {"everything",
       83,
       {"--position.kind", "rope", "--model.norm", "rmsnorm", "--model.ffn", "swiglu", "--model.sub_norm", "true",
        "--model.tied", "false", "--model.ffn_width", "176", "--attention.softcap", "1.5", "--attention.forget_gate",
        "true"}},
      {"alibi", 64, {"--position.kind", "alibi", "--model.bias", "false", "--model.sub_norm", "true"}},
      {"learned",
       77,
       {"--position.kind", "learned", "--model.bias", "false", "--model.tied", "false", "--model.max_length", "96",
        "--model.ffn_width", "1040"}},
      {"kerple",
       71,
       {"--position.kind", "kerple_log", "--model.bias", "false", "--attention.logn_base", "32",
        "--attention.temperature", "0.8", "--model.logit_softcap", "20"}},
      {"fire",
       59,
       {"--position.kind", "fire", "--position.fire_threshold", "24", "--model.bias", "false", "--model.norm",
        "rmsnorm", "--model.ffn", "gelu_tanh", "--model.qk_norm", "true", "--model.parallel", "true",
        "--model.head_width", "12", "--attention.ssmax", "true"},
       "position.fire.down.bias"},
  };
  return models;
}

const Model& find_model(const std::string& name) {
  for (const Model& model : table()) {
    if (name == model.name) return model;
  }
  fail("the parity grid has no model '{}'", name);
}

/// Deals models, micro-batches and recomputation out over the cases as if by chance, so that all meet all.
class Dealer {
 public:
  void add(Case which) {
    const auto draw = [&](std::size_t stream, std::size_t count) {
      const std::uint64_t mixed = (cases_.size() * 8 + stream + 1) * 0x9e3779b97f4a7c15u;
      return static_cast<std::size_t>((mixed ^ (mixed >> 29)) * 0xbf58476d1ce4e5b9u >> 33) % count;
    };
    const Model& model = table()[draw(0, table().size())];
    which.model = model.name;
    which.length = model.length;
    constexpr std::array<std::int64_t, 5> micro_batches = {0, 3, 0, 1, 2};
    which.micro_batch = micro_batches[draw(1, micro_batches.size())];
    constexpr std::array<const char*, 6> recompute = {"layer", "none", "ffn", "none", "attention", "none"};
    which.recompute = recompute[draw(2, recompute.size())];
    constexpr std::array<const char*, 6> frozen = {"", "norm,ffn.down", "", "", "layers.0,embedding", ""};
    which.frozen = frozen[draw(3, frozen.size())];
    cases_.push_back(std::move(which));
  }
  std::vector<Case> take() { return std::move(cases_); }

 private:
  std::vector<Case> cases_;
};

void add_mesh(Dealer& dealer, const Mesh& mesh) {
  const bool shared = mesh.size(Axis::cp) > 1;
  const std::vector<std::string> partitions =
      shared ? std::vector<std::string>{"zigzag", "striped", "contiguous"} : std::vector<std::string>{"-"};
  struct Way {
    const char* pattern;
    const char* far;
  };
  std::vector<Way> ways = {{"causal", "ring"}, {"blockwise", "halo"}};
  if (shared && mesh.ulysses == 1)
    ways.insert(ways.end(), {{"blockwise", "ring"}, {"chunked", "halo"}, {"window", "halo"}, {"sink_window", "halo"}});
  for (const std::string& partition : partitions) {
    for (const Way& way : ways) {
      for (const bool documents : {false, true}) {
        for (const char* shard : {"none", "state", "gradients"}) {
          Case which;
          which.mesh = mesh;
          which.partition = partition;
          which.pattern = way.pattern;
          which.far = way.far;
          which.documents = documents;
          which.shard = shard;
          dealer.add(which);
        }
      }
    }
  }
}

std::vector<std::string> common_keys(const Case& which, const std::string& directory) {
  const Model& model = find_model(which.model);
  std::vector<std::string> keys = {"--model.layers",         "2",
                                   "--model.width",          "64",
                                   "--model.heads",          std::to_string(heads),
                                   "--model.kv_heads",       "4",
                                   "--model.vocab",          "257",
                                   "--train.length",         std::to_string(which.length),
                                   "--train.batch",          std::to_string(which.batch()),
                                   "--train.steps",          std::to_string(steps),
                                   "--optimizer.lr",         "3e-4",
                                   "--optimizer.warmup",     std::to_string(steps),
                                   "--attention.pattern",    which.pattern,
                                   "--data.documents",       which.documents ? "mask" : "ignore",
                                   "--checkpoint.every",     "0",
                                   "--checkpoint.keep",      "0",
                                   "--checkpoint.directory", directory};
  keys.insert(keys.end(), model.keys.begin(), model.keys.end());
  const std::string frozen = model.frozen + (model.frozen.empty() || which.frozen.empty() ? "" : ",") + which.frozen;
  if (!frozen.empty()) keys.insert(keys.end(), {"--train.frozen", frozen});
  const std::string& pattern = which.pattern;
  if (pattern == "blockwise" || pattern == "chunked") keys.insert(keys.end(), {"--attention.block", "16"});
  if (pattern == "window" || pattern == "sink_window") keys.insert(keys.end(), {"--attention.window", "21"});
  if (pattern == "sink_window") keys.insert(keys.end(), {"--attention.sinks", "3"});
  return keys;
}

}  // namespace

std::int64_t Case::batch() const {
  const std::int64_t dp = mesh.size(Axis::dp);
  return 8 % dp == 0 ? 8 : 6 % dp == 0 ? 6 : dp;
}

std::string Case::exchange() const {
  if (mesh.size(Axis::cp) == 1) return "-";
  if (mesh.ulysses == 1) return far;
  return mesh.ring() == 1 ? "ulysses" : fmt::format("{} {} x ulysses {}", far, mesh.ring(), mesh.ulysses);
}

std::string Case::reference() const {
  return fmt::format("{}-{}-{}-{}x{}{}", model, pattern, documents ? "packed" : "whole", batch(), length,
                     frozen.empty() ? "" : "-without-" + frozen);
}

std::string Case::describe() const {
  return fmt::format("dp{} cp{} tp{} {} {} {} {} {} {} length {} micro {} recompute {}{}", mesh.size(Axis::dp),
                     mesh.size(Axis::cp), mesh.size(Axis::tp), partition, pattern, exchange(),
                     documents ? "packed" : "whole", shard, model, length, micro_batch, recompute,
                     frozen.empty() ? "" : " frozen " + frozen);
}

std::vector<std::string> models() {
  std::vector<std::string> names;
  for (const Model& model : table()) names.emplace_back(model.name);
  return names;
}

std::vector<Case> all_cases(int ranks) {
  Dealer dealer;
  for (int size = 1; size <= ranks; ++size) {
    for (int dp = size; dp >= 1; --dp) {
      for (int tp = 1; tp <= heads && size % dp == 0; tp *= 2) {
        if (size / dp % tp != 0) continue;
        const int cp = size / dp / tp;
        for (int ulysses = 1; ulysses <= cp; ++ulysses) {
          if (cp % ulysses == 0 && heads / tp % ulysses == 0) add_mesh(dealer, make_mesh(size, dp, cp, tp, ulysses));
        }
      }
    }
  }
  return dealer.take();
}

std::vector<Case> quick_cases(int ranks) {
  // Sizes: dp, cp, tp, ulysses.
  const auto mesh = [](int dp, int cp, int tp, int ulysses = 1) {
    return make_mesh(dp * cp * tp, dp, cp, tp, ulysses);
  };
  const std::vector<Case> list = {
      {mesh(2, 1, 1), "-", "blockwise", "halo", true, "none", "lex", 96, 3, "none"},
      {mesh(4, 1, 1), "-", "causal", "ring", true, "none", "learned", 77, 1, "layer"},
      {mesh(3, 1, 1), "-", "causal", "ring", true, "state", "learned", 77, 1, "none"},
      {mesh(4, 1, 1), "-", "causal", "ring", false, "gradients", "everything", 83, 1, "layer"},
      {mesh(1, 2, 1), "zigzag", "causal", "ring", true, "none", "lex", 96, 3, "layer"},
      {mesh(1, 3, 1), "striped", "causal", "ring", true, "gradients", "everything", 83, 0, "none"},
      {mesh(1, 4, 1), "contiguous", "blockwise", "halo", true, "state", "lex", 96, 0, "none"},
      {mesh(1, 4, 1), "zigzag", "causal", "ring", true, "none", "lex", 5, 0, "none"},
      {mesh(1, 2, 1), "zigzag", "chunked", "halo", true, "none", "lex", 96, 0, "none"},
      {mesh(1, 3, 1), "zigzag", "sink_window", "halo", true, "none", "alibi", 64, 0, "none"},
      {mesh(1, 4, 1, 2), "zigzag", "causal", "ring", true, "none", "everything", 83, 0, "none"},
      {mesh(2, 2, 1), "contiguous", "window", "halo", false, "gradients", "learned", 77, 3, "none"},
      {mesh(1, 1, 2), "-", "causal", "ring", true, "none", "lex", 96, 3, "layer"},
      {mesh(1, 1, 4), "-", "blockwise", "halo", false, "state", "everything", 83, 0, "none"},
      {mesh(2, 1, 2), "-", "causal", "ring", true, "gradients", "alibi", 64, 0, "none"},
      {mesh(1, 2, 2), "zigzag", "causal", "ring", true, "state", "everything", 83, 0, "none"},
      {mesh(1, 3, 1), "striped", "causal", "ring", true, "state", "kerple", 71, 0, "none"},
      {mesh(1, 2, 2), "zigzag", "causal", "ring", true, "none", "fire", 59, 3, "layer"},
      {mesh(1, 1, 8), "-", "causal", "ring", true, "none", "lex", 96, 0, "none"},
      {mesh(2, 2, 2), "zigzag", "causal", "ring", true, "gradients", "lex", 96, 3, "none"},
      {mesh(2, 1, 1), "-", "causal", "ring", true, "gradients", "everything", 83, 3, "none", "norm,ffn.down"},
      {mesh(3, 1, 1), "-", "blockwise", "halo", true, "none", "learned", 77, 1, "layer", "layers.0,embedding"},
      {mesh(1, 2, 1), "zigzag", "causal", "ring", false, "state", "lex", 96, 0, "none", "norm,ffn.down"},
      {mesh(1, 1, 2), "-", "causal", "ring", true, "none", "lex", 96, 3, "none", "layers.0,embedding"},
      {mesh(2, 1, 2), "-", "causal", "ring", true, "state", "everything", 83, 0, "layer", "layers.0,embedding"},
  };
  std::vector<Case> fitting;
  for (const Case& which : list) {
    if (which.mesh.ranks() <= ranks) fitting.push_back(which);
  }
  return fitting;
}

Options reference_options_of(const Case& which, const std::string& directory) {
  return parse_options(common_keys(which, directory));
}

Options options_of(const Case& which, const std::string& directory) {
  std::vector<std::string> keys = common_keys(which, directory);
  const auto add = [&](const char* key, std::string value) {
    keys.insert(keys.end(), {std::string("--") + key, std::move(value)});
  };
  for (const Axis axis : axes)
    add(axis == Axis::dp ? "mesh.dp" : axis == Axis::cp ? "mesh.cp" : "mesh.tp", std::to_string(which.mesh.size(axis)));
  if (which.mesh.size(Axis::cp) > 1) add("mesh.ulysses", std::to_string(which.mesh.ulysses));
  if (which.partition != "-") {
    add("sequence.partition", which.partition);
    add("sequence.exchange", which.far);
  }
  if (which.shard != "none") add("optimizer.shard", which.shard);
  if (which.micro_batch > 0) add("train.micro_batch", std::to_string(which.micro_batch));
  if (which.recompute != "none") add("train.recompute", which.recompute);
  return parse_options(keys);
}

}  // namespace lexring::parity
