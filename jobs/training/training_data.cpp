#include "jobs/training/training_data.h"

#include <fmt/format.h>

#include "framework/base/counted.h"
#include "framework/base/error.h"
#include "jobs/launch/stored_tokenizer.h"
#include "jobs/training/training_batches.h"
#include "models/config_check.h"
#include "parallel/checkpoint/agree.h"

namespace lexring {
namespace {

/// The vocabulary comes from the data, and so does the landmark's id; a key may only confirm them.
void take_vocabulary(Options& o, const Dataset& data) {
  const std::int64_t vocab = data.vocab() + o.own_ids();
  const std::string held =
      fmt::format("{} has one of {} ({} tokens){}", data.path().string(), data.vocab(), data.tokenizer(),
                  o.train.objective == Objective::mlm ? ", to which train.objective = mlm adds the mask"
                  : o.own_ids() > 0                   ? ", to which attention.normalizer = landmark adds the landmark"
                                                      : "");
  require_usage(o.init.empty() || o.model.vocab == vocab,
                "the weights of {} are of a vocabulary of {}, but {}; prepare it with the tokenizer of that training",
                o.init, o.model.vocab, held);
  require_usage(o.model.vocab == 0 || o.model.vocab == vocab,
                "model.vocab = {}, but {}; leave model.vocab out to take the data's", o.model.vocab, held);
  o.model.vocab = vocab;
  use_last_id_for_landmarks(o.model);
  require_usage(o.train.objective == Objective::causal || data.answers().empty(),
                "{} says which tokens are answers to learn, but train.objective = mlm hides any; choose causal",
                data.path().string());
}

}  // namespace

TrainingData open_training_data(Options& o, const Mesh& mesh, Communicator& world) {
  micro_batches(0, o.train.batch, 0, mesh.size(Axis::dp),
                o.train.micro_batch);  // throws where the batch does not divide
  require_usage(!o.data.train.empty(),
                "data.train is missing: there is nothing to train on; make a data set with `lexring prepare --input "
                "TEXT... --output corpus.h5` and give --data.train corpus.h5");
  require_usage(
      o.train.minutes == 0 || o.optimizer.warmup >= 25,
      "train.minutes chooses the number of steps during the warm-up, so optimizer.warmup = {} must be at least 25",
      o.optimizer.warmup);
  TrainingData data{Dataset::open(o.data.train), std::nullopt};
  auto& [train, valid] = data;
  if (!o.data.valid.empty()) valid.emplace(Dataset::open(o.data.valid));
  take_vocabulary(o, train);
  if (valid) take_vocabulary(o, *valid);
  check(o.model);
  train.insert_landmarks(landmark_every_of(o.model));
  if (valid) valid->insert_landmarks(landmark_every_of(o.model));
  require_usage(!o.model.position.kind->bounded || o.train.length <= o.model.max_length,
                "train.length = {}, but there are learned positions for {} only (model.max_length), and they do not "
                "extrapolate; choose "
                "train.length up to that",
                o.train.length, counted(o.model.max_length, "token"));
  require_usage(!o.model.position.kind->bounded || o.sampling.reach(o.train.length) <= o.model.max_length,
                "sampling.kind = {} draws positions up to {}, but there are learned ones for {} only "
                "(model.max_length); choose a smaller sampling.limit, or a larger model.max_length",
                name_of(o.sampling.kind), o.sampling.reach(o.train.length) - 1, counted(o.model.max_length, "token"));
  require_same(world, fmt::format("{}\n{}", train.content_hash(), to_ini(o)),
               "configuration or training data; are files and keys the same on all nodes?");
  if (valid) require_same_tokenizer(*valid, train);
  return data;
}

}  // namespace lexring
