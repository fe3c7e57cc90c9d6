// Every kernel of a device beside that device's own ceilings, measured in the same run: a large copy, and a large bf16
// product.
//
//   device_bench cpu|cuda|cudnn|hopper [seconds per kernel]
//
// Prints one JSON line per kernel, and a table on stderr. A kernel bound by memory is given the bytes that it must move
// at least (each input read once, each output written once) and its share of the copy's rate; a product or attention
// the operations that the mask leaves visible (attention: two products forward, five backward) and its share of the
// product's rate. Buffers are larger than the GPU's caches. Times are medians of groups of calls that are waited for
// together.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "framework/backend/backend.h"
#include "framework/backend/cuda_backend.h"

namespace lexring {
namespace {

enum class Bound { memory, products };

struct Measurement {
  std::string kernel;
  Bound bound;
  double amount;  ///< bytes or operations of one call
  double seconds;
  double rate() const { return amount / seconds; }
};

/// What sizes are multiplied by: a GPU's buffers are far larger than its caches, a CPU's only large enough to measure.
struct Sizes {
  std::int64_t rows, width, feed_forward, vocabulary, vocabulary_rows, product, attention_length, heads, head_width,
      copy_bytes;
};
constexpr Sizes gpu_sizes{65536, 2048, 8192, 50304, 8192, 8192, 16384, 16, 128, std::int64_t{1} << 30};
constexpr Sizes cpu_sizes{4096, 1024, 4096, 8192, 512, 1024, 1024, 4, 128, std::int64_t{1} << 27};

class Bench {
 public:
  Bench(Backend& backend, const Sizes& sizes, double budget) : backend_(backend), sizes_(sizes), budget_(budget) {}

  void run() {
    ceilings();
    for (const Dtype working : {Dtype::f32, Dtype::bf16}) {
      memory_bound(working);
      attention(working);
    }
    table();
  }

 private:
  Tensor empty(Shape shape, Dtype dtype) { return {backend_.runtime(), std::move(shape), dtype}; }

  /// Numbers between -scale and scale.
  Tensor filled(Shape shape, Dtype dtype, double scale = 1) {
    Tensor x(backend_.runtime(), std::move(shape), dtype);
    std::vector<float> pattern(std::size_t{1} << 20);
    std::uint32_t state = 1;
    for (float& value : pattern) {
      state = state * 1664525U + 1013904223U;
      value = static_cast<float>(scale * (static_cast<double>(state >> 8) / (1 << 23) - 1));
    }
    const Tensor one = Tensor::from(backend_.runtime(), {static_cast<std::int64_t>(pattern.size())}, pattern),
                 same(backend_.runtime(), one.shape(), dtype);
    backend_.cast(one, same);
    for (std::size_t at = 0; at < x.bytes(); at += same.bytes())
      backend_.runtime().copy(x.raw() + at, same.raw(), std::min(same.bytes(), x.bytes() - at));
    return x;
  }

  double time(const std::function<void()>& call) {
    using Clock = std::chrono::steady_clock;
    const auto seconds = [&](int calls) {
      const auto start = Clock::now();
      for (int i = 0; i < calls; ++i) call();
      backend_.runtime().synchronise();
      return std::chrono::duration<double>(Clock::now() - start).count() / calls;
    };
    seconds(2);
    const int calls = std::clamp(static_cast<int>(budget_ / 7 / std::max(seconds(1), 1e-7)), 1, 200);
    std::vector<double> times;
    for (int i = 0; i < 7; ++i) times.push_back(seconds(calls));
    std::nth_element(times.begin(), times.begin() + 3, times.end());
    return times[3];
  }

  void measure(const std::string& kernel, Bound bound, double amount, const std::function<void()>& call) {
    all_.push_back({kernel, bound, amount, time(call)});
    const Measurement& m = all_.back();
    nlohmann::json line{{"device", backend_.name()}, {"kernel", m.kernel}, {"seconds", m.seconds}};
    line[bound == Bound::memory ? "bytes" : "operations"] = m.amount;
    line[bound == Bound::memory ? "gigabytes_per_second" : "teraflops"] =
        m.rate() / (bound == Bound::memory ? 1e9 : 1e12);
    line["of_ceiling"] = m.rate() / ceiling(bound);
    fmt::print("{}\n", line.dump());
    std::fflush(stdout);
  }
  /// The first of its kind that was measured.
  double ceiling(Bound bound) const {
    return std::find_if(all_.begin(), all_.end(), [&](const Measurement& m) { return m.bound == bound; })->rate();
  }

  void ceilings() {
    const Tensor from = filled({sizes_.copy_bytes / 4}, Dtype::f32), to = empty(from.shape(), Dtype::f32);
    measure("copy", Bound::memory, 2.0 * static_cast<double>(from.bytes()),
            [&] { backend_.runtime().copy(to.raw(), from.raw(), from.bytes()); });
    for (const Dtype dtype : {Dtype::bf16, Dtype::f32}) {
      const std::int64_t n = sizes_.product;
      const Tensor x = filled({n, n}, dtype), w = filled({n, n}, dtype), y = empty({n, n}, dtype);
      measure(fmt::format("product {}", name_of(dtype)), Bound::products, 2.0 * std::pow(static_cast<double>(n), 3),
              [&] { backend_.linear(x, w, {}, y); });
    }
  }

  void memory_bound(Dtype working) {
    const std::int64_t rows = sizes_.rows, width = sizes_.width, wide = sizes_.feed_forward;
    const double count = static_cast<double>(rows) * static_cast<double>(width),
                 w = static_cast<double>(size_of(working)), f = 4;
    const auto named = [&](const char* kernel) { return fmt::format("{} {}", kernel, name_of(working)); };
    {
      const Tensor x = filled({rows, width}, working), y = empty({rows, width}, Dtype::f32);
      measure(named("cast to f32 from"), Bound::memory, count * (w + f), [&] { backend_.cast(x, y); });
      measure(named("add to f32"), Bound::memory, count * (w + 2 * f), [&] { backend_.add(x, y); });
      measure(named("sum_of_squares"), Bound::memory, count * w, [&] { backend_.sum_of_squares(x); });
      const Tensor part = empty({rows, width / 2}, working);
      measure(named("copy"), Bound::memory, count * w, [&] { backend_.copy({x, 0, width / 2}, part); });
      const Tensor by_row = filled({rows}, Dtype::f32), by_head = filled({sizes_.heads}, Dtype::f32);
      measure(named("scale_queries"), Bound::memory, count * 2 * w,
              [&] { backend_.scale_queries(x, by_row, by_head, x); });
      const double gates = static_cast<double>(rows * sizes_.heads);
      const Tensor logits = filled({rows, sizes_.heads}, working), sums = empty({rows, 2 * sizes_.heads}, Dtype::f32),
                   dsums = filled({rows, sizes_.heads}, Dtype::f32);
      measure(named("forget_sums"), Bound::memory, gates * (w + 2 * f),
              [&] { backend_.forget_sums(logits, {}, sums); });
      measure(named("forget_sums_backward"), Bound::memory, gates * (2 * w + f),
              [&] { backend_.forget_sums_backward(logits, dsums, logits); });
      const Tensor statistic = filled({rows, sizes_.heads}, Dtype::f32);
      const AttentionState block{filled({rows, width}, Dtype::f32), statistic, statistic},
          whole{filled({rows, width}, Dtype::f32), empty({rows, sizes_.heads}, Dtype::f32),
                empty({rows, sizes_.heads}, Dtype::f32)};
      if (working == Dtype::f32)
        measure("merge_landmark", Bound::memory, 3 * f * count + 6 * f * gates,
                [&] { backend_.merge_landmark(block, statistic, whole); });
    }
    {
      std::vector<std::int32_t> tokens(static_cast<std::size_t>(rows));
      for (std::size_t i = 0; i < tokens.size(); ++i)
        tokens[i] = static_cast<std::int32_t>((i * 7919) % static_cast<std::size_t>(sizes_.vocabulary));
      const Tensor index = Tensor::from(backend_.runtime(), {rows}, tokens),
                   weights = filled({sizes_.vocabulary, width}, Dtype::f32), x = empty({rows, width}, working);
      measure(named("embedding"), Bound::memory, count * (f + w),
              [&] { backend_.embedding(index, weights, x, Write::overwrite); });
      measure(named("embedding_backward"), Bound::memory, count * (w + 2 * f),
              [&] { backend_.embedding_backward(index, x, weights); });
    }
    for (const NormKind kind : {NormKind::layernorm, NormKind::rmsnorm}) {
      const bool centred = kind == NormKind::layernorm;
      const Shape matrix{rows, width};
      const Tensor x = filled(matrix, Dtype::f32), delta = filled(matrix, working),
                   weight = filled({width}, Dtype::f32), bias = centred ? filled({width}, Dtype::f32) : Tensor(),
                   sum = empty(matrix, Dtype::f32), y = empty(matrix, working),
                   mean = centred ? empty({rows}, Dtype::f32) : Tensor(), rstd = empty({rows}, Dtype::f32);
      const char* name = centred ? "layernorm" : "rmsnorm";
      const NormForward forward{kind, 1e-5, x, delta, weight, bias, sum, y, mean, rstd};
      measure(named(fmt::format("{} + residual", name).c_str()), Bound::memory, count * (2 * f + 2 * w),
              [&] { backend_.norm(forward); });
      const Tensor dweight = filled({width}, Dtype::f32), dbias = centred ? filled({width}, Dtype::f32) : Tensor();
      const NormBackward backward{kind, delta, sum, weight, mean, rstd, x, x, y, dweight, dbias};
      measure(named(fmt::format("{}_backward + residual", name).c_str()), Bound::memory, count * (3 * f + 2 * w),
              [&] { backend_.norm_backward(backward); });
    }
    {
      const double elements = static_cast<double>(rows) * static_cast<double>(wide);
      const Tensor u = filled({rows, wide}, working, 3), da = filled({rows, wide}, working),
                   a = empty({rows, wide}, working);
      measure(named("gelu"), Bound::memory, elements * 2 * w, [&] { backend_.gelu(Gelu::exact, u, a); });
      measure(named("gelu_backward"), Bound::memory, elements * 3 * w,
              [&] { backend_.gelu_backward(Gelu::exact, u, da, a); });
      const Tensor half = empty({rows, wide / 2}, working);
      measure(named("swiglu"), Bound::memory, elements * 1.5 * w, [&] { backend_.swiglu(u, half); });
      measure(named("swiglu_backward"), Bound::memory, elements * 2.5 * w,
              [&] { backend_.swiglu_backward(u, half, a); });
    }
    {
      const std::int64_t n = sizes_.vocabulary_rows, v = sizes_.vocabulary;
      std::vector<std::int32_t> targets(static_cast<std::size_t>(n), 1);
      const Tensor logits = filled({n, v}, Dtype::f32, 4), target = Tensor::from(backend_.runtime(), {n}, targets),
                   nll = empty({n}, Dtype::f32), dlogits = empty({n, v}, working);
      measure(named("cross_entropy and gradient"), Bound::memory,
              static_cast<double>(n) * static_cast<double>(v) * (f + w),
              [&] { backend_.cross_entropy(logits, target, 1e-3, nll, dlogits); });
      const double size = static_cast<double>(n) * static_cast<double>(v);
      measure(named("soft_cap"), Bound::memory, size * 2 * f, [&] { backend_.soft_cap(logits, 30); });
      measure(named("soft_cap_backward"), Bound::memory, size * (f + 2 * w),
              [&] { backend_.soft_cap_backward(logits, 30, dlogits); });
    }
    {
      const Tensor value = filled({rows * width}, Dtype::f32), gradient = filled({rows * width}, Dtype::f32),
                   m = filled({rows * width}, Dtype::f32), v = empty({rows * width}, Dtype::f32),
                   compute = working == Dtype::bf16 ? empty({rows * width}, working) : Tensor();
      backend_.fill(v, 1.0);
      const AdamW hyper{1e-6, 0.9, 0.95, 1e-8, 10, 1.0};
      const AdamWParameter parameter{value, gradient, m, v, compute, 0.1};
      measure(named("adamw, compute copy"), Bound::memory, count * (7 * f + (working == Dtype::bf16 ? w : 0)),
              [&] { backend_.adamw(hyper, std::span(&parameter, 1)); });
    }
  }

  void attention(Dtype working) {
    const std::int64_t length = sizes_.attention_length, heads = sizes_.heads, e = sizes_.head_width;
    for (const char* method : {"none", "xpos"}) {
      AttentionForm form;
      form.heads = form.kv_heads = heads, form.head_width = e, form.scale = 1 / std::sqrt(static_cast<double>(e));
      const TokenTable tokens = dense_tokens(1, length);
      RotaryTable rotary;
      if (method == std::string("xpos")) {
        form.rotary = true;
        for (std::int64_t i = 0; i < e; i += 2)
          form.log_decay.push_back(std::log((static_cast<double>(i) / static_cast<double>(e) + 0.4) / 1.4) / 512);
        std::vector<float> cosine, sine;
        for (std::int64_t i = 0; i < length * e / 2; ++i) {
          const double angle = static_cast<double>(i / (e / 2)) *
                               std::pow(1e-4, static_cast<double>(i % (e / 2)) / static_cast<double>(e / 2));
          cosine.push_back(static_cast<float>(std::cos(angle))), sine.push_back(static_cast<float>(std::sin(angle)));
        }
        rotary = {Tensor::from(backend_.runtime(), {length, e / 2}, cosine),
                  Tensor::from(backend_.runtime(), {length, e / 2}, sine)};
      }
      const ScoreBias bias;
      const SharedRows rows =
          make_rows(tokens, rotary, {std::vector<std::int64_t>(static_cast<std::size_t>(length), 0), {}, {}, {}});
      const Shape matrix{length, heads * e};
      const Tensor q = filled(matrix, working), k = filled(matrix, working), v = filled(matrix, working),
                   doutput = filled(matrix, working), output = empty(matrix, working),
                   lse = empty({length, heads}, Dtype::f32), delta = empty({length, heads}, Dtype::f32),
                   dq = empty(matrix, working), dk = empty(matrix, working), dv = empty(matrix, working);
      const double pairs =
          static_cast<double>(length) * static_cast<double>(length + 1) / 2 * static_cast<double>(heads);
      const auto named = [&](const char* kernel) {
        return fmt::format("{} {} {} width {} length {}", kernel, method, name_of(working), e, length);
      };
      measure(named("attention"), Bound::products, pairs * 4 * static_cast<double>(e), [&] {
        backend_.attention({form, bias, rows, rows, q, k, v, {}, {}, output, lse});
      });
      measure(named("attention_backward"), Bound::products, pairs * 10 * static_cast<double>(e), [&] {
        backend_.attention_delta(output, doutput, delta);
        backend_.attention_backward(
            {form, bias, rows, rows, q, k, v, output, doutput, lse, delta, {}, {}, {}, {}, {}, dq, dk, dv, {}});
      });
    }
  }

  void table() const {
    fmt::print(stderr, "{:<58} {:>10} {:>10} {:>10}\n", "kernel", "ms", "rate", "of ceiling");
    for (const Measurement& m : all_) {
      const bool memory = m.bound == Bound::memory;
      fmt::print(stderr, "{:<58} {:>10.3f} {:>5.{}f} {} {:>8.0f} %\n", m.kernel, 1e3 * m.seconds,
                 m.rate() / (memory ? 1e9 : 1e12), memory ? 0 : 1, memory ? "GB/s" : "Tf/s",
                 100 * m.rate() / ceiling(m.bound));
    }
  }

  Backend& backend_;
  Sizes sizes_;
  double budget_;
  std::vector<Measurement> all_;
};

int run(int count, char** arguments) {
  const std::string device = count > 1 ? arguments[1] : "";
  const std::map<std::string, CudaAttention> attention = {
      {"cpu", {}}, {"cuda", CudaAttention::own}, {"cudnn", CudaAttention::cudnn}, {"hopper", CudaAttention::hopper}};
  if (attention.count(device) == 0) {
    fmt::print(stderr, "device_bench: say which device: device_bench cpu|cuda|cudnn|hopper [seconds per kernel]\n");
    return 2;
  }
  const CudaSettings settings{.attention = attention.at(device)};
  const auto backend = device == "cpu" ? make_cpu_backend() : make_cuda_backend(0, settings);
  Bench(*backend, device == "cpu" ? cpu_sizes : gpu_sizes, count > 2 ? std::atof(arguments[2]) : 0.5).run();
  return 0;
}

}  // namespace
}  // namespace lexring

int main(int count, char** arguments) {
  try {
    return lexring::run(count, arguments);
  } catch (const std::exception& error) {
    fmt::print(stderr, "device_bench: {}\n", error.what());
    return 1;
  }
}
