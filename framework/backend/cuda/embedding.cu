#include <utility>

#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

/// Elements of an access: 16 bytes of f32, 8 of bf16, so that the accesses of a warp touch every sector of theirs once.
constexpr int vector = 4;

// ---- forward

constexpr int lookup_threads = 256;
constexpr int lookup_unroll = 4;

/// A warp for each row of x. Bytes: 4 read of the table (which a small one's rows find in the cache), x written, and
/// read where added to.
template <int n, class T>
__global__ void __launch_bounds__(lookup_threads)
    look_up(const std::int32_t* index, const float* table, T* x, std::int64_t rows, int width, bool accumulate) {
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (lookup_threads / warp_size) + threadIdx.x / warp_size;
  if (row >= rows) return;
  const std::int32_t at = index[row];
  if (at < 0 && accumulate) return;
  const float* from = at < 0 ? nullptr : table + static_cast<std::int64_t>(at) * width;
  T* to = x + row * width;
  for (int first = static_cast<int>(threadIdx.x % warp_size) * n; first < width;
       first += lookup_unroll * warp_size * n) {
    Floats<n> found[lookup_unroll] = {};
    LEXRING_UNROLL for (int k = 0; k < lookup_unroll; ++k) {
      const int column = first + k * warp_size * n;
      if (column >= width) continue;
      if (from) found[k] = load<n>(from + column);
      if (!accumulate) continue;
      const Floats<n> old = load<n>(static_cast<const T*>(to) + column);
      LEXRING_UNROLL for (int j = 0; j < n; ++j) found[k][j] += old[j];
    }
    LEXRING_UNROLL for (int k = 0; k < lookup_unroll; ++k) {
      const int column = first + k * warp_size * n;
      if (column < width) store<n>(to + column, found[k]);
    }
  }
}

// ---- backward
//
// Tokens are sorted by their row of the table, which brings together what is to be added. Then tiles of 64 sorted
// tokens are summed, each thread in its own columns. A row whose tokens lie inside one tile is complete and goes to the
// table; a tile's first and last row may go on in its neighbours, so their sums are left as entries of a next, 32 times
// shorter list, which is summed the same way, until there is one tile. Every row is added to the table once, and all
// orders are fixed by the tokens alone; no vocabulary and no skew is a special case.
//
// Cost for N tokens of width D: dx read once (whole rows), rows of the table that occur read and written once, D / 8
// bytes per token written and read for the lists, and the sort: one kernel and log2(N / 1024) more that each move 16 N
// bytes within the second-level cache and wait for some 20 dependent reads. For 64k tokens of 1024 f32: 268 MB of dx
// (56 us at 4.8 TB/s), 17 MB of lists, about 10 kernels of a few us.

using Key = unsigned long long;  ///< row of the table, then the row of what is added to it; all keys of a list differ
constexpr Key no_row = 0xffffffffULL;  ///< sorts last; adds nothing
__device__ Key key_of(Key row, std::int64_t source) { return row << 32 | static_cast<Key>(source); }

constexpr int sort_threads = 256;
constexpr int sort_tile = 1024;

/// Where `from[i]` goes when sorted runs of `run` keys, a power of two, are merged in pairs: past the smaller keys of
/// the other run.
__device__ inline std::int64_t merged_place(const Key* from, std::int64_t i, std::int64_t run, std::int64_t count) {
  const std::int64_t own = i & -run, pair = i & (-2 * run), other = own == pair ? own + run : pair;
  std::int64_t low = other < count ? other : count, high = other + run < count ? other + run : count;
  const std::int64_t begin = low;
  const Key key = from[i];
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (from[middle] < key) low = middle + 1;
    else high = middle;
  }
  return pair + (i - own) + (low - begin);
}

struct SortShared {
  Key keys[2][sort_tile];
};

/// Runs of `sort_tile` sorted keys from the tokens' rows.
__global__ void __launch_bounds__(sort_threads) sort_tiles(const std::int32_t* index, Key* sorted, std::int64_t count) {
  auto& shared = shared_memory<SortShared>();
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * sort_tile;
  for (int i = static_cast<int>(threadIdx.x); i < sort_tile; i += sort_threads) {
    const std::int64_t token = first + i;
    const std::int32_t row = token < count ? index[token] : -1;
    shared.keys[0][i] = key_of(row < 0 ? no_row : static_cast<Key>(row), token);  // what is past the end sorts last
  }
  int now = 0;
  for (int run = 1; run < sort_tile; run *= 2, now = 1 - now) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < sort_tile; i += sort_threads)
      shared.keys[1 - now][merged_place(shared.keys[now], i, run, sort_tile)] = shared.keys[now][i];
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < sort_tile && first + i < count; i += sort_threads)
    sorted[first + i] = shared.keys[now][i];
}

__global__ void __launch_bounds__(sort_threads)
    merge_runs(const Key* from, Key* to, std::int64_t run, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * sort_threads + threadIdx.x;
  if (i < count) to[merged_place(from, i, run, count)] = from[i];
}

constexpr int sum_threads = 128;
constexpr int sum_tile = 64;
constexpr int sum_batch = 8;  ///< rows in flight

/// What is summed: for each key the row it names of `source`. Sums of a tile's first and last row become rows 2 t and 2
/// t + 1 of `sums` with their keys in `open`; where there is one tile (`open` null) all go to the table.
template <class T>
struct Sums {
  const Key* keys;
  std::int64_t count;
  const T* source;
  int width;
  float *table, *sums;
  Key* open;
};

template <int n>
__device__ void add_to(float* to, const Floats<n>& x) {
  Floats<n> sum = load<n>(static_cast<const float*>(to));
  LEXRING_UNROLL for (int j = 0; j < n; ++j) sum[j] += x[j];
  store<n>(to, sum);
}

template <int n, class T>
__global__ void __launch_bounds__(sum_threads) sum_sorted(Sums<T> a) {
  const int column = static_cast<int>(blockIdx.y * sum_threads + threadIdx.x) * n;
  const std::int64_t tile = blockIdx.x, begin = tile * sum_tile,
                     end = begin + sum_tile < a.count ? begin + sum_tile : a.count;
  const bool inside = column < a.width, keeps_keys = a.open && column == 0;
  Key current = no_row;
  bool first = true;  // the current row is the tile's first
  Floats<n> sum = {};
  const auto leave_open = [&](std::int64_t entry) {
    if (inside) store<n>(a.sums + entry * a.width + column, sum);
    if (keeps_keys) a.open[entry] = key_of(current, entry);
  };
  for (std::int64_t i = begin; i < end; i += sum_batch) {
    Key rows[sum_batch];
    Floats<n> x[sum_batch] = {};
    LEXRING_UNROLL for (int k = 0; k < sum_batch; ++k) {
      const Key key = i + k < end ? a.keys[i + k] : key_of(no_row, 0);
      rows[k] = key >> 32;
      if (rows[k] != no_row && inside)
        x[k] = load<n>(a.source + static_cast<std::int64_t>(key & 0xffffffffULL) * a.width + column);
    }
    LEXRING_UNROLL for (int k = 0; k < sum_batch; ++k) {
      if (rows[k] == no_row) continue;
      if (rows[k] != current && current != no_row) {
        if (first && a.open) leave_open(2 * tile);
        else if (inside) add_to<n>(a.table + static_cast<std::int64_t>(current) * a.width + column, sum);
        first = false;
        sum = {};
      }
      current = rows[k];
      LEXRING_UNROLL for (int j = 0; j < n; ++j) sum[j] += x[k][j];
    }
  }
  if (!a.open) {
    if (inside && current != no_row) add_to<n>(a.table + static_cast<std::int64_t>(current) * a.width + column, sum);
    return;
  }
  if (current != no_row) leave_open(2 * tile + (first ? 0 : 1));
  if (keeps_keys && current == no_row) a.open[2 * tile] = key_of(no_row, 0);
  if (keeps_keys && first) a.open[2 * tile + 1] = key_of(no_row, 0);
}

Tensor key_list(const Gpu& gpu, std::int64_t count) { return {gpu.runtime, {count, 2}, Dtype::i32}; }
Key* keys_of(const Tensor& list) { return reinterpret_cast<Key*>(list.raw()); }

Tensor sorted_keys(const Gpu& gpu, const Tensor& index) {
  const std::int64_t count = index.elements();
  Tensor sorted = key_list(gpu, count), other = key_list(gpu, count);
  launch(gpu.stream, dim3(static_cast<unsigned>(ceil_div<std::int64_t>(count, sort_tile))), sort_threads,
         sizeof(SortShared), sort_tiles, index.data<std::int32_t>(), keys_of(sorted), count);
  for (std::int64_t run = sort_tile; run < count; run *= 2) {
    launch(gpu.stream, dim3(static_cast<unsigned>(ceil_div<std::int64_t>(count, sort_threads))), sort_threads, 0,
           merge_runs, keys_of(sorted), keys_of(other), run, count);
    std::swap(sorted, other);
  }
  return sorted;
}

template <class T>
void add_sorted(const Gpu& gpu, const Tensor& keys, const Tensor& source, const Tensor& table) {
  const std::int64_t count = keys.rows(), tiles = ceil_div<std::int64_t>(count, sum_tile);
  const int width = static_cast<int>(source.row_elements());
  Tensor sums, open;
  if (tiles > 1) sums = Tensor(gpu.runtime, {2 * tiles, width}, Dtype::f32), open = key_list(gpu, 2 * tiles);
  const Sums<T> call{
      keys_of(keys), count, source.data<T>(), width, table.data<float>(), tiles > 1 ? sums.data<float>() : nullptr,
      keys_of(open)};
  const auto with = [&](int n, auto* kernel) {
    launch(gpu.stream, dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(ceil_div(width, sum_threads * n))),
           sum_threads, 0, kernel, call);
  };
  if (width % vector == 0 && aligned(call.source) && aligned(call.table)) with(vector, sum_sorted<vector, T>);
  else with(1, sum_sorted<1, T>);
  if (tiles > 1) add_sorted<float>(gpu, open, sums, table);
}

}  // namespace

void embedding(const Gpu& gpu, const Tensor& index, const Tensor& table, const Tensor& x, Write write) {
  const int width = static_cast<int>(table.row_elements());
  with_type(x.dtype(), [&]<class T>(Type<T>) {
    const bool vectors = width % vector == 0 && aligned(table.data<float>()) && aligned(x.data<T>());
    launch(gpu.stream,
           dim3(static_cast<unsigned>(ceil_div<std::int64_t>(index.elements(), lookup_threads / warp_size))),
           lookup_threads, 0, vectors ? look_up<vector, T> : look_up<1, T>, index.data<std::int32_t>(),
           table.data<float>(), x.data<T>(), index.elements(), width, write == Write::accumulate);
  });
}

void embedding_backward(const Gpu& gpu, const Tensor& index, const Tensor& dx, const Tensor& dtable) {
  if (index.elements() == 0 || dtable.row_elements() == 0) return;
  const Tensor keys = sorted_keys(gpu, index);
  with_type(dx.dtype(), [&]<class T>(Type<T>) { add_sorted<T>(gpu, keys, dx, dtable); });
}

}  // namespace lexring::cuda
