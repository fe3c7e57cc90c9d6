#include "framework/tensor/tensor.h"

#include <functional>
#include <numeric>

#include <fmt/format.h>

namespace lexring {

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    require(!__builtin_mul_overflow(count, size, &count), "a tensor of shape {} has more elements than can be counted",
            to_string(shape));
  }
  return count;
}

Tensor::Tensor(Runtime& runtime, Shape shape, Dtype dtype)
    : runtime_(&runtime), shape_(std::move(shape)), elements_(element_count(shape_)), dtype_(dtype) {
  for (std::int64_t size : shape_) require(size >= 0, "a tensor cannot have shape {}", to_string(shape_));
  data_ = runtime.allocate(bytes());
}

std::int64_t Tensor::row_elements() const {
  return shape_.empty() ? 1 : std::accumulate(shape_.begin() + 1, shape_.end(), std::int64_t{1}, std::multiplies<>());
}

Tensor Tensor::slice(std::int64_t first, std::int64_t count) const {
  require(!shape_.empty() && first >= 0 && count >= 0 && first + count <= shape_[0],
          "rows [{}, {}) are not in a tensor of shape {}", first, first + count, to_string(shape_));
  Tensor view = *this;
  view.shape_[0] = count;
  view.elements_ = count * row_elements();
  const auto offset = static_cast<std::size_t>(first * row_elements()) * size_of(dtype_);
  view.data_ = std::shared_ptr<std::byte>(data_, data_.get() + offset);
  return view;
}

Tensor Tensor::reshape(Shape shape) const {
  require(element_count(shape) == elements_, "a tensor of shape {} cannot be seen as {}", to_string(shape_),
          to_string(shape));
  Tensor view = *this;
  view.shape_ = std::move(shape);
  return view;
}

void require_same_columns(const Columns& x, const Columns& y) {
  require(x.rows() == y.rows() && x.width == y.width && x.dtype() == y.dtype(),
          "columns [{}, {}] {} do not fit columns [{}, {}] {}", x.rows(), x.width, name_of(x.dtype()), y.rows(),
          y.width, name_of(y.dtype()));
}

}  // namespace lexring
