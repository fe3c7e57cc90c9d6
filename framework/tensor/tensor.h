/// A tensor: contiguous storage, shape, dtype, device. A value that shares its storage; no maths, no gradients.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "framework/base/error.h"
#include "framework/device/runtime.h"
#include "framework/tensor/dtype.h"

namespace lexring {

using Shape = std::vector<std::int64_t>;

std::string to_string(const Shape& shape);       ///< "[8, 1024]"
std::int64_t element_count(const Shape& shape);  ///< product of the sizes; 1 for a scalar []

/// Copies share storage (shallow, also through const). A default-constructed tensor is undefined: it holds nothing and
/// means "absent" wherever a header says a tensor may be.
class Tensor {
 public:
  Tensor() = default;
  /// Uninitialised (NaN in debug builds). Sizes may be 0.
  Tensor(Runtime& runtime, Shape shape, Dtype dtype);

  bool defined() const { return runtime_ != nullptr; }
  const Shape& shape() const { return shape_; }
  std::int64_t dim(std::size_t index) const { return shape_.at(index); }
  std::int64_t rows() const { return shape_.empty() ? 1 : shape_[0]; }
  /// Elements of one row: the product of all sizes but the first.
  std::int64_t row_elements() const;
  std::int64_t elements() const { return elements_; }
  std::size_t bytes() const { return static_cast<std::size_t>(elements_) * size_of(dtype_); }
  Dtype dtype() const { return dtype_; }
  Runtime& runtime() const { return *runtime_; }

  /// The first element; T must be the tensor's dtype (checked). On a CUDA device not to be dereferenced by the host.
  template <class T>
  T* data() const {
    require(dtype_ == dtype_of<T>, "a tensor of {} was read as {}", name_of(dtype_), name_of(dtype_of<T>));
    return reinterpret_cast<T*>(data_.get());
  }
  std::byte* raw() const { return data_.get(); }

  /// A view of rows [first, first + count): the only cut there is, because it stays contiguous.
  Tensor slice(std::int64_t first, std::int64_t count) const;
  /// The same elements under another shape of the same count.
  Tensor reshape(Shape shape) const;

  /// Copies of host memory, for input, output and tests.
  template <class T>
  static Tensor from(Runtime& runtime, Shape shape, const std::vector<T>& values) {
    Tensor t(runtime, std::move(shape), dtype_of<T>);
    require(static_cast<std::int64_t>(values.size()) == t.elements(), "{} values do not fill a tensor of shape {}",
            values.size(), to_string(t.shape()));
    runtime.copy_from_host(t.raw(), reinterpret_cast<const std::byte*>(values.data()), t.bytes());
    return t;
  }
  template <class T>
  std::vector<T> to_host() const {
    std::vector<T> values(static_cast<std::size_t>(elements_));
    runtime_->copy_to_host(reinterpret_cast<std::byte*>(values.data()), reinterpret_cast<const std::byte*>(data<T>()),
                           bytes());
    return values;
  }

 private:
  Runtime* runtime_ = nullptr;
  std::shared_ptr<std::byte> data_;
  Shape shape_;
  std::int64_t elements_ = 0;
  Dtype dtype_ = Dtype::f32;
};

/// Columns [first, first + width) of a matrix [N, W]: a row-strided view, so that query, key and value may be parts of
/// one product.
struct Columns {
  Tensor matrix;
  std::int64_t first = 0;
  std::int64_t width = 0;

  Columns() = default;
  /// All columns of a tensor, seen as [rows, row_elements].
  // NOLINTNEXTLINE(google-explicit-constructor)
  Columns(const Tensor& whole) : matrix(whole), width(whole.defined() ? whole.row_elements() : 0) {}
  Columns(Tensor of, std::int64_t first_column, std::int64_t columns)
      : matrix(std::move(of)), first(first_column), width(columns) {}

  std::int64_t rows() const { return matrix.rows(); }
  std::int64_t stride() const { return matrix.row_elements(); }
  Dtype dtype() const { return matrix.dtype(); }
  template <class T>
  T* data() const {
    return matrix.data<T>() + first;
  }
};

/// Throws Error unless both have the same rows, width and dtype.
void require_same_columns(const Columns& x, const Columns& y);

}  // namespace lexring
