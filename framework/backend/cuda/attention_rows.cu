#include "framework/backend/cuda/attention_decay.h"
#include "framework/backend/cuda/attention_tables.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

constexpr int threads = 128;
constexpr int channels = 8;  ///< of a thread

struct Turn {
  const float *cosine, *sine;    ///< [N, E / 2]; null: none
  const std::int32_t* distance;  ///< [N]; null: no decay
  const LogDecay* decay;         ///< [E / 2]
  std::int64_t rows;
  int heads, width, padded;  ///< channels of a head, and with padding
};

/// cos and sin of four channel pairs of a row, times their decay.
struct Factors {
  float cosine[channels / 2], sine[channels / 2];

  __device__ Factors(const Turn& turn, std::int64_t row, int channel) {
    LEXRING_UNROLL for (int i = 0; i < channels / 2; ++i) {
      const int pair = channel / 2 + i;
      const bool inside = 2 * pair < turn.width;
      const std::int64_t at = row * (turn.width / 2) + pair;
      float scale = 1.0F;
      if (inside && turn.distance != nullptr) scale = decay_over(turn.decay[pair], turn.distance[row]);
      cosine[i] = scale * (inside && turn.cosine != nullptr ? turn.cosine[at] : 1.0F);
      sine[i] = scale * (inside && turn.sine != nullptr ? turn.sine[at] : 0.0F);
    }
  }
};

/// One row of all heads per `per_row` threads: a thread has 8 channels, whose factors it computes once. Bytes per
/// element: x and out once, tables once per row (8 bytes per channel pair, and again 1 / heads of that per head from
/// the cache).
template <class T>
__global__ void __launch_bounds__(threads) turn_rows(const T* x, std::int64_t stride, bool vectors, Turn turn, T* out) {
  const int per_row = turn.padded / channels;
  const std::int64_t task = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, row = task / per_row;
  if (row >= turn.rows) return;
  const int channel = static_cast<int>(task % per_row) * channels;
  const Factors factors(turn, row, channel);
  for (int head = 0; head < turn.heads; ++head) {
    const T* from = x + row * stride + head * turn.width + channel;
    Floats<channels> in, turned;
    if (vectors && channel + channels <= turn.width) {
      in = load<channels>(from);
    } else {
      LEXRING_UNROLL for (int i = 0; i < channels; ++i) in[i] = channel + i < turn.width ? to_float(from[i]) : 0.0F;
    }
    LEXRING_UNROLL for (int i = 0; i < channels / 2; ++i) {
      turned[2 * i] = in[2 * i] * factors.cosine[i] - in[2 * i + 1] * factors.sine[i];
      turned[2 * i + 1] = in[2 * i + 1] * factors.cosine[i] + in[2 * i] * factors.sine[i];
    }
    store<channels>(out + (head * turn.rows + row) * turn.padded + channel, turned);
  }
}

/// The transpose. Bytes per element: 4 read, x written.
template <class T>
__global__ void __launch_bounds__(threads)
    turn_rows_back(const float* gradient, bool vectors, Turn turn, T* x, std::int64_t stride) {
  const int per_row = ceil_div(turn.width, channels);
  const std::int64_t task = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, row = task / per_row;
  if (row >= turn.rows) return;
  const int channel = static_cast<int>(task % per_row) * channels;
  const Factors factors(turn, row, channel);
  for (int head = 0; head < turn.heads; ++head) {
    const float* from = gradient + (row * turn.heads + head) * turn.width + channel;
    T* to = x + row * stride + head * turn.width + channel;
    const bool whole = vectors && channel + channels <= turn.width;
    Floats<channels> in, turned;
    if (whole) {
      in = load<channels>(from);
    } else {
      LEXRING_UNROLL for (int i = 0; i < channels; ++i) in[i] = channel + i < turn.width ? from[i] : 0.0F;
    }
    LEXRING_UNROLL for (int i = 0; i < channels / 2; ++i) {
      turned[2 * i] = in[2 * i] * factors.cosine[i] + in[2 * i + 1] * factors.sine[i];
      turned[2 * i + 1] = in[2 * i + 1] * factors.cosine[i] - in[2 * i] * factors.sine[i];
    }
    if (whole) {
      store<channels>(to, turned);
    } else {
      LEXRING_UNROLL for (int i = 0; i < channels; ++i) if (channel + i < turn.width) to[i] = from_float<T>(turned[i]);
    }
  }
}

Turn make_turn(std::int64_t rows, std::int64_t heads, std::int64_t width, std::int64_t padded,
               const RotaryTable& rotary, const Tensor& distance, const Tensor& decay) {
  Turn turn{};
  if (rotary.cosine.defined()) turn.cosine = rotary.cosine.data<float>(), turn.sine = rotary.sine.data<float>();
  if (distance.defined())
    turn.distance = distance.data<std::int32_t>(), turn.decay = reinterpret_cast<const LogDecay*>(decay.data<float>());
  turn.rows = rows;
  turn.heads = static_cast<int>(heads), turn.width = static_cast<int>(width), turn.padded = static_cast<int>(padded);
  return turn;
}

/// Whether every head's rows begin at multiples of 16 bytes.
template <class T>
bool vectors(const T* first, std::int64_t stride, std::int64_t width) {
  constexpr std::int64_t once = 16 / sizeof(T);
  return aligned(first) && stride % once == 0 && width % once == 0;
}

unsigned blocks(std::int64_t rows, std::int64_t per_row) {
  return static_cast<unsigned>(ceil_div<std::int64_t>(rows * per_row, threads));
}

}  // namespace

bool HeadRows::vectors() const {
  const std::int64_t once = 16 / static_cast<std::int64_t>(size_of(storage.dtype()));
  return reinterpret_cast<std::uintptr_t>(storage.raw()) % 16 == 0 && first % once == 0 && row_stride % once == 0 &&
         head_stride % once == 0 && width % once == 0;
}

HeadRows turned_rows(const Gpu& gpu, const Columns& x, std::int64_t heads, std::int64_t width,
                     const RotaryTable& rotary, const Tensor& distance, const Tensor& decay) {
  const std::int64_t own = heads > 0 ? x.width / heads : 0, rows = x.rows();
  const HeadRows as_is{x.matrix, x.first, x.stride(), own, own};
  if (!rotary.cosine.defined() && own == width && as_is.vectors()) return as_is;
  const HeadRows turned{Tensor(gpu.runtime, {heads * rows, width}, x.dtype()), 0, width, rows * width, width};
  with_type(x.dtype(), [&]<class T>(Type<T>) {
    const Turn turn = make_turn(rows, heads, own, width, rotary, distance, decay);
    launch(gpu.stream, dim3(blocks(rows, width / channels)), threads, 0, turn_rows<T>, x.data<T>(), x.stride(),
           vectors(x.data<T>(), x.stride(), own), turn, turned.data<T>());
  });
  return turned;
}

void turn_back(const Gpu& gpu, const Tensor& gradient, std::int64_t heads, const RotaryTable& rotary,
               const Tensor& distance, const Tensor& decay, const Columns& x) {
  const std::int64_t width = x.width / heads, rows = x.rows();
  with_type(x.dtype(), [&]<class T>(Type<T>) {
    const Turn turn = make_turn(rows, heads, width, width, rotary, distance, decay);
    const bool whole =
        vectors(x.data<T>(), x.stride(), width) && vectors(gradient.data<float>(), gradient.row_elements(), width);
    launch(gpu.stream, dim3(blocks(rows, ceil_div<std::int64_t>(width, channels))), threads, 0, turn_rows_back<T>,
           gradient.data<float>(), whole, turn, x.data<T>(), x.stride());
  });
}

}  // namespace lexring::cuda
