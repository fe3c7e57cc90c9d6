#include "framework/backend/cuda/attention_tables.h"
#include "framework/backend/cuda/attention_turn.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

constexpr int threads = 128;
constexpr int channels = 8;  ///< of a thread

/// Rows of all heads.
struct HeadsShape {
  std::int64_t rows;
  int heads, width, padded;  ///< channels of a head, and with padding
};

/// cos and sin of four channel pairs of a row, times their decay.
struct Factors {
  float cosine[channels / 2], sine[channels / 2];

  __device__ Factors(const Turn& turn, std::int64_t row, int channel) {
    LEXRING_UNROLL for (int i = 0; i < channels / 2; ++i) {
      const int pair = channel / 2 + i;
      const Floats<2> factors = pair < turn.pairs ? turn.factors(row, pair) : Floats<2>{{1.0F, 0.0F}};
      cosine[i] = factors.value[0], sine[i] = factors.value[1];
    }
  }
};

/// One row of all heads per `per_row` threads: a thread has 8 channels, whose factors it computes once. Bytes per
/// element: x and out once, tables once per row (8 bytes per channel pair, and again 1 / heads of that per head from
/// the cache).
template <class T>
__global__ void __launch_bounds__(threads)
    turn_rows(const T* x, std::int64_t stride, bool vectors, HeadsShape shape, Turn turn, T* out) {
  const int per_row = shape.padded / channels;
  const std::int64_t task = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, row = task / per_row;
  if (row >= shape.rows) return;
  const int channel = static_cast<int>(task % per_row) * channels;
  const Factors factors(turn, row, channel);
  for (int head = 0; head < shape.heads; ++head) {
    const T* from = x + row * stride + head * shape.width + channel;
    Floats<channels> in, turned;
    if (vectors && channel + channels <= shape.width) {
      in = load<channels>(from);
    } else {
      LEXRING_UNROLL for (int i = 0; i < channels; ++i) in[i] = channel + i < shape.width ? to_float(from[i]) : 0.0F;
    }
    LEXRING_UNROLL for (int i = 0; i < channels / 2; ++i) {
      turned[2 * i] = in[2 * i] * factors.cosine[i] - in[2 * i + 1] * factors.sine[i];
      turned[2 * i + 1] = in[2 * i + 1] * factors.cosine[i] + in[2 * i] * factors.sine[i];
    }
    store<channels>(out + (head * shape.rows + row) * shape.padded + channel, turned);
  }
}

/// The transpose. Bytes per element: 4 read, x written.
template <class T>
__global__ void __launch_bounds__(threads)
    turn_rows_back(const float* gradient, bool vectors, HeadsShape shape, Turn turn, T* x, std::int64_t stride) {
  const int per_row = ceil_div(shape.width, channels);
  const std::int64_t task = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, row = task / per_row;
  if (row >= shape.rows) return;
  const int channel = static_cast<int>(task % per_row) * channels;
  const Factors factors(turn, row, channel);
  for (int head = 0; head < shape.heads; ++head) {
    const float* from = gradient + (row * shape.heads + head) * shape.width + channel;
    T* to = x + row * stride + head * shape.width + channel;
    const bool whole = vectors && channel + channels <= shape.width;
    Floats<channels> in, turned;
    if (whole) {
      in = load<channels>(from);
    } else {
      LEXRING_UNROLL for (int i = 0; i < channels; ++i) in[i] = channel + i < shape.width ? from[i] : 0.0F;
    }
    LEXRING_UNROLL for (int i = 0; i < channels / 2; ++i) {
      turned[2 * i] = in[2 * i] * factors.cosine[i] + in[2 * i + 1] * factors.sine[i];
      turned[2 * i + 1] = in[2 * i + 1] * factors.cosine[i] - in[2 * i] * factors.sine[i];
    }
    if (whole) {
      store<channels>(to, turned);
    } else {
      LEXRING_UNROLL for (int i = 0; i < channels; ++i) if (channel + i < shape.width) to[i] = from_float<T>(turned[i]);
    }
  }
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
    const HeadsShape shape{rows, static_cast<int>(heads), static_cast<int>(own), static_cast<int>(width)};
    launch(gpu.stream, dim3(blocks(rows, width / channels)), threads, 0, turn_rows<T>, x.data<T>(), x.stride(),
           vectors(x.data<T>(), x.stride(), own), shape, Turn(rotary, distance, decay, own), turned.data<T>());
  });
  return turned;
}

void turn_back(const Gpu& gpu, const Tensor& gradient, std::int64_t heads, const RotaryTable& rotary,
               const Tensor& distance, const Tensor& decay, const Columns& x) {
  const std::int64_t width = x.width / heads, rows = x.rows();
  with_type(x.dtype(), [&]<class T>(Type<T>) {
    const HeadsShape shape{rows, static_cast<int>(heads), static_cast<int>(width), static_cast<int>(width)};
    const bool whole =
        vectors(x.data<T>(), x.stride(), width) && vectors(gradient.data<float>(), gradient.row_elements(), width);
    launch(gpu.stream, dim3(blocks(rows, ceil_div<std::int64_t>(width, channels))), threads, 0, turn_rows_back<T>,
           gradient.data<float>(), whole, shape, Turn(rotary, distance, decay, width), x.data<T>(), x.stride());
  });
}

}  // namespace lexring::cuda
