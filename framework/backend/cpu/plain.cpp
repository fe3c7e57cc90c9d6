#include <vector>

#include "framework/backend/cpu/kernels.h"
#include "framework/backend/cpu/simd.h"
#include "framework/backend/dispatch.h"
#include "framework/base/parallel_for.h"

namespace lexring::cpu {

using namespace simd;

constexpr std::int64_t elements_of_a_thread = 16384;  // elements a thread must have to be worth waking

void fill(const Tensor& x, double value) {
  with_type(x.dtype(), [&]<class T>(Type<T>) {
    T* p = x.data<T>();
    parallel_for(0, x.elements(), elements_of_a_thread, [&](std::int64_t first, std::int64_t last) {
      std::fill(p + first, p + last, T(static_cast<float>(value)));
    });
  });
}

void cast(const Tensor& x, const Tensor& y) {
  with_types(x.dtype(), y.dtype(), [&]<class T, class U>(Type<T>, Type<U>) {
    const T* from = x.data<T>();
    U* to = y.data<U>();
    parallel_for(0, x.elements(), elements_of_a_thread, [&](std::int64_t first, std::int64_t last) {
      for_lanes(last - first,
                [&](std::int64_t i, std::int64_t n) { store(to + first + i, load(from + first + i, n), n); });
    });
  });
}

void add(const Tensor& x, const Tensor& y) {
  with_types(x.dtype(), y.dtype(), [&]<class T, class U>(Type<T>, Type<U>) {
    const T* from = x.data<T>();
    U* to = y.data<U>();
    parallel_for(0, x.elements(), elements_of_a_thread, [&](std::int64_t first, std::int64_t last) {
      for_lanes(last - first, [&](std::int64_t i, std::int64_t n) {
        store(to + first + i, load(to + first + i, n) + load(from + first + i, n), n);
      });
    });
  });
}

namespace {

double squares_of(const Tensor& x) {
  constexpr std::int64_t block = 65536;  // fixed, so that the sum does not depend on the number of threads
  const std::int64_t blocks = (x.elements() + block - 1) / block;
  std::vector<double> partial(static_cast<std::size_t>(blocks));
  with_type(x.dtype(), [&]<class T>(Type<T>) {
    const T* p = x.data<T>();
    parallel_tasks(blocks, [&](std::int64_t b) {
      const std::int64_t first = b * block, last = std::min(first + block, x.elements());
      double sums[8] = {};
      std::int64_t i = first;
      for (; i + 8 <= last; i += 8) {
        for (int j = 0; j < 8; ++j) {
          const double v = static_cast<float>(p[i + j]);
          sums[j] += v * v;
        }
      }
      for (; i < last; ++i) {
        const double v = static_cast<float>(p[i]);
        sums[0] += v * v;
      }
      for (double s : sums) partial[static_cast<std::size_t>(b)] += s;
    });
  });
  double total = 0;
  for (double s : partial) total += s;
  return total;
}

}  // namespace

double sum_of_squares(std::span<const Tensor> x) {
  double sum = 0;
  for (const Tensor& part : x) sum += squares_of(part);
  return sum;
}

void copy(const Columns& x, const Columns& y) {
  const std::size_t size = size_of(x.dtype()), row = static_cast<std::size_t>(x.width) * size;
  const std::byte* const from = x.matrix.raw() + static_cast<std::size_t>(x.first) * size;
  std::byte* const to = y.matrix.raw() + static_cast<std::size_t>(y.first) * size;
  const std::size_t from_stride = static_cast<std::size_t>(x.stride()) * size,
                    to_stride = static_cast<std::size_t>(y.stride()) * size;
  parallel_for(0, x.rows(), 64, [&](std::int64_t first, std::int64_t last) {
    for (auto n = static_cast<std::size_t>(first); n < static_cast<std::size_t>(last); ++n) {
      std::memcpy(to + n * to_stride, from + n * from_stride, row);
    }
  });
}

void scale_queries(const Columns& x, const Tensor& by_row, const Tensor& by_head, const Columns& y) {
  const std::int64_t heads = by_head.defined() ? by_head.elements() : 1, head_width = x.width / heads;
  with_type(x.dtype(), [&]<class T>(Type<T>) {
    parallel_for(0, x.rows(), 64, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t n = first; n < last; ++n) {
        for (std::int64_t h = 0; h < heads; ++h) {
          const float factor = by_row.data<float>()[n] * (by_head.defined() ? by_head.data<float>()[h] : 1.0F);
          const T* from = x.data<T>() + n * x.stride() + h * head_width;
          T* to = y.data<T>() + n * y.stride() + h * head_width;
          for_lanes(head_width, [&](std::int64_t i, std::int64_t m) { store(to + i, factor * load(from + i, m), m); });
        }
      }
    });
  });
}

void embedding(const Tensor& index, const Tensor& table, const Tensor& x, Write write) {
  const std::int64_t width = x.row_elements();
  const std::int32_t* rows = index.data<std::int32_t>();
  const float* from = table.data<float>();
  with_type(x.dtype(), [&]<class T>(Type<T>) {
    T* to = x.data<T>();
    parallel_for(0, x.rows(), 64, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t n = first; n < last; ++n) {
        T* target = to + n * width;
        if (rows[n] < 0) {
          if (write == Write::overwrite) std::fill(target, target + width, T(0.0F));
          continue;
        }
        const float* source = from + rows[n] * width;
        for_lanes(width, [&](std::int64_t i, std::int64_t m) {
          const f32v old = write == Write::accumulate ? load(target + i, m) : f32v{};
          store(target + i, old + load(source + i, m), m);
        });
      }
    });
  });
}

void embedding_backward(const Tensor& index, const Tensor& dx, const Tensor& dtable) {
  // Each thread owns columns, not tokens: a row of the table is added to in token order, whatever the number of
  // threads.
  const std::int64_t width = dx.row_elements();
  const std::int32_t* rows = index.data<std::int32_t>();
  float* to = dtable.data<float>();
  with_type(dx.dtype(), [&]<class T>(Type<T>) {
    const T* from = dx.data<T>();
    parallel_for(0, (width + lanes - 1) / lanes, 4, [&](std::int64_t first, std::int64_t last) {
      const std::int64_t begin = first * lanes, count = std::min(last * lanes, width) - begin;
      for (std::int64_t n = 0; n < dx.rows(); ++n) {
        if (rows[n] < 0) continue;
        float* target = to + rows[n] * width + begin;
        const T* source = from + n * width + begin;
        for_lanes(count, [&](std::int64_t i, std::int64_t m) {
          store(target + i, load(target + i, m) + load(source + i, m), m);
        });
      }
    });
  });
}

void column_sums(const Tensor& x, const Tensor& sums) {
  const std::int64_t width = x.row_elements();
  float* to = sums.data<float>();
  with_type(x.dtype(), [&]<class T>(Type<T>) {
    const T* from = x.data<T>();
    parallel_for(0, (width + lanes - 1) / lanes, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t v = first; v < last;) {  // as many columns at once as registers hold
        const std::int64_t vectors = std::min<std::int64_t>(last - v, 8), begin = v * lanes,
                           count = std::min(vectors * lanes, width - begin);
        f32v total[8] = {};
        for (std::int64_t n = 0; n < x.rows(); ++n) {
          const T* row = from + n * width + begin;
          for_lanes(count, [&](std::int64_t i, std::int64_t m) { total[i / lanes] += load(row + i, m); });
        }
        for_lanes(count, [&](std::int64_t i, std::int64_t m) {
          store(to + begin + i, load(to + begin + i, m) + total[i / lanes], m);
        });
        v += vectors;
      }
    });
  });
}

void forget_sums(const Tensor& logits, const Tensor& before, const Tensor& sums) {
  const std::int64_t heads = logits.row_elements();
  std::vector<double> total(static_cast<std::size_t>(heads));
  float* const to = sums.data<float>();
  with_type(logits.dtype(), [&]<class T>(Type<T>) {
    parallel_for(0, logits.rows(), 64, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first * heads; i < last * heads; ++i) {
        const float x = load(logits.data<T>() + i, 1)[0];
        to[i / heads * 2 * heads + i % heads] = std::min(x, 0.0F) - std::log1p(std::exp(-std::abs(x)));
      }
    });
  });
  for (std::int64_t h = 0; before.defined() && h < heads; ++h) {
    const float* const from = before.data<float>() + h;
    total[static_cast<std::size_t>(h)] = static_cast<double>(from[0]) + static_cast<double>(from[heads]);
  }
  for (std::int64_t n = 0; n < logits.rows(); ++n) {
    float* const row = to + n * 2 * heads;
    for (std::int64_t h = 0; h < heads; ++h) {
      double& sum = total[static_cast<std::size_t>(h)];
      sum += static_cast<double>(row[h]);
      row[h] = static_cast<float>(sum);
      row[heads + h] = static_cast<float>(sum - static_cast<double>(row[h]));
    }
  }
}

void forget_sums_backward(const Tensor& logits, const Tensor& dsums, const Tensor& dlogits) {
  const std::int64_t heads = logits.row_elements();
  std::vector<double> total(static_cast<std::size_t>(heads));
  std::vector<float> later(static_cast<std::size_t>(logits.elements()));
  for (std::int64_t n = logits.rows() - 1; n >= 0; --n) {
    for (std::int64_t h = 0; h < heads; ++h) {
      double& sum = total[static_cast<std::size_t>(h)];
      sum += static_cast<double>(dsums.data<float>()[n * heads + h]);
      later[static_cast<std::size_t>(n * heads + h)] = static_cast<float>(sum);
    }
  }
  with_type(logits.dtype(), [&]<class T>(Type<T>) {
    parallel_for(0, (logits.elements() + lanes - 1) / lanes, 64, [&](std::int64_t first, std::int64_t last) {
      for_lanes(std::min(last * lanes, logits.elements()) - first * lanes, [&](std::int64_t i, std::int64_t m) {
        const std::int64_t at = first * lanes + i;
        const f32v x = load(logits.data<T>() + at, m);
        store(dlogits.data<T>() + at, load(later.data() + at, m) / (1.0F + simd::exp(x)), m);
      });
    });
  });
}

}  // namespace lexring::cpu
