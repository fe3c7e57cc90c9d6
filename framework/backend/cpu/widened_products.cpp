#include "framework/backend/cpu/widened_products.h"

#include <algorithm>

#include "framework/backend/cpu/dispatch.h"
#include "framework/backend/cpu/simd.h"
#include "framework/base/parallel_for.h"

namespace lexring::cpu {
namespace {

using namespace simd;

constexpr std::int64_t longest_side = 1024;  // of a panel: an element is widened once for so many multiplications
constexpr std::int64_t rows_of_a_thread = 16;

struct Range {
  std::int64_t first, count;
};

/// [0, size) in equal parts that are no longer than a panel's side: few shapes of products.
struct Parts {
  explicit Parts(std::int64_t whole) : size(whole), count((whole + longest_side - 1) / longest_side) {}
  Range operator[](std::int64_t i) const { return {size * i / count, size * (i + 1) / count - size * i / count}; }
  std::int64_t size, count;
};

/// Rows and columns of a stored bf16 matrix in f32.
Tensor widen(const Tensor& x, Range rows, Range columns) {
  const Tensor y(x.runtime(), {rows.count, columns.count}, Dtype::f32);
  const std::int64_t stride = x.row_elements();
  const bfloat16* from = x.data<bfloat16>() + rows.first * stride + columns.first;
  float* to = y.data<float>();
  parallel_for(0, rows.count, rows_of_a_thread, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      for_lanes(columns.count,
                [&](std::int64_t i, std::int64_t n) { store(to + r * columns.count + i, load(from + r * stride + i, n), n); });
    }
  });
  return y;
}

/// One operand; the panel that was widened last is kept, since neighbouring products often share it.
class Operand {
 public:
  Operand(const Tensor& stored, Layout layout) : stored_(stored), layout_(layout) {}

  /// Rows and columns of the operand as it is multiplied; the panel lies as the operand is stored.
  const Tensor& panel(Range rows, Range columns) {
    if (!panel_.defined() || rows.first != rows_.first || columns.first != columns_.first) {
      panel_ = Tensor();  // its memory is free for the next
      panel_ = layout_ == Layout::rows ? widen(stored_, rows, columns) : widen(stored_, columns, rows);
      rows_ = rows, columns_ = columns;
    }
    return panel_;
  }

 private:
  const Tensor& stored_;
  Layout layout_;
  Tensor panel_;
  Range rows_{}, columns_{};
};

/// The rows and columns of c become (or are increased by) sums + bias.
void finish(const Tensor& sums, const Tensor& bias, const Tensor& c, Range rows, Range columns, bool accumulate) {
  with_type(c.dtype(), [&]<class T>(Type<T>) {
    const float* added = bias.defined() ? bias.data<float>() + columns.first : nullptr;
    const float* from = sums.data<float>();
    T* to = c.data<T>() + rows.first * c.row_elements() + columns.first;
    parallel_for(0, rows.count, rows_of_a_thread, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) {
        T* out = to + r * c.row_elements();
        for_lanes(columns.count, [&](std::int64_t i, std::int64_t n) {
          f32v x = load(from + r * columns.count + i, n);
          if (added) x += load(added + i, n);
          if (accumulate) x += load(out + i, n);
          store(out + i, x, n);
        });
      }
    });
  });
}

}  // namespace

void WidenedProducts::product(const Tensor& a, Layout a_layout, const Tensor& b, Layout b_layout, const Tensor& bias, const Tensor& c,
                              bool accumulate) {
  const Parts rows(c.rows()), columns(c.row_elements()), depth(a_layout == Layout::rows ? a.row_elements() : a.rows());
  if (depth.count == 0) return;  // nothing to add, as in MatrixProducts
  Operand left(a, a_layout), right(b, b_layout);
  for (std::int64_t j = 0; j < columns.count; ++j) {
    for (std::int64_t i = 0; i < rows.count; ++i) {
      const Tensor sums(c.runtime(), {rows[i].count, columns[j].count}, Dtype::f32);
      for (std::int64_t k = 0; k < depth.count; ++k) {
        products_->product(left.panel(rows[i], depth[k]), a_layout, right.panel(depth[k], columns[j]), b_layout, {}, sums, k > 0);
      }
      finish(sums, bias, c, rows[i], columns[j], accumulate);
    }
  }
}

}  // namespace lexring::cpu
