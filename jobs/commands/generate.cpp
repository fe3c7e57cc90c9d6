#include "jobs/commands/generate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <span>

#include <fmt/format.h>

#include "datasets/tokenizer.h"
#include "jobs/mesh_setup.h"
#include "jobs/model_state.h"
#include "jobs/options.h"
#include "models/transformer.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring generate: continue a prompt from a checkpoint

  lexring generate --checkpoint runs/quickstart --prompt "=head1 NAME" --tokens 400
  mpirun -n 2 lexring generate --checkpoint runs/quickstart --prompt "=head1 NAME" --mesh.tp 2
)";

/// The next tokens of the one sequence in the cache: they belong to the document that began at position 0.
ModelBatch next_tokens(const std::vector<std::int32_t>& ids, std::int64_t first_position, std::int64_t sinks) {
  const auto count = static_cast<std::int64_t>(ids.size());
  ModelBatch batch;
  batch.tokens.sequences = {{0, 0, count}};
  batch.tokens.position.resize(ids.size());
  std::iota(batch.tokens.position.begin(), batch.tokens.position.end(), first_position);
  batch.ids = ids;
  batch.document_start.assign(ids.size(), 0);
  batch.sink_end.assign(ids.size(), sinks);
  return batch;
}

/// Draws from softmax(logits / temperature) among the `top_k` largest (0: all); a temperature of 0 takes the largest.
std::int32_t draw(const std::vector<float>& logits, double temperature, std::int64_t top_k, std::mt19937_64& random) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto kept = top_k > 0 ? std::min(static_cast<std::size_t>(top_k), order.size()) : order.size();
  const auto larger = [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(), larger);
  if (temperature == 0) return order[0];
  order.resize(kept);
  std::vector<double> cumulative;
  double total = 0;
  for (const std::int32_t id : order) {
    total += std::exp((logits[static_cast<std::size_t>(id)] - logits[static_cast<std::size_t>(order[0])]) / temperature);
    cumulative.push_back(total);
  }
  const double at = total * static_cast<double>(random() >> 11) * 0x1p-53;
  const auto found = std::upper_bound(cumulative.begin(), cumulative.end() - 1, at);
  return order[static_cast<std::size_t>(found - cumulative.begin())];
}

std::vector<float> as_floats(const Tensor& logits) {
  if (logits.dtype() == Dtype::f32) return logits.to_host<float>();
  const auto values = logits.to_host<double>();
  return {values.begin(), values.end()};
}

/// One token at a time has nothing for replicas or ring to share.
void check_mesh(const MeshKeys& mesh, int ranks) {
  require_usage(mesh.cp == 1, "mesh.cp = {}: generation goes token by token, which ranks cannot share along the sequence; use mesh.tp",
                mesh.cp);
  require_usage(
      mesh.dp <= 1 && mesh.tp == ranks,
      "generation continues one text, which replicas cannot share, but {} processes were started with mesh.tp = {}; use --mesh.tp {} "
      "where it divides the heads, or start {}",
      ranks, mesh.tp, ranks, mesh.tp);
}

}  // namespace

int generate_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world) {
  std::string checkpoint, prompt, precision;
  DeviceKeys device;
  std::int64_t tokens = 256, top_k = 0, seed = 1;
  double temperature = 0.8;
  MeshKeys mesh;
  const bool first = world->rank() == 0;
  KeyTable table;
  table.add({{"checkpoint", &checkpoint, "a run's directory or a step-* directory in it", "directory"},
             {"prompt", &prompt, "text to continue"},
             {"tokens", &tokens, "tokens to add; an end of document ends earlier", "tokens"},
             {"temperature", &temperature, "scores are divided by it; 0: always the likeliest token"},
             {"top-k", &top_k, "draw among this many likeliest tokens; 0: all", "tokens"},
             {"seed", &seed, "of the draws"},
             {"precision", &precision, "working precision", "", "that of the training", {"bf16", "tf32", "fp32", "fp64"}}});
  table.add(device_keys(device));
  table.add(mesh_keys(mesh));
  if (asks_help(args)) {
    if (first) fmt::print("{}{}", usage, table.help());
    return 0;
  }
  table.parse_arguments(args);
  require_usage(!checkpoint.empty(), "checkpoint is missing; give --checkpoint with a run's directory");
  require_usage(!prompt.empty(), "prompt is empty; a model continues text, so give at least one character with --prompt");
  require_usage(tokens >= 0 && top_k >= 0 && temperature >= 0, "tokens, top-k and temperature must not be negative");
  check_mesh(mesh, world->size());

  const CheckpointReader reader(*world, checkpoint);
  reader.verify(*world);
  Options options = parse_ini_text(reader.state().configuration, reader.path().string() + " (stored configuration)");
  if (!precision.empty()) {
    options.train.precision = precision;
    if (precision != "bf16") options.train.residual = "f32";
  }
  const ByteTokenizer tokenizer;
  require(options.model.vocab == tokenizer.vocab(),
          "{} has a vocabulary of {}, but the byte tokenizer's is {}; only models of bytes can write text yet", reader.path().string(),
          options.model.vocab, tokenizer.vocab());
  const RunDevice on = open_device(device, options.train.precision, world);
  Backend& backend = *on.backend;
  const RunMesh run = make_run_mesh(on.world, mesh, {}, options.model, {});
  const Context& context = run.context;
  Transformer model(options.model, runtime_of(options), context, backend);
  load_parameters(reader, model);

  std::vector<std::uint32_t> encoded;
  tokenizer.encode(prompt, encoded);
  std::vector<std::int32_t> ids(encoded.begin(), encoded.end());
  if (first) std::fwrite(prompt.data(), 1, prompt.size(), stdout);
  std::mt19937_64 random(static_cast<std::uint64_t>(seed));
  const auto cache = model.make_cache();
  std::int64_t position = 0;
  for (std::int64_t i = 0; i < tokens; ++i) {
    const ModelBatch batch = next_tokens(ids, position, options.model.attention.sinks);
    position += static_cast<std::int64_t>(ids.size());
    std::array<std::int32_t, 1> drawn = {
        draw(as_floats(model.logits(batch, Transformer::Rows::last, cache.get())), temperature, top_k, random)};
    world->broadcast(std::as_writable_bytes(std::span(drawn)), 0);  // unlike processors may round unlike
    const std::int32_t next = drawn[0];
    if (next == tokenizer.end_of_document()) break;
    ids.assign(1, next);
    if (!first) continue;
    const std::string bytes = tokenizer.decode(ids);
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    std::fflush(stdout);
  }
  if (first) std::fputc('\n', stdout);
  return 0;
}

}  // namespace lexring
