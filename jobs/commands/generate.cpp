#include "jobs/commands/generate.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <set>
#include <span>

#include <fmt/format.h>

#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "jobs/commands/text_stream.h"
#include "jobs/config/mesh_keys.h"
#include "jobs/config/options.h"
#include "jobs/launch/command_start.h"
#include "jobs/launch/devices.h"
#include "jobs/launch/mesh_setup.h"
#include "jobs/launch/model_state.h"
#include "jobs/launch/model_use.h"
#include "jobs/launch/progress_bar.h"
#include "jobs/launch/stored_tokenizer.h"
#include "models/config_check.h"
#include "models/layer_configs.h"
#include "models/transformer.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring generate: continue a prompt from a checkpoint

  lexring generate --checkpoint runs/quickstart --prompt "=head1 NAME" --tokens 400
  lexring generate --checkpoint runs/quickstart --prompt-file book.txt --attention.pattern blockwise
  zcat book.txt.gz | mpirun -n 2 lexring generate --checkpoint runs/quickstart --prompt-file - --mesh.tp 2

A prompt or a continuation may be longer than the sequences of the training: blockwise attention goes on where
causal attention loses its way. Prompt and continuation go to standard output.
)";

struct Arguments {
  std::string checkpoint, prompt, prompt_file;
  std::optional<PrecisionChoice> precision;
  std::int64_t tokens = 256, top_k = 0, seed = 1, chunk = 4096;
  double temperature = 0.8;
  DeviceKeys device;
  MeshKeys mesh;
  Options use;  ///< only its model_use_keys

  KeyTable keys() {
    KeyTable table;
    table.add(
        {{"checkpoint", &checkpoint, "a run's directory or a step-* directory in it", "directory"},
         {"prompt", &prompt, "text to continue"},
         {"prompt-file", &prompt_file, "text to continue, as it stands in a file; -: from standard input", "file"},
         Key{"tokens", &tokens, "tokens to add; an end of document ends earlier", "tokens"}.between(1, 1e12),
         Key{"temperature", &temperature, "scores are divided by it; 0: always the likeliest token"}.between(0, 1e6),
         Key{"top-k", &top_k, "draw among this many likeliest tokens; 0, or more than there are: all", "tokens"}
             .at_least(0),
         {"seed", &seed, "of the draws"},
         Key{"chunk", &chunk, "tokens of one forward pass; a longer prompt is read chunk by chunk", "tokens"}.between(
             1, most_tokens_at_once),
         {"precision", &precision, "working precision", "", "that of the training", {"bf16", "tf32", "fp32", "fp64"}}});
    table.add(device_keys(device));
    table.add(mesh_keys(mesh));
    table.add(model_use_keys(use));
    return table;
  }
};

void check(const Arguments& args, const std::set<std::string>& given) {
  require_usage(!args.checkpoint.empty(), "checkpoint is missing; give --checkpoint with a run's directory");
  require_usage(given.count("prompt") == 0 || given.count("prompt-file") == 0,
                "--prompt and --prompt-file are both given; keep one");
  require_usage(!args.prompt.empty() || !args.prompt_file.empty(),
                "prompt is empty; a model continues text, so give at least one character with --prompt, or a file with "
                "--prompt-file");
}

/// One token at a time has nothing for replicas or ring to share.
void check_mesh(const MeshKeys& mesh, int ranks) {
  require_usage(
      mesh.cp == 1,
      "mesh.cp = {}: generation goes token by token, which ranks cannot share along the sequence; use mesh.tp",
      mesh.cp);
  require_usage(mesh.dp <= 1, "mesh.dp = {}: generation continues one text, which replicas cannot share; use mesh.tp",
                mesh.dp);
  require_usage(
      mesh.tp == ranks,
      "generation continues one text, which replicas cannot share, but mesh.tp = {} was given to {}; use --mesh.tp {} "
      "where it divides the heads, or start {}",
      mesh.tp, counted(ranks, "process"), ranks, counted(mesh.tp, "process"));
}

/// The whole of a file or of standard input, or its first bytes: more than `most` are too many anyway.
std::string read_text(const std::string& path, std::int64_t most) {
  const bool standard_input = path == "-";
  const std::string name = standard_input ? "standard input" : path;
  const auto why = [] { return std::strerror(errno); };
  require_usage(standard_input || !std::filesystem::is_directory(path),
                "--prompt-file {} is a directory; give a file with text", path);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> own(
      standard_input ? nullptr : std::fopen(path.c_str(), "rb"),
      [](std::FILE* file) { return file == nullptr ? 0 : std::fclose(file); });
  require_usage(standard_input || own != nullptr, "--prompt-file {} cannot be opened: {}", path, why());
  std::FILE* const file = standard_input ? stdin : own.get();
  std::string text;
  constexpr std::size_t piece = 1 << 16;
  while (static_cast<std::int64_t>(text.size()) <= most) {
    const std::size_t before = text.size();
    text.resize(before + piece);
    const std::size_t got = std::fread(text.data() + before, 1, piece, file);
    text.resize(before + got);
    require(std::ferror(file) == 0, "{} cannot be read: {}", name, why());
    if (got < piece) break;
  }
  require_usage(!text.empty(), "{} is empty; a model continues text, so give at least one character", name);
  return text;
}

/// The prompt on every rank; rank 0 alone reads files. Collective.
std::string read_prompt(const Arguments& args, std::int64_t most, Communicator& world) {
  if (args.prompt_file.empty()) return args.prompt;
  std::string text;
  if (world.rank() == 0) text = read_text(args.prompt_file, most);
  std::array<std::int64_t, 1> bytes = {static_cast<std::int64_t>(text.size())};
  world.broadcast(std::as_writable_bytes(std::span(bytes)), 0);
  text.resize(static_cast<std::size_t>(bytes[0]));
  world.broadcast(std::as_writable_bytes(std::span(text)), 0);
  return text;
}

/// Tokens that a model has positions for: any number, but for a table of learned ones, where landmarks take theirs.
std::int64_t most_tokens(const ModelConfig& model) {
  if (!model.position.kind->bounded) return std::numeric_limits<std::int64_t>::max();
  return LandmarkSpacing{landmark_every_of(model)}.tokens_before(model.max_length);
}

/// The last token that is drawn needs no position.
void check_length(std::int64_t prompt, std::int64_t tokens, const ModelConfig& model) {
  const std::int64_t most = most_tokens(model);
  require_usage(prompt <= most,
                "the prompt has more than the {} for which the checkpoint has learned positions (model.max_length = "
                "{}); give a prompt of at most {}",
                counted(most, "token"), model.max_length, most);
  require_usage(tokens - 1 <= most - prompt,
                "--tokens {0} after a prompt of {1} are {2} to read, but the checkpoint's positions are learned, and "
                "end at model.max_length = {3}; give --tokens {4} or less{5}",
                tokens, prompt, static_cast<double>(prompt) + static_cast<double>(tokens) - 1, model.max_length,
                most - prompt + 1, prompt > 1 ? ", or a shorter prompt" : "");
}

}  // namespace

int generate_command(const std::vector<std::string>& words, const std::shared_ptr<Communicator>& world) {
  Arguments args;
  const KeyTable keys = args.keys();
  const bool first = world->rank() == 0;
  if (answers_help(words, usage + keys.help(), *world)) return 0;
  const std::set<std::string> given = keys.parse_arguments(words);
  check(args, given);
  check_mesh(args.mesh, world->size());

  const CheckpointReader reader(*world, args.checkpoint);
  Options options = parse_ini_text(reader.state().configuration, reader.path().string() + " (stored configuration)");
  if (args.precision) use_precision(options, *args.precision);
  require_usage(
      options.train.objective == Objective::causal,
      "{} was trained for hidden tokens (train.objective = mlm), with which text does not go on; generate from "
      "a model of the next token",
      reader.path().string());
  use_last_id_for_landmarks(options.model);
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(reader, options.model.vocab - options.own_ids());
  use_model(options, args.use, given);
  check(options.model);
  check_streaming(options.model);
  const std::string prompt = read_prompt(args, most_tokens(options.model), *world);
  std::vector<std::uint32_t> encoded;
  tokenizer->encode(prompt, encoded);
  const std::vector<std::int32_t> ids(encoded.begin(), encoded.end());
  check_length(static_cast<std::int64_t>(ids.size()), args.tokens, options.model);

  const RunDevice on = open_device(args.device, options.train.precision, world);
  Backend& backend = *on.backend;
  const RunMesh run = make_run_mesh(on.world, args.mesh, {}, options.model, {});
  const Context& context = run.context;
  Transformer model(options.model, runtime_of(options), context, backend);
  reader.verify(*world);
  load_parameters(reader, model);

  TextStream text(model, args.chunk);
  const LandmarkSpacing landmarks{landmark_every_of(options.model)};
  const auto places = landmarks.place(static_cast<std::int64_t>(ids.size()) - 1) + 1;
  ProgressBar progress("reading", "token", static_cast<std::uint64_t>(places));
  if (!first || places <= args.chunk) progress.silence();
  std::vector<float> scores =
      text.read(ids, [&](std::int64_t) { progress.update(static_cast<std::uint64_t>(text.length())); });
  progress.finish();
  if (first) print_result_text(prompt);
  std::mt19937_64 random(static_cast<std::uint64_t>(args.seed));
  for (std::int64_t left = args.tokens; left > 0; --left) {
    std::array<std::int32_t, 1> drawn = {draw(scores, args.temperature, args.top_k, random)};
    world->broadcast(std::as_writable_bytes(std::span(drawn)), 0);  // unlike processors may round unlike
    if (drawn[0] == tokenizer->end_of_document()) break;
    if (first) print_result_text(tokenizer->decode(drawn));
    if (left > 1) scores = text.read(drawn);
  }
  if (first) print_result_text("\n");
  return 0;
}

}  // namespace lexring
