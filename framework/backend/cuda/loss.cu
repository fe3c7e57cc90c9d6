#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/backend/cuda/dispatch.h"
#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"

namespace lexring::cuda {
namespace {

// One block to a row. Rows of an odd vocabulary start anywhere, so a row is read as quads, four numbers at a multiple of 16 bytes, and edges,
// the up to three numbers before its first and after its last quad.

constexpr int quad = 4;
constexpr int largest_block = 1024;
constexpr float none = -std::numeric_limits<float>::infinity();

/// e^x. Scaling x rounds it, so subtract before.
__device__ float exponential(float x) { return exp2_fast(x * 1.44269504F); }

struct Row {
  const float* logits;
  int width;
  int head;   ///< edges before the first quad
  int quads;
  int edge;   ///< this thread's edge, or -1; the block's first warp has them all

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

  /// What exponents are taken relative to. Nothing but -inf has no largest: -inf minus itself would be NaN.
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

/// A row of dlogits = p - scale * onehot.
template <class T>
struct GradientRow {
  T* gradient;
  bool vectors;  ///< its quads are aligned too
  int target, target_quad;
  float scale;

  __device__ GradientRow(T* to, const Row& row, int target_column, float target_scale)
      : gradient(to), target(target_column), target_quad(target_column < row.head ? -1 : (target_column - row.head) / quad), scale(target_scale) {
    vectors = reinterpret_cast<std::uintptr_t>(to + row.head) % (quad * sizeof(T)) == 0;
  }

  __device__ void write_edge(const Row& row, float p) {
    if (row.edge >= 0) gradient[row.edge] = from_float<T>(row.edge == target ? p - scale : p);
  }
  /// The quads that Row::read gave, as p.
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
      if (vectors) {
        store<quad>(gradient + column, part);
      } else {
        LEXRING_UNROLL for (int j = 0; j < quad; ++j) gradient[column + j] = from_float<T>(part[j]);
      }
    }
  }
};

template <class T>
__device__ void write_zeros(T* row, int width) {
  for (int v = static_cast<int>(threadIdx.x); v < width; v += static_cast<int>(blockDim.x)) row[v] = from_float<T>(0);
}

/// The loss of a target's logit, more exact than log-sum-exp minus logit where both are large.
__device__ float loss(const ExponentialSum& all, float target_logit) { return (all.base() - target_logit) + logf(all.sum); }

// ---- Loss and gradient, the row kept in registers: up to 32768 logits. Bytes: 4 read, a gradient's written.

constexpr int quads_in_registers = 8;

template <class T>
__global__ void __launch_bounds__(largest_block) cross_entropy_of_kept_rows(const float* logits, const std::int32_t* targets, float scale, float* nll,
                                                                             T* dlogits, int width) {
  const std::int64_t n = blockIdx.x;
  const int target = targets[n];
  const Row row(logits + n * width, width);
  Floats<quad* quads_in_registers> x = row.read<quads_in_registers>(0);  // before the branch: the target is on its way meanwhile
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
  GradientRow<T> gradient(dlogits + n * width, row, target, scale);
  gradient.template write<quads_in_registers>(row, 0, x);
  gradient.write_edge(row, edge[0] * factor);
}

// ---- Longer rows: registers and shared memory keep 53248 logits; the rest of a row is read again, from the L2 cache as far as that keeps it.
// Bytes: 4 read, and 4 again beyond 53248 where the cache is too small, a gradient's written.

constexpr int registers_of_long = 4, chunk = 3, shared_chunks = 3;  ///< quads of a thread; shared memory for any GPU since sm_80

struct LongShared {
  float kept[shared_chunks * chunk][largest_block][quad];
  Scratch scratch;
};

template <class T>
__global__ void __launch_bounds__(largest_block) cross_entropy_of_long_rows(const float* logits, const std::int32_t* targets, float scale, float* nll,
                                                                             T* dlogits, int width) {
  auto& shared = shared_memory<LongShared>();
  const std::int64_t n = blockIdx.x;
  const int target = targets[n], me = static_cast<int>(threadIdx.x);
  const Row row(logits + n * width, width);
  if (target < 0) {
    write_zeros(dlogits + n * width, width);
    if (me == 0) nll[n] = 0;
    return;
  }
  // A thread reads back only what it asked for itself: no barrier.
  LEXRING_UNROLL for (int c = 0; c < shared_chunks; ++c) {
    LEXRING_UNROLL for (int i = 0; i < chunk; ++i) {
      const int at = (registers_of_long + c * chunk + i) * largest_block + me;
      const bool valid = at < row.quads;
      cp_async(shared.kept[c * chunk + i][me], row.logits + (valid ? row.head + static_cast<std::int64_t>(at) * quad : 0), valid);
    }
    cp_async_commit();
  }
  const auto shared_chunk = [&](int c) {
    Floats<quad * chunk> x;
    LEXRING_UNROLL for (int i = 0; i < chunk; ++i) {
      const bool valid = (registers_of_long + c * chunk + i) * largest_block + me < row.quads;
      const Floats<quad> part = load<quad>(static_cast<const float*>(shared.kept[c * chunk + i][me]));
      LEXRING_UNROLL for (int j = 0; j < quad; ++j) x[quad * i + j] = valid ? part[j] : none;
    }
    return x;
  };
  const Floats<quad* registers_of_long> kept = row.read<registers_of_long>(0);
  const Floats<1> edge = row.read_edge();
  const float target_logit = me == 0 ? row.logits[target] : 0.0F;
  ExponentialSum mine;
  mine.add(edge);
  mine.add(kept);
  constexpr int first_of_rest = registers_of_long + shared_chunks * chunk;
  const int last_quad = ceil_div(row.quads, largest_block);
  cp_async_wait<2>();
  mine.add(shared_chunk(0));
  cp_async_wait<1>();
  mine.add(shared_chunk(1));
  cp_async_wait<0>();
  mine.add(shared_chunk(2));
  for (int q = first_of_rest; q < last_quad; q += chunk) mine.add(row.read<chunk>(q));
  const ExponentialSum all = over_block(mine, shared.scratch);
  if (me == 0) nll[n] = loss(all, target_logit);
  const float base = all.base(), factor = scale / all.sum;
  GradientRow<T> gradient(dlogits + n * width, row, target, scale);
  const auto write = [&]<int count>(int q, Floats<quad * count> x) {
    LEXRING_UNROLL for (int i = 0; i < quad * count; ++i) x[i] = factor * exponential(x[i] - base);
    gradient.template write<count>(row, q, x);
  };
  // Backwards: the cache has what was read last.
  for (int q = first_of_rest + (last_quad - 1 - first_of_rest) / chunk * chunk; q >= first_of_rest; q -= chunk) write.template operator()<chunk>(q, row.read<chunk>(q));
  for (int c = shared_chunks - 1; c >= 0; --c) write.template operator()<chunk>(registers_of_long + c * chunk, shared_chunk(c));
  write.template operator()<registers_of_long>(0, kept);
  gradient.write_edge(row, factor * exponential(edge[0] - base));
}
