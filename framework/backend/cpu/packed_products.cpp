/// The order of loops is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008): a
/// wide stretch of B is packed once for all rows, a block of A per task and depth, and tiles of registers run over both
/// from the inner caches.
#include "framework/backend/cpu/packed_products.h"

#include <algorithm>

#include "framework/backend/cpu/tile_product.h"
#include "framework/backend/dispatch.h"
#include "framework/base/parallel_for.h"

namespace lexring::cpu {
namespace {

using namespace simd;

constexpr std::int64_t depth_block = 384;           // a panel of B of this depth stays in the first cache
constexpr std::int64_t task_rows = 16 * row_block;  // of this depth, they fit the second cache
constexpr std::int64_t stretch_columns = 512;       // of B, packed at a time
constexpr std::int64_t stretch_elements = 4 << 20;  // 16 MiB
constexpr std::int64_t longest_depth = 8192;        // of B, packed at a time, where results can be added up in f32
constexpr std::int64_t tasks_per_thread = 4;

constexpr std::int64_t parts(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

/// A stored matrix as an operand X [rows, depth] of a product: X(i, w) is at data[i * row_step + w * depth_step]; one
/// of the steps is 1.
template <class T>
struct Operand {
  const T* data;
  std::int64_t row_step, depth_step;

  Operand(const Columns& stored, bool depth_is_inner)
      : data(stored.data<T>()),
        row_step(depth_is_inner ? stored.stride() : 1),
        depth_step(depth_is_inner ? 1 : stored.stride()) {}
};

/// to[w * Width + i] = X(first_row + i, first + w) for `count` rows, zeros for the others of Width.
template <std::int64_t Width, class T>
void pack(const Operand<T>& x, std::int64_t first_row, std::int64_t count, std::int64_t first, std::int64_t depth,
          float* to) {
  const T* from = x.data + first_row * x.row_step + first * x.depth_step;
  if (count < Width) std::fill(to, to + Width * depth, 0.0F);
  constexpr std::int64_t together = 16;  // so many lines of `to` stay in the first cache while every row adds to them
  for (std::int64_t first_w = 0; first_w < depth; first_w += together) {
    const std::int64_t last_w = std::min(first_w + together, depth);
    if (x.row_step == 1 && count == Width) {
      for (std::int64_t w = first_w; w < last_w; ++w) {
        for (std::int64_t i = 0; i < Width; ++i) to[w * Width + i] = static_cast<float>(from[w * x.depth_step + i]);
      }
      continue;
    }
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t w = first_w; w < last_w; ++w)
        to[w * Width + i] = static_cast<float>(from[i * x.row_step + w * x.depth_step]);
    }
  }
}

/// Where a block of results is gathered: in c itself, or in working memory that result.write() empties.
struct Sums {
  float* data;
  std::int64_t stride;
  bool accumulate;  ///< to what is there
};

struct Result {
  const Columns& c;
  const Tensor& bias;  ///< no bias: undefined
  bool accumulate;

  bool gathers() const { return c.dtype() == Dtype::f32; }
  /// Rows and columns of c as they are before the product is added: with the bias.
  Sums place(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) const {
    if (columns == 0) return {};
    float* const first = c.data<float>() + row * c.stride() + column;
    for (std::int64_t r = 0; bias.defined() && r < rows; ++r) {
      float* out = first + r * c.stride();
      for_lanes(columns, [&](std::int64_t i, std::int64_t n) {
        const f32v x = load(bias.data<float>() + column + i, n);
        store(out + i, accumulate ? x + load(out + i, n) : x, n);
      });
    }
    return {first, c.stride(), accumulate || bias.defined()};
  }
  /// Rows and columns of c from sums [.., stride].
  void write(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns, const float* sums,
             std::int64_t stride) const {
    with_type(c.dtype(), [&]<class T>(Type<T>) {
      const float* added = bias.defined() ? bias.data<float>() + column : nullptr;
      for (std::int64_t r = 0; r < rows; ++r) {
        T* out = c.data<T>() + (row + r) * c.stride() + column;
        for_lanes(columns, [&](std::int64_t i, std::int64_t n) {
          f32v x = load(sums + r * stride + i);
          if (added) x += load(added + i, n);
          if (accumulate) x += load(out + i, n);
          store(out + i, x, n);
        });
      }
    });
  }
};

/// Some rows of A, at some depth, as tiles read them: where they are, if they are f32 and lie along the depth, else
/// packed.
template <class T>
class LeftBlock {
 public:
  LeftBlock(const Operand<T>& a, std::int64_t row, std::int64_t rows, std::int64_t first, std::int64_t depth,
            float* memory)
      : rows_(rows) {
    if constexpr (std::is_same_v<T, float>) {
      if (a.depth_step == 1) {
        at_ = a.data + row * a.row_step + first, row_step_ = a.row_step, word_step_ = 1,
        tile_step_ = row_block * a.row_step;
        return;
      }
    }
    for (std::int64_t r = 0; r < rows; r += row_block) {
      pack<row_block>(a, row + r, std::min<std::int64_t>(row_block, rows - r), first, depth, memory + r * depth);
    }
    at_ = memory, row_step_ = 1, word_step_ = row_block, tile_step_ = row_block * depth;
  }

  /// sums [rows, panel_width] = (or +=) A times a panel of B.
  void times(const float* panel, std::int64_t depth, float* sums, std::int64_t stride, bool accumulate) const {
    Left<float> left{at_, row_step_, word_step_};
    for (std::int64_t r = 0; r < rows_; r += row_block, left.data += tile_step_) {
      panel_product<float, panel_vectors>(std::min<std::int64_t>(row_block, rows_ - r), left, panel, sums + r * stride,
                                          stride, depth, accumulate);
    }
  }

 private:
  std::int64_t rows_, row_step_, word_step_, tile_step_;
  const float* at_;
};

/// Rows of A against columns of B that are packed in panels [panel_width columns][depth].
template <class T>
void block_product(const Operand<T>& a, std::int64_t row, std::int64_t rows, const float* panels,
                   std::int64_t first_panel, std::int64_t last_panel, std::int64_t first_depth, std::int64_t depth,
                   float* packed_a, const Sums& sums) {
  const std::int64_t blocks = parts(depth, depth_block);
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t w = depth * block / blocks, deep = depth * (block + 1) / blocks - w;
    const LeftBlock<T> left(a, row, rows, first_depth + w, deep, packed_a);
    for (std::int64_t p = first_panel; p < last_panel; ++p) {
      left.times(panels + (p * depth + w) * panel_width, deep, sums.data + (p - first_panel) * panel_width, sums.stride,
                 sums.accumulate || block > 0);
    }
  }
}

/// The product over the depth [first_depth, first_depth + depth).
template <class T>
void product_of_depth(const Operand<T>& a, const Operand<T>& b, std::int64_t first_depth, std::int64_t depth,
                      const Result& result) {
  Runtime& runtime = result.c.matrix.runtime();
  const std::int64_t m = result.c.rows(), n = result.c.width;
  const std::int64_t widest = std::clamp(stretch_elements / depth, panel_width, stretch_columns),
                     stretches = parts(n, widest);
  const std::int64_t width = parts(parts(n, stretches), panel_width) * panel_width, row_blocks = parts(m, task_rows);
  const Tensor packed(runtime, {width * depth}, Dtype::f32);
  float* panels = packed.data<float>();
  for (std::int64_t column = 0; column < n; column += width) {
    const std::int64_t columns = std::min(width, n - column), panel_count = parts(columns, panel_width);
    parallel_for(0, panel_count, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t p = first; p < last; ++p) {
        pack<panel_width>(b, column + p * panel_width, std::min(panel_width, columns - p * panel_width), first_depth,
                          depth, panels + p * depth * panel_width);
      }
    });
    const std::int64_t groups =
        std::clamp<std::int64_t>(parts(tasks_per_thread * parallel_threads(), row_blocks), 1, panel_count);
    parallel_tasks(row_blocks * groups, [&, purpose = MemoryPurpose::current()](std::int64_t task) {
      const MemoryPurpose same(purpose);
      const std::int64_t row = task / groups * task_rows, rows = std::min(task_rows, m - row), group = task % groups;
      const std::int64_t first = panel_count * group / groups, last = panel_count * (group + 1) / groups;
      // Whole panels of an f32 result are gathered where they belong.
      const std::int64_t direct = result.gathers() ? std::clamp(columns / panel_width, first, last) : first,
                         stride = (last - direct) * panel_width;
      const Tensor memory(runtime, {task_rows * (depth_block + stride)}, Dtype::f32);
      float *packed_a = memory.data<float>(), *sums = packed_a + task_rows * depth_block;
      const auto product = [&](std::int64_t from, std::int64_t to, const Sums& where) {
        if (from < to) block_product(a, row, rows, panels, from, to, first_depth, depth, packed_a, where);
      };
      product(first, direct, result.place(row, rows, column + first * panel_width, (direct - first) * panel_width));
      product(direct, last, {sums, stride, false});
      result.write(row, rows, column + direct * panel_width, std::min(stride, columns - direct * panel_width), sums,
                   stride);
    });
  }
}

}  // namespace

void packed_product(const Columns& a, Layout a_layout, const Columns& b, Layout b_layout, const Tensor& bias,
                    const Columns& c, bool accumulate) {
  const std::int64_t k = a_layout == Layout::rows ? a.width : a.rows();
  if (c.rows() == 0 || c.width == 0 || k == 0) return;
  const std::int64_t deepest = c.dtype() == Dtype::f32 ? longest_depth : k;
  with_type(a.dtype(), [&]<class T>(Type<T>) {
    const Operand<T> left(a, a_layout == Layout::rows);
    const Operand<T> right(b, b_layout == Layout::columns);
    for (std::int64_t first = 0; first < k; first += deepest) {
      product_of_depth(left, right, first, std::min(deepest, k - first),
                       {c, first == 0 ? bias : Tensor(), accumulate || first > 0});
    }
  });
}

}  // namespace lexring::cpu
