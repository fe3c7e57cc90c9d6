#include "framework/backend/cuda/matmul.h"
#include "framework/backend/cuda/gpu.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {

struct MatrixProducts::Implementation {
  Gpu gpu;
};

MatrixProducts::MatrixProducts(const Gpu& gpu, F32Products /*f32*/)
    : implementation_(std::make_unique<Implementation>(Implementation{gpu})) {}
MatrixProducts::~MatrixProducts() = default;

namespace {

void multiply(const Columns& a, Layout a_layout, const Columns& b, Layout b_layout, const Columns& y, bool accumulate) {
  const emulated::Inside inside;
  const std::int64_t rows = y.rows(), columns = y.width, inner = a_layout == Layout::rows ? a.width : a.rows();
  with_types(a.dtype(), y.dtype(), [&]<class T, class U>(Type<T>, Type<U>) {
    const auto at = [](const Columns& x, Layout layout, std::int64_t row, std::int64_t column) {
      return static_cast<float>(
          x.data<T>()[layout == Layout::rows ? row * x.stride() + column : column * x.stride() + row]);
    };
    for (std::int64_t n = 0; n < rows; ++n)
      for (std::int64_t o = 0; o < columns; ++o) {
        float sum = 0;
        for (std::int64_t i = 0; i < inner; ++i) sum += at(a, a_layout, n, i) * at(b, b_layout, i, o);
        U& result = y.data<U>()[n * y.stride() + o];
        result = U(accumulate ? static_cast<float>(result) + sum : sum);
      }
  });
}

}  // namespace

void MatrixProducts::product(const Columns& a, Layout a_layout, const Columns& b, Layout b_layout, const Tensor& bias,
                             const Columns& y, bool accumulate) {
  multiply(a, a_layout, b, b_layout, y, accumulate);
  if (bias.defined()) add_bias(implementation_->gpu, bias, y.matrix);
}

}  // namespace lexring::cuda
