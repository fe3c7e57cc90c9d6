#include "parallel/tensor/whole_tensor.h"

#include <cstring>
#include <limits>
#include <span>

#include "framework/base/error.h"

namespace lexring {
namespace {

/// Offset, shape and values of a part as bytes.
std::vector<std::byte> pack(const Parameter& parameter, const Tensor& part) {
  std::vector<double> values;
  if (part.dtype() == Dtype::f64) {
    values = part.to_host<double>();
  } else {
    const std::vector<float> narrow = part.to_host<float>();
    values.assign(narrow.begin(), narrow.end());
  }
  std::vector<std::int64_t> place = parameter.offset;
  place.insert(place.end(), part.shape().begin(), part.shape().end());
  std::vector<std::byte> bytes(place.size() * sizeof(std::int64_t) + values.size() * sizeof(double));
  std::memcpy(bytes.data(), place.data(), place.size() * sizeof(std::int64_t));
  if (!values.empty())
    std::memcpy(bytes.data() + place.size() * sizeof(std::int64_t), values.data(), values.size() * sizeof(double));
  return bytes;
}

/// Copies a part's rows into the whole; a vector is one row.
void put(const Shape& full, const std::vector<std::byte>& bytes, std::vector<double>& whole) {
  const std::size_t dims = full.size(), header = 2 * dims * sizeof(std::int64_t);
  std::vector<std::int64_t> numbers(2 * dims);
  std::memcpy(numbers.data(), bytes.data(), header);
  const std::int64_t full_columns = full.back(), columns = numbers.back(), first_column = numbers[dims - 1];
  const std::int64_t rows = dims == 2 ? numbers[dims] : 1, first_row = dims == 2 ? numbers[0] : 0;
  for (std::int64_t r = 0; r < rows && columns > 0; ++r) {
    std::memcpy(whole.data() + (first_row + r) * full_columns + first_column,
                bytes.data() + header + static_cast<std::size_t>(r * columns) * sizeof(double),
                static_cast<std::size_t>(columns) * sizeof(double));
  }
}

}  // namespace

std::vector<double> whole_tensor(const Parameter& parameter, const Tensor& part, Communicator& tp) {
  const Shape& full = parameter.full_shape;
  require(full.size() == 1 || full.size() == 2, "{} has {} dimensions; only vectors and matrices can be put together",
          parameter.name, full.size());
  std::vector<double> whole(static_cast<std::size_t>(element_count(full)), std::numeric_limits<double>::quiet_NaN());
  for (const std::vector<std::byte>& bytes : tp.all_gather(pack(parameter, part))) put(full, bytes, whole);
  return whole;
}

std::vector<double> own_part(const Parameter& parameter, const std::vector<double>& whole) {
  const Shape &full = parameter.full_shape, &shape = parameter.value.shape();
  require(static_cast<std::int64_t>(whole.size()) == element_count(full), "{} has {} elements, not {}", parameter.name,
          element_count(full), whole.size());
  std::vector<double> part;
  part.reserve(static_cast<std::size_t>(element_count(shape)));
  const std::int64_t rows = full.size() == 2 ? shape[0] : 1, first_row = full.size() == 2 ? parameter.offset[0] : 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto begin = whole.begin() + (first_row + r) * full.back() + parameter.offset.back();
    part.insert(part.end(), begin, begin + shape.back());
  }
  return part;
}

}  // namespace lexring
