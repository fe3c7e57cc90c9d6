// The CPU backend's own kernels alone, at the sizes of configs/bench_cpu.ini: 6 heads of 64, xpos, causal; and drawing
// initial values. flops count visible pairs only, forward two products a pair and backward five. Run with
// OMP_NUM_THREADS=1 (see README.md): times are CPU times, the smallest of all repetitions counts.
#include <algorithm>
#include <cmath>

#include <benchmark/benchmark.h>

#include "framework/backend/backend.h"
#include "framework/nn/init.h"

namespace lexring {
namespace {

constexpr std::int64_t heads = 6, head_width = 64, width = heads * head_width;

Tensor filled(Backend& backend, Shape shape, Dtype dtype, double scale) {
  const Tensor f32(backend.runtime(), shape, Dtype::f32), x(backend.runtime(), std::move(shape), dtype);
  std::uint32_t state = 1;
  for (std::int64_t i = 0; i < f32.elements(); ++i) {
    state = state * 1664525U + 1013904223U;
    f32.data<float>()[i] = static_cast<float>(scale * (static_cast<double>(state >> 8) / (1 << 23) - 1));
  }
  backend.cast(f32, x);
  return x;
}

AttentionForm xpos() {
  AttentionForm form;
  form.heads = form.kv_heads = heads, form.head_width = head_width;
  form.scale = 1 / std::sqrt(static_cast<double>(head_width)), form.rotary = true;
  for (std::int64_t i = 0; i < head_width; i += 2)
    form.log_decay.push_back(std::log((static_cast<double>(i) / head_width + 0.4) / 1.4) / 512);
  return form;
}

/// Queries of `batch` sequences of `length` against all keys in `stages` blocks of adjacent keys, as a ring would bring
/// them.
struct Problem {
  std::unique_ptr<Backend> backend = make_cpu_backend();
  AttentionForm form = xpos();
  ScoreBias bias;
  std::int64_t rows, stages, block;
  SharedRows queries;
  std::vector<SharedRows> keys;
  std::vector<Tensor> k, v, dk, dv, dk_state, dv_state;
  Tensor q, output, lse, delta, doutput, dq, dq_state;
  AttentionState state;

  Problem(std::int64_t length, std::int64_t batch, Dtype dtype, std::int64_t key_blocks)
      : rows(length * batch), stages(key_blocks), block(rows / key_blocks) {
    const TokenTable tokens = dense_tokens(batch, length);
    queries = make_rows(tokens, turned(tokens), {std::vector<std::int64_t>(tokens.position.size(), 0), {}, {}, {}});
    const auto make = [&](std::int64_t count, Dtype of) { return Tensor(backend->runtime(), {count, width}, of); };
    const auto input = [&](std::int64_t count) { return filled(*backend, {count, width}, dtype, 1); };
    q = input(rows), doutput = input(rows), output = make(rows, dtype), dq = make(rows, dtype),
    dq_state = make(rows, Dtype::f32);
    lse = Tensor(backend->runtime(), {rows, heads}, Dtype::f32),
    delta = Tensor(backend->runtime(), {rows, heads}, Dtype::f32);
    state = {make(rows, Dtype::f32), Tensor(backend->runtime(), {rows, heads}, Dtype::f32),
             Tensor(backend->runtime(), {rows, heads}, Dtype::f32)};
    for (std::int64_t s = 0; s < stages; ++s) {
      TokenTable table = dense_tokens(batch, length / stages);
      for (std::int64_t& p : table.position) p += s * (length / stages);
      keys.push_back(make_rows(table, turned(table)));
      k.push_back(input(block)), v.push_back(input(block)), dk.push_back(make(block, dtype)),
          dv.push_back(make(block, dtype));
      dk_state.push_back(make(block, Dtype::f32)), dv_state.push_back(make(block, Dtype::f32));
    }
  }

  RotaryTable turned(const TokenTable& tokens) const {
    const std::int64_t pairs = head_width / 2;
    RotaryTable table{Tensor(backend->runtime(), {tokens.rows(), pairs}, Dtype::f32),
                      Tensor(backend->runtime(), {tokens.rows(), pairs}, Dtype::f32)};
    for (std::int64_t i = 0; i < tokens.rows() * pairs; ++i) {
      const double angle = static_cast<double>(tokens.position[static_cast<std::size_t>(i / pairs)]) *
                           std::pow(1e-4, static_cast<double>(i % pairs) / static_cast<double>(pairs));
      table.cosine.data<float>()[i] = static_cast<float>(std::cos(angle)),
      table.sine.data<float>()[i] = static_cast<float>(std::sin(angle));
    }
    return table;
  }

  void forward() {
    for (std::size_t s = 0; s < keys.size(); ++s)
      backend->attention({form, bias, queries, keys[s], q, k[s], v[s], stage(s), state, output, lse});
  }
  void backward() {
    backend->attention_delta(output, doutput, delta);
    for (std::size_t s = 0; s < keys.size(); ++s)
      backend->attention_backward({form,        bias,        queries, keys[s], q,        k[s], v[s],
                                   output,      doutput,     lse,     delta,   stage(s), {},   dq_state,
                                   dk_state[s], dv_state[s], dq,      dk[s],   dv[s],    {}});
  }
  CallStage stage(std::size_t s) const { return {s == 0, s + 1 == keys.size()}; }
  double pairs(std::int64_t length) const {
    return static_cast<double>(rows) * static_cast<double>(length + 1) / 2 * heads;
  }
};

void count(benchmark::State& state, double each) {
  state.counters["flops"] = benchmark::Counter(each, benchmark::Counter::kIsIterationInvariantRate);
}

/// Arguments: length, batch, bytes of an element (4: f32, 2: bf16), blocks of keys.
void attention(benchmark::State& state) {
  Problem problem(state.range(0), state.range(1), state.range(2) == 4 ? Dtype::f32 : Dtype::bf16, state.range(3));
  for (auto _ : state) problem.forward();
  count(state, problem.pairs(state.range(0)) * 4 * head_width);
}
void attention_backward(benchmark::State& state) {
  Problem problem(state.range(0), state.range(1), state.range(2) == 4 ? Dtype::f32 : Dtype::bf16, state.range(3));
  problem.forward();
  for (auto _ : state) problem.backward();
  count(state, problem.pairs(state.range(0)) * 10 * head_width);
}

/// Argument: bytes of an element. The buffers (3 MiB in f32) stay in the outer caches.
void gelu(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const Tensor u = filled(*backend, {1 << 18}, state.range(0) == 4 ? Dtype::f32 : Dtype::bf16, 3),
               a(backend->runtime(), u.shape(), u.dtype());
  for (auto _ : state) backend->gelu(Gelu::exact, u, a);
  state.SetItemsProcessed(state.iterations() * u.elements());
}
void gelu_backward(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const Tensor u = filled(*backend, {1 << 18}, state.range(0) == 4 ? Dtype::f32 : Dtype::bf16, 3),
               da(backend->runtime(), u.shape(), u.dtype()), du(backend->runtime(), u.shape(), u.dtype());
  backend->fill(da, 1);
  for (auto _ : state) backend->gelu_backward(Gelu::exact, u, da, du);
  state.SetItemsProcessed(state.iterations() * u.elements());
}

/// Initial values of a weight [4096, 2048], drawn and copied to the device.
void init_normal_values(benchmark::State& state) {
  const auto backend = make_cpu_backend();
  const Parameter weight{.name = "weight",
                         .full_shape = {4096, 2048},
                         .offset = {0, 0},
                         .value = Tensor(backend->runtime(), {4096, 2048}, Dtype::f32),
                         .gradient = {},
                         .compute = {}};
  for (auto _ : state) init_normal(weight, 1, 0.02);
  state.SetItemsProcessed(state.iterations() * weight.value.elements());
}

double smallest(const std::vector<double>& times) { return *std::min_element(times.begin(), times.end()); }

void sizes(benchmark::internal::Benchmark* b) {
  for (const int bytes : {4, 2}) {
    b->Args({1024, 2, bytes, 1})->Args({8192, 1, bytes, 1})->Args({8192, 1, bytes, 4});
  }
  b->Unit(benchmark::kMillisecond)->ComputeStatistics("min", smallest);
}
BENCHMARK(attention)->Apply(sizes);
BENCHMARK(attention_backward)->Apply(sizes);
BENCHMARK(gelu)->Arg(4)->Arg(2)->ComputeStatistics("min", smallest);
BENCHMARK(gelu_backward)->Arg(4)->Arg(2)->ComputeStatistics("min", smallest);

BENCHMARK(init_normal_values)->Unit(benchmark::kMillisecond)->ComputeStatistics("min", smallest);

}  // namespace
}  // namespace lexring
