/// How well ring attention hides its messages: forward and backward pass of one layer's attention on a ring, by itself
/// and taken apart.
///
///   two_hosts.sh run 1 ring_overlap [PRECISION [TOKENS...]]      fp32 or bf16; tokens of the whole sequence (default
///   fp32 4096 6144 8192)
///
/// XPOS, causal, zigzag, 8 heads of 64. A line per length, medians over turns that alternate: seconds of computing
/// alone (messages are taken as they are sent, without leaving the rank), of the messages alone (the same ones, in the
/// same order), of the real thing, and what that is in units of the larger of the two. 1 is perfect; no overlap is
/// their sum.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "framework/base/error.h"
#include "models/patterns.h"
#include "models/positions/position.h"
#include "models/positions/rotary.h"
#include "parallel/comm/host/mpi.h"
#include "parallel/sequence/attention.h"
#include "parallel/sequence/travel.h"

namespace {

using namespace lexring;

/// A place of a ring whose messages arrive at once: what it sends itself.
class InstantRing final : public Communicator {
 public:
  InstantRing(int rank, int size) : Communicator("instant", rank, size) {}

 private:
  void do_all_reduce(std::span<float>, Reduce) override {}
  void do_all_reduce(std::span<double>, Reduce) override {}
  void do_all_reduce(std::span<std::int64_t>, Reduce) override {}
  void do_broadcast(std::span<std::byte>, int) override {}
  std::vector<std::vector<std::byte>> do_all_gather(std::span<const std::byte>) override { return {}; }
  void do_barrier() override {}
  Pending do_reduce_scatter(std::span<std::byte>, Dtype, std::vector<std::int64_t>) override { return {}; }
  Pending do_gather_slices(std::span<std::byte>, Dtype, std::vector<std::int64_t>) override { return {}; }
  Pending do_start_all_reduce(std::span<std::byte>, Dtype) override { return {}; }
  Pending do_exchange(std::vector<Outgoing> outgoing, std::vector<Incoming> incoming) override {
    for (std::size_t i = 0; i < incoming.size(); ++i) {
      const std::span<std::byte> to = incoming[i].bytes;
      const std::size_t known = i < outgoing.size() ? std::min(outgoing[i].bytes.size(), to.size()) : 0;
      std::memcpy(to.data(), outgoing[i].bytes.data(), known);
      std::memset(to.data() + known, 0, to.size() - known);
    }
    return {};
  }
  std::unique_ptr<Communicator> do_split(const std::string&, int) override { return nullptr; }
};

ModelConfig model_config() {
  ModelConfig config;
  config.width = 512;
  config.heads = config.kv_heads = 8;
  return config;
}

class Experiment {
 public:
  Experiment(Communicator& ring, Dtype working, std::int64_t tokens)
      : ring_(&ring), instant_(ring.rank(), ring.size()), backend_(make_cpu_backend()), tokens_(tokens) {
    const ModelConfig config = model_config();
    position_ = make_position(config, config.position);
    AttentionForm form;
    form.heads = config.heads;
    form.kv_heads = config.kv_heads;
    form.head_width = config.width / config.heads;
    form.scale = 1 / std::sqrt(static_cast<double>(form.head_width));
    position_->shape(form);
    const TokenTable table = dense_tokens(1, tokens);
    const std::vector<DocumentPlace> places(static_cast<std::size_t>(tokens));
    const RotaryMaker rotary = [this](const TokenTable& rows) {
      return make_rotary_table(backend_->runtime(), *position_->rotary(tokens_), rows, Dtype::f32);
    };
    const Visibility visible = make_pattern(config.attention)->visibility(table, places);
    tables_ = std::make_shared<const SequenceTables>(
        make_sequence_tables(std::make_shared<const Partition>(table, PartitionKind::zigzag, ring.size()), ring.rank(),
                             visible, {{form, visible, {}}}, Exchange::ring, rotary));
    const std::int64_t rows = tables_->own->tokens.rows();
    qkv_ = waves({rows, 3 * config.width}, working);
    doutput_ = waves({rows, config.width}, working);
  }

  void run() {
    std::vector<double> computing, transfer, both;
    for (int turn = 0; turn <= turns; ++turn) {
      const double alone = slowest([&] { attend(instant_); }), messages = slowest([&] { transfer_only(); });
      const double real = slowest([&] { attend(*ring_); });
      if (turn == 0) continue;  // it allocates
      computing.push_back(alone), transfer.push_back(messages), both.push_back(real);
    }
    const double c = median(computing), t = median(transfer), b = median(both);
    if (ring_->rank() != 0) return;
    fmt::print(
        "{} tokens: compute {:.4f} s, transfer {:.4f} s ({:.2f} of it), their sum {:.4f} s, ring attention {:.4f} s: "
        "{:.3f} x the larger\n",
        tokens_, c, t, t / c, c + t, b, b / std::max(c, t));
    std::fflush(stdout);
  }

 private:
  static constexpr int turns = 5, passes = 3;

  static double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + turns / 2, values.end());
    return values[turns / 2];
  }

  Tensor waves(const Shape& shape, Dtype dtype) {
    std::vector<float> values(static_cast<std::size_t>(element_count(shape)));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i % 977));
    const Tensor exact = Tensor::from(backend_->runtime(), shape, values), rounded(backend_->runtime(), shape, dtype);
    if (dtype == Dtype::f32) return exact;
    backend_->cast(exact, rounded);
    return rounded;
  }

  void attend(Communicator& ring) {
    Tape tape(*backend_, Recording::on);
    const Var input(qkv_);
    const Var output = sequence_attention(tape, ring, tables_, {}, input);
    output.accumulate(*backend_, doutput_);
    tape.backward();
  }

  /// The messages of attend: keys and values forward, and again backward, with their gradients behind them.
  void transfer_only() {
    const Columns own{qkv_, qkv_.row_elements() / 3, 2 * qkv_.row_elements() / 3};
    const Schedule& schedule = tables_->schedule;
    const Tensor gradients(backend_->runtime(), {qkv_.rows(), own.width}, Dtype::f32);
    for (const bool backward : {false, true}) {
      const auto lanes = static_cast<std::size_t>(schedule.lanes);
      std::vector<std::vector<RemoteKeys>> held(lanes);
      std::vector<GradientStep> sent;
      for (int step = 0; step < schedule.steps(); ++step) {
        std::vector<RemoteKeys>& here = held[static_cast<std::size_t>(step) % lanes];
        KeyStep keys = start_keys(*backend_, *ring_, schedule, step, own, here);
        keys.messages.wait();
        here = std::move(keys.arriving);
        if (!backward) continue;
        for (RemoteKeys& remote : here) remote.gradients = Tensor(backend_->runtime(), remote.keys.shape(), Dtype::f32);
        sent.push_back(start_gradients(*backend_, *ring_, schedule, step, here, gradients));
      }
      for (GradientStep& step : sent) step.messages.wait();
    }
  }

  /// Seconds of a pass of the slowest rank, where passes follow one another as layers do.
  double slowest(const std::function<void()>& pass) {
    ring_->barrier();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < passes; ++i) pass();
    std::vector<double> seconds = {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
    ring_->all_reduce(seconds, Reduce::max);
    return seconds[0] / passes;
  }

  Communicator* ring_;
  InstantRing instant_;
  std::unique_ptr<Backend> backend_;
  std::int64_t tokens_;
  std::unique_ptr<PositionEncoding> position_;
  std::shared_ptr<const SequenceTables> tables_;
  Tensor qkv_, doutput_;
};

}  // namespace

int main(int argc, char** argv) {
  MpiSession session(argc, argv);
  try {
    const std::string precision = argc > 1 ? argv[1] : "fp32";
    require_usage(precision == "fp32" || precision == "bf16", "the first argument is fp32 or bf16, not '{}'",
                  precision);
    std::vector<std::int64_t> lengths;
    for (int i = 2; i < argc; ++i) lengths.push_back(std::atoll(argv[i]));
    if (lengths.empty()) lengths = {4096, 6144, 8192};
    for (const std::int64_t tokens : lengths)
      Experiment(*session.world(), precision == "bf16" ? Dtype::bf16 : Dtype::f32, tokens).run();
  } catch (const Error& error) {
    fmt::print(stderr, "rank {}: {}\n", session.world()->rank(), error.what());
    session.end_all(1);
  }
  return 0;
}
