/// Who notices a flipped bit: random single bit flips in one rank's gradients or parameter values, one per run, each
/// run with the guards and without, against one without flips. Prints a table as Markdown.
///
///   mpirun -n 4 bit_flips [FLIPS] [SEED] [gradients | values]
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "datasets/prepare.h"
#include "framework/base/console.h"
#include "framework/base/words.h"
#include "jobs/launch/devices.h"
#include "jobs/launch/exit_codes.h"
#include "jobs/training/trainer.h"
#include "parallel/comm/host/mpi.h"

namespace lexring {
namespace {

constexpr std::int64_t steps = 60, first_flip = 24, last_flip = 50, window = 16, compare_every = 5;

enum class Place { gradient, value };
constexpr auto words(Place) {
  return std::to_array<Word<Place>>({{Place::gradient, "gradients"}, {Place::value, "values"}});
}

struct Flip {
  Place place;
  int rank;
  std::int64_t step;  ///< from 1
  double element;     ///< of all that the rank holds, as a fraction
  int bit;
};

/// The parameter and element that a fraction of all elements means.
std::pair<std::size_t, std::int64_t> find_element(const std::vector<Parameter>& parameters, double fraction) {
  std::int64_t all = 0;
  for (const Parameter& parameter : parameters) all += element_count(parameter.shape());
  auto left = static_cast<std::int64_t>(fraction * static_cast<double>(all));
  std::size_t index = 0;
  while (left >= element_count(parameters[index].shape())) left -= element_count(parameters[index++].shape());
  return {index, left};
}

void flip_bit(const Tensor& data, std::int64_t element, int bit) {
  std::uint32_t bits = 0;
  std::byte* const place = data.raw() + element * 4;
  std::memcpy(&bits, place, sizeof bits);
  bits ^= 1U << bit;
  std::memcpy(place, &bits, sizeof bits);
}

StepHooks hooks_of(const Flip& flip, Trainer& trainer) {
  const auto [index, element] = find_element(trainer.model().parameters(), flip.element);
  const std::string name = trainer.model().parameters()[index].name;
  const auto once = std::make_shared<bool>(false);
  const auto change = [=, &trainer, element = element](const std::vector<Parameter>& parameters) {
    if (*once || trainer.step() + 1 != flip.step) return;
    for (const Parameter& parameter : parameters) {
      if (parameter.name != name) continue;
      flip_bit(flip.place == Place::gradient ? parameter.gradient : parameter.value, element, flip.bit);
      *once = true;
    }
  };
  return flip.place == Place::gradient ? StepHooks{.gradients = change} : StepHooks{.values = change};
}

struct Outcome {
  std::string noticed = "nothing";
  bool right_rank = false;
  std::int64_t noticed_step = 0;
  std::vector<double> losses;

  /// Of the last ten steps.
  double final_loss() const {
    double sum = 0;
    for (std::size_t i = losses.size() - 10; i < losses.size(); ++i) sum += losses[i] / 10;
    return sum;
  }
};

class Experiment {
 public:
  Experiment(std::shared_ptr<Communicator> world, std::filesystem::path directory)
      : world_(std::move(world)),
        directory_(std::move(directory)),
        backend_(make_backend({.device = DeviceChoice::cpu})),
        context_(world_, make_mesh(world_->size(), 0, 1, 1)),
        data_(Dataset::open(directory_ / "text.h5")) {}

  Outcome run(const Flip* flip, bool guarded) {
    Options options;
    options.train.length = 32;
    options.train.batch = 8;
    options.train.steps = steps;
    options.optimizer.lr = 3e-3;
    options.optimizer.warmup = 10;
    options.model.vocab = data_.vocab();
    options.checkpoint.directory = (directory_ / "run").string();
    options.train.compare_every = guarded ? compare_every : 0;
    options.train.spike = guarded ? SpikeChoice::skip : SpikeChoice::ignore;
    options.train.spike_window = window;
    Trainer trainer(options, context_, *backend_, data_, nullptr);
    if (flip != nullptr && world_->rank() == flip->rank) trainer.replica().set_hooks(hooks_of(*flip, trainer));
    Outcome outcome;
    try {
      while (trainer.step() < steps && outcome.noticed != "drift") step(trainer, guarded, outcome);
    } catch (const MachineError&) {  // a step was skipped, and a rank's values were why
      outcome.noticed = "drift";
    }
    if (outcome.noticed != "drift") return outcome;
    outcome.noticed_step = trainer.step();
    const auto drift = trainer.replica().find_drift(false);
    outcome.right_rank = flip != nullptr && drift && drift->ranks == std::vector<int>{flip->rank};
    return outcome;
  }

 private:
  static void step(Trainer& trainer, bool guarded, Outcome& outcome) {
    const StepMetrics metrics = trainer.train_step();
    outcome.losses.push_back(metrics.loss);
    if (outcome.noticed == "nothing" && metrics.computed_twice)
      outcome.noticed = *metrics.computed_twice == "transient" ? "second look" : "skipped";
    if (guarded && metrics.step % compare_every == 0 && trainer.replica().find_drift(false)) outcome.noticed = "drift";
  }

  std::shared_ptr<Communicator> world_;
  std::filesystem::path directory_;
  std::unique_ptr<Backend> backend_;
  Context context_;
  Dataset data_;
};

/// Differences of the final loss from the run without flips.
struct Effects {
  int none = 0, below_1e3 = 0, below_1e1 = 0, larger = 0, not_finite = 0;
  double largest = 0;
  void add(const Outcome& outcome, const Outcome& calm) {
    if (outcome.losses == calm.losses) return void(++none);
    const double difference = std::abs(outcome.final_loss() - calm.final_loss());
    if (!std::isfinite(difference)) return void(++not_finite);
    largest = std::max(largest, difference);
    ++(difference < 1e-3 ? below_1e3 : difference < 1e-1 ? below_1e1 : larger);
  }
  std::string row() const {
    return fmt::format("| {} | {} | {} | {} | {} | {:.3g} |", none, below_1e3, below_1e1, larger, not_finite, largest);
  }
};

void measure(Experiment& experiment, const Outcome& calm, Place place, int flips, int seed, int ranks, bool first) {
  std::mt19937 random(static_cast<std::uint32_t>(seed));
  std::map<std::string, int> noticed;
  int right = 0, bits_unseen_high = 0;
  double latency = 0;
  Effects without, unseen;
  for (int i = 0; i < flips; ++i) {
    Flip flip{place, static_cast<int>(random() % static_cast<unsigned>(ranks)),
              first_flip + static_cast<std::int64_t>(random() % (last_flip - first_flip)),
              static_cast<double>(random()) / 4294967296.0, static_cast<int>(random() % 32)};
    const Outcome guarded = experiment.run(&flip, true), bare = experiment.run(&flip, false);
    noticed[guarded.noticed] += 1;
    right += guarded.right_rank ? 1 : 0;
    if (guarded.noticed == "drift") latency += static_cast<double>(guarded.noticed_step - flip.step);
    without.add(bare, calm);
    if (guarded.noticed == "nothing") {
      unseen.add(guarded, calm);
      bits_unseen_high = std::max(bits_unseen_high, flip.bit);
    }
  }
  if (!first) return;
  const char* const where = name_of(place);
  print_result(
      "\n{} flips in {}: drift named {} ({} of them the rank alone that it was, {:.1f} steps later on average), "
      "second look {} (the run is bit for bit without), skipped {}, not noticed {} (highest bit {})\n\n",
      flips, where, noticed["drift"], right, noticed["drift"] > 0 ? latency / noticed["drift"] : 0.0,
      noticed["second look"], noticed["skipped"], noticed["nothing"], bits_unseen_high);
  print_result("| {}: final loss differs by | 0, every step | < 0.001 | < 0.1 | more | not finite | most |\n", where);
  print_result("|---|---|---|---|---|---|---|\n| without guards {}\n| not noticed by the guards {}\n", without.row(),
               unseen.row());
}

int main_of(int argc, char** argv) {
  MpiSession session(argc, argv);
  const auto world = session.world();
  const int flips = argc > 1 ? std::atoi(argv[1]) : 100, seed = argc > 2 ? std::atoi(argv[2]) : 1;
  std::array<std::int64_t, 1> id = {static_cast<std::int64_t>(std::random_device{}())};
  world->broadcast(std::as_writable_bytes(std::span(id)), 0);
  const auto directory = std::filesystem::temp_directory_path() / fmt::format("lexring_flips_{}", id[0]);
  const bool first = world->rank() == 0;
  if (first) {
    std::filesystem::create_directories(directory);
    std::ofstream text(directory / "text.txt");
    for (int i = 0; i < 20000; ++i) text << "chunk " << i * 7919 % 1000 << " of the ring\n";
    text.close();
    PrepareOptions prepare_options;
    prepare_options.inputs = {(directory / "text.txt").string()};
    prepare_options.output = directory / "text.h5";
    prepare(prepare_options);
  }
  world->barrier();
  {
    Experiment experiment(world, directory);
    const Outcome calm = experiment.run(nullptr, true);
    if (first) {
      print_result("{} ranks, {} steps, flips between steps {} and {}; without flips: final loss {:.4f}, noticed {}\n",
                   world->size(), steps, first_flip, last_flip, calm.final_loss(), calm.noticed);
    }
    const std::string only = argc > 3 ? argv[3] : "";
    for (const Place place : {Place::gradient, Place::value}) {
      if (only.empty() || only == name_of(place)) measure(experiment, calm, place, flips, seed, world->size(), first);
    }
  }
  world->barrier();
  if (first) std::filesystem::remove_all(directory);
  return 0;
}

}  // namespace
}  // namespace lexring

int main(int argc, char** argv) { return lexring::main_of(argc, argv); }
