#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

// One block to a row. Rows of an odd vocabulary start anywhere, so a row is read as quads, four numbers at a multiple
// of 16 bytes, and edges, the up to three numbers before its first and after its last quad.

constexpr int quad = 4;
constexpr int largest_block = 1024;
constexpr float none = -std::numeric_limits<float>::infinity();

/// e^x. Scaling x rounds it, so subtract before.
__device__ float exponential(float x) { return exp2_fast(x * 1.44269504F); }

struct Row {
  const float* logits;
  int width;
  int head;  ///< edges before the first quad
  int quads;
  int edge;  ///< this thread's edge, or -1; the block's first warp has them all

  __device__ Row(const float* row, int row_width) : logits(row), width(row_width) {
    const int before = static_cast<int>((16 - reinterpret_cast<std::uintptr_t>(row) % 16) % 16 / sizeof(float));
    head = before < width ? before : width;
    quads = (width - head) / quad;
    const int me = static_cast<int>(threadIdx.x), behind = head + quad * quads + me - quad;
    edge = me < head ? me : me >= quad && behind < width ? behind : -1;
  }

  __device__ Floats<1> read_edge() const {
    Floats<1> x;
    x[0] = edge >= 0 ? logits[edge] : none;
    return x;
  }
  /// This thread's `count` quads from its quad `first` on, a block's width apart; -inf outside the row.
  template <int count>
  __device__ Floats<quad * count> read(int first) const {
    Floats<quad * count> x;
    LEXRING_UNROLL for (int i = 0; i < count; ++i) {
      const int at = (first + i) * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
      Floats<quad> part;
      LEXRING_UNROLL for (int j = 0; j < quad; ++j) part[j] = none;
      if (at < quads) part = load<quad>(logits + head + static_cast<std::int64_t>(at) * quad);
      LEXRING_UNROLL for (int j = 0; j < quad; ++j) x[quad * i + j] = part[j];
    }
    return x;
  }
};

/// A sum of exponentials without overflow: e^largest * sum.
struct ExponentialSum {
  float largest = none, sum = 0;

  /// What exponents are taken relative to; not -inf, since -inf minus itself would be NaN.
  __device__ float base() const { return largest == none ? 0.0F : largest; }
  __device__ float log() const { return base() + logf(sum); }

  template <int n>
  __device__ void add(const Floats<n>& x) {
    const float before = largest;
    LEXRING_UNROLL for (int j = 0; j < n; ++j) largest = fmaxf(largest, x[j]);
    float more = 0;
    LEXRING_UNROLL for (int j = 0; j < n; ++j) more += exponential(x[j] - base());
    sum = sum * exponential(before - base()) + more;
  }

  __device__ ExponentialSum over_warp() const {
    ExponentialSum all;
    all.largest = warp_max(largest);
    all.sum = warp_sum(sum * exponential(largest - all.base()));
    return all;
  }
};

struct Scratch {
  float largest[warp_size], sum[warp_size];
};

__device__ ExponentialSum over_block(const ExponentialSum& mine, Scratch& scratch) {
  const unsigned warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
  const ExponentialSum ours = mine.over_warp();
  if (lane == 0) scratch.largest[warp] = ours.largest, scratch.sum[warp] = ours.sum;
  __syncthreads();
  ExponentialSum of_lane;
  if (lane < blockDim.x / warp_size) of_lane.largest = scratch.largest[lane], of_lane.sum = scratch.sum[lane];
  return of_lane.over_warp();
}

/// A row of dlogits = p - scale * onehot. `vectors`: where logits have a quad, quads of dlogits are aligned too.
template <class T, bool vectors>
struct GradientRow {
  T* gradient;
  int target, target_quad;
  float scale;

  __device__ GradientRow(T* to, const Row& row, int target_column, float target_scale)
      : gradient(to),
        target(target_column),
        target_quad(target_column < row.head ? -1 : (target_column - row.head) / quad),
        scale(target_scale) {}

  __device__ void write_edge(const Row& row, float p) {
    if (row.edge >= 0) gradient[row.edge] = from_float<T>(row.edge == target ? p - scale : p);
  }
  /// p for the quads that Row::read gave.
  template <int count>
  __device__ void write(const Row& row, int first, const Floats<quad * count>& p) {
    LEXRING_UNROLL for (int i = 0; i < count; ++i) {
      const int at = (first + i) * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
      if (at >= row.quads) continue;
      const std::int64_t column = row.head + static_cast<std::int64_t>(at) * quad;
      Floats<quad> part;
      LEXRING_UNROLL for (int j = 0; j < quad; ++j) part[j] = p[quad * i + j];
      if (at == target_quad) {
        LEXRING_UNROLL for (int j = 0; j < quad; ++j) part[j] -= column + j == target ? scale : 0.0F;
      }
      if constexpr (vectors) {
        store<quad>(gradient + column, part);
      } else {
        LEXRING_UNROLL for (int j = 0; j < quad; ++j) gradient[column + j] = from_float<T>(part[j]);
      }
    }
  }
};

/// x = factor * e^(x - base)
template <int n>
__device__ void to_weights(Floats<n>& x, float base, float factor) {
  LEXRING_UNROLL for (int i = 0; i < n; ++i) x[i] = factor * exponential(x[i] - base);
}

template <class T>
__device__ void write_zeros(T* row, int width) {
  for (int v = static_cast<int>(threadIdx.x); v < width; v += static_cast<int>(blockDim.x)) row[v] = from_float<T>(0);
}

/// The loss of a target's logit, more exact than log-sum-exp minus logit where both are large.
__device__ float loss(const ExponentialSum& all, float target_logit) {
  return (all.base() - target_logit) + logf(all.sum);
}

// ---- Loss and gradient, the row kept in registers: up to 32768 logits. Bytes: 4 read, a gradient's written.

constexpr int quads_in_registers = 8;

template <class T, bool vectors>
__global__ void __launch_bounds__(largest_block)
    cross_entropy_of_kept_rows(const float* logits, const std::int32_t* targets, float scale, float* nll, T* dlogits,
                               int width) {
  const std::int64_t n = blockIdx.x;
  const int target = targets[n];
  const Row row(logits + n * width, width);
  Floats<quad* quads_in_registers> x =
      row.read<quads_in_registers>(0);  // before the branch: the target is on its way meanwhile
  Floats<1> edge = row.read_edge();
  if (target < 0) {
    write_zeros(dlogits + n * width, width);
    if (threadIdx.x == 0) nll[n] = 0;
    return;
  }
  const float target_logit = threadIdx.x == 0 ? row.logits[target] : 0.0F;
  // One exponential per logit, relative to this thread's largest; what that is relative to the row's is one factor.
  ExponentialSum mine;
  LEXRING_UNROLL for (int i = 0; i < quad * quads_in_registers; ++i) mine.largest = fmaxf(mine.largest, x[i]);
  mine.largest = fmaxf(mine.largest, edge[0]);
  mine.sum = edge[0] = exponential(edge[0] - mine.base());
  LEXRING_UNROLL for (int i = 0; i < quad * quads_in_registers; ++i) mine.sum += x[i] = exponential(x[i] - mine.base());
  const ExponentialSum all = over_block(mine, shared_memory<Scratch>());
  if (threadIdx.x == 0) nll[n] = loss(all, target_logit);
  const float factor = exponential(mine.largest - all.base()) * (scale / all.sum);
  LEXRING_UNROLL for (int i = 0; i < quad * quads_in_registers; ++i) x[i] *= factor;
  GradientRow<T, vectors> gradient(dlogits + n * width, row, target, scale);
  gradient.template write<quads_in_registers>(row, 0, x);
  gradient.write_edge(row, edge[0] * factor);
}

// ---- Longer rows: registers and shared memory keep 53248 logits; the rest of a row is read again, from the L2 cache
// as far as that keeps it. Bytes: 4 read, and 4 again beyond 53248 where the cache is too small, a gradient's written.

constexpr int registers_of_long = 4, chunk = 3,
              shared_chunks = 3;  ///< quads of a thread; as much shared memory as an A100 has
constexpr int kept_of_long = registers_of_long + chunk * shared_chunks;

struct LongRow {
  float kept[shared_chunks][chunk][largest_block][quad];
  Scratch scratch;

  /// Asks for this thread's part of a chunk. A thread reads back only what it asked for itself: no barrier.
  __device__ void fetch(const Row& row, int c) {
    LEXRING_UNROLL for (int i = 0; i < chunk; ++i) {
      const int at = index(c, i);
      cp_async(kept[c][i][threadIdx.x],
               row.logits + row.head + (at < row.quads ? static_cast<std::int64_t>(at) * quad : 0), at < row.quads);
    }
    cp_async_commit();
  }
  __device__ Floats<quad * chunk> read(const Row& row, int c) const {
    Floats<quad * chunk> x;
    LEXRING_UNROLL for (int i = 0; i < chunk; ++i) {
      const Floats<quad> part = load<quad>(static_cast<const float*>(kept[c][i][threadIdx.x]));
      LEXRING_UNROLL for (int j = 0; j < quad; ++j) x[quad * i + j] = index(c, i) < row.quads ? part[j] : none;
    }
    return x;
  }
  __device__ static int first(int c) { return registers_of_long + c * chunk; }
  __device__ static int index(int c, int i) { return (first(c) + i) * largest_block + static_cast<int>(threadIdx.x); }
};

template <class T, bool vectors>
__global__ void __launch_bounds__(largest_block)
    cross_entropy_of_long_rows(const float* logits, const std::int32_t* targets, float scale, float* nll, T* dlogits,
                               int width) {
  auto& shared = shared_memory<LongRow>();
  const std::int64_t n = blockIdx.x;
  const int target = targets[n];
  if (target < 0) {
    write_zeros(dlogits + n * width, width);
    if (threadIdx.x == 0) nll[n] = 0;
    return;
  }
  const Row row(logits + n * width, width);
  Floats<quad* registers_of_long> x = row.read<registers_of_long>(0);
  Floats<1> edge = row.read_edge();
  const float target_logit = threadIdx.x == 0 ? row.logits[target] : 0.0F;
  LEXRING_UNROLL for (int c = 0; c < shared_chunks; ++c) shared.fetch(row, c);
  __syncwarp();  // all is asked for before the first is waited for: compilers move reads down otherwise
  const int chunks_again = ceil_div(ceil_div(row.quads, largest_block) - kept_of_long, chunk);
  ExponentialSum mine;
  mine.add(edge);
  mine.add(x);
  cp_async_wait<2>();
  mine.add(shared.read(row, 0));
  cp_async_wait<1>();
  mine.add(shared.read(row, 1));
  cp_async_wait<0>();
  mine.add(shared.read(row, 2));
  for (int c = 0; c < chunks_again; ++c) mine.add(row.read<chunk>(kept_of_long + c * chunk));
  const ExponentialSum all = over_block(mine, shared.scratch);
  if (threadIdx.x == 0) nll[n] = loss(all, target_logit);

  const float base = all.base(), factor = scale / all.sum;
  GradientRow<T, vectors> gradient(dlogits + n * width, row, target, scale);
  to_weights(x, base, factor);
  gradient.template write<registers_of_long>(row, 0, x);
  to_weights(edge, base, factor);
  gradient.write_edge(row, edge[0]);
  // Backwards: the cache has what was read last.
  for (int c = chunks_again - 1; c >= -shared_chunks; --c) {
    Floats<quad* chunk> part = c >= 0 ? row.read<chunk>(kept_of_long + c * chunk) : shared.read(row, c + shared_chunks);
    to_weights(part, base, factor);
    gradient.template write<chunk>(row, kept_of_long + c * chunk, part);
  }
}

// ---- Sums alone. Bytes: 4 read.

constexpr int quads_at_once = 4, summing_block = 512;

/// [N]: losses; or [N, 2]: log-sum-exp, and the target's logit.
enum class Output { loss, statistics };

template <Output output>
__global__ void __launch_bounds__(summing_block)
    sums_of_rows(const float* logits, const std::int32_t* targets, float* to, int width) {
  const std::int64_t n = blockIdx.x;
  const int target = targets[n];
  if (target < 0) {
    constexpr int numbers = output == Output::loss ? 1 : 2;
    if (threadIdx.x < numbers) to[n * numbers + threadIdx.x] = 0;
    return;
  }
  const Row row(logits + n * width, width);
  const float target_logit = threadIdx.x == 0 && target < width ? row.logits[target] : 0.0F;
  ExponentialSum mine;
  mine.add(row.read_edge());
  const int last = ceil_div(row.quads, static_cast<int>(blockDim.x));
  for (int q = 0; q < last; q += quads_at_once) mine.add(row.read<quads_at_once>(q));
  const ExponentialSum all = over_block(mine, shared_memory<Scratch>());
  if (threadIdx.x != 0) return;
  if constexpr (output == Output::loss) {
    to[n] = loss(all, target_logit);
  } else {
    to[2 * n] = all.log();
    to[2 * n + 1] = target_logit;
  }
}

/// One thread to a row. Bytes: 8 read per slice.
__global__ void __launch_bounds__(256) merge(const float* statistics, const std::int32_t* targets, float* lse,
                                             float* nll, std::int64_t slices, std::int64_t rows) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (n >= rows) return;
  ExponentialSum all;
  float target_logit = 0;
  for (std::int64_t s = 0; s < slices; ++s) {
    const Floats<2> part = load<2>(statistics + 2 * (s * rows + n));
    Floats<1> of_slice;
    of_slice[0] = part[0];
    all.add(of_slice);
    target_logit += part[1];
  }
  const bool counted = targets[n] >= 0;
  lse[n] = counted ? all.log() : 0.0F;
  nll[n] = counted ? loss(all, target_logit) : 0.0F;
}

// ---- The gradient, log-sum-exp known. Bytes: 4 read, a gradient's written.

constexpr int gradient_block = 256;

template <class T, bool vectors>
__global__ void __launch_bounds__(gradient_block)
    gradient_of_rows(const float* logits, const std::int32_t* targets, const float* lse, float scale, T* dlogits,
                     int width) {
  const std::int64_t n = blockIdx.x;
  const int first = static_cast<int>(blockIdx.y) * quads_at_once, target = targets[n];
  const Row row(logits + n * width, width);
  const float base = lse[n];
  Floats<quad* quads_at_once> x = row.read<quads_at_once>(first);
  Floats<1> edge = row.read_edge();
  const bool counted = target >= 0;
  LEXRING_UNROLL for (int i = 0; i < quad * quads_at_once; ++i) x[i] =
      counted ? scale * exponential(x[i] - base) : 0.0F;
  edge[0] = counted ? scale * exponential(edge[0] - base) : 0.0F;
  GradientRow<T, vectors> gradient(dlogits + n * width, row, counted ? target : width, scale);
  gradient.template write<quads_at_once>(row, first, x);
  if (first == 0) gradient.write_edge(row, edge[0]);
}

/// Enough threads for a row at so many quads each, but no more than `most`.
unsigned threads_for(int width, int quads, unsigned most) {
  const int warps = ceil_div(width, quad * quads * warp_size);
  return static_cast<unsigned>(std::clamp(warps * warp_size, warp_size, static_cast<int>(most)));
}

/// Whether quads of dlogits are aligned where those of logits are: in every row, or in none.
template <class T>
bool same_alignment(const Tensor& logits, const Tensor& dlogits) {
  const auto elements = [](const auto* begin) {
    return reinterpret_cast<std::uintptr_t>(begin) / sizeof(*begin) % quad;
  };
  return elements(logits.data<float>()) == elements(dlogits.data<T>());
}

int width_of(const Tensor& logits) {
  require(logits.row_elements() < std::numeric_limits<int>::max() / 2, "{} logits are too many for a row",
          logits.row_elements());
  return static_cast<int>(logits.row_elements());
}

template <Output output>
void sums(const Gpu& gpu, const Tensor& logits, const Tensor& targets, const Tensor& to) {
  const int width = width_of(logits);
  launch(gpu.stream, dim3(static_cast<unsigned>(logits.rows())), threads_for(width, quads_at_once, summing_block),
         sizeof(Scratch), sums_of_rows<output>, logits.data<float>(), targets.data<std::int32_t>(), to.data<float>(),
         width);
}

}  // namespace

void cross_entropy(const Gpu& gpu, const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll,
                   const Tensor& dlogits) {
  if (!dlogits.defined()) return sums<Output::loss>(gpu, logits, targets, nll);
  const int width = width_of(logits);
  const dim3 rows(static_cast<unsigned>(logits.rows()));
  with_type(dlogits.dtype(), [&]<class T>(Type<T>) {
    const auto start = [&](auto kernel, unsigned threads, std::size_t shared_bytes) {
      launch(gpu.stream, rows, threads, shared_bytes, kernel, logits.data<float>(), targets.data<std::int32_t>(),
             static_cast<float>(scale), nll.data<float>(), dlogits.data<T>(), width);
    };
    const bool vectors = same_alignment<T>(logits, dlogits);
    if (width <= quad * quads_in_registers * largest_block) {
      start(vectors ? cross_entropy_of_kept_rows<T, true> : cross_entropy_of_kept_rows<T, false>,
            threads_for(width, quads_in_registers, largest_block), sizeof(Scratch));
    } else {
      start(vectors ? cross_entropy_of_long_rows<T, true> : cross_entropy_of_long_rows<T, false>, largest_block,
            sizeof(LongRow));
    }
  });
}

void logits_statistics(const Gpu& gpu, const Tensor& logits, const Tensor& targets, const Tensor& statistics) {
  sums<Output::statistics>(gpu, logits, targets, statistics);
}

void merge_logits_statistics(const Gpu& gpu, const Tensor& statistics, const Tensor& targets, const Tensor& lse,
                             const Tensor& nll) {
  const std::int64_t rows = lse.elements();
  launch(gpu.stream, dim3(static_cast<unsigned>(ceil_div<std::int64_t>(rows, 256))), 256, 0, merge,
         statistics.data<float>(), targets.data<std::int32_t>(), lse.data<float>(), nll.data<float>(),
         statistics.rows(), rows);
}

void logits_gradient(const Gpu& gpu, const Tensor& logits, const Tensor& targets, const Tensor& lse, double scale,
                     const Tensor& dlogits) {
  const int width = width_of(logits);
  const unsigned threads = threads_for(width, quads_at_once, gradient_block);
  const unsigned pieces = static_cast<unsigned>(ceil_div(width, quad * quads_at_once * static_cast<int>(threads)));
  with_type(dlogits.dtype(), [&]<class T>(Type<T>) {
    launch(gpu.stream, dim3(static_cast<unsigned>(logits.rows()), pieces), threads, 0,
           same_alignment<T>(logits, dlogits) ? gradient_of_rows<T, true> : gradient_of_rows<T, false>,
           logits.data<float>(), targets.data<std::int32_t>(), lse.data<float>(), static_cast<float>(scale),
           dlogits.data<T>(), width);
  });
}

}  // namespace lexring::cuda
